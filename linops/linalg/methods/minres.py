"""`MINRES`: the least residual of a Hermitian operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from linops.linalg.methods.cg import require_hermitian
from linops.linalg.methods.iterative import Iterative
from linops.linalg.methods.loop import System
from linops.operator import LinearOperator


class _State(NamedTuple):
    x: Any
    r: Any
    y: Any  # M u: the next direction, unscaled
    u: Any  # the next Lanczos vector, unscaled
    before: Any  # and the one before
    w: Any
    w_before: Any
    beta: Any
    beta_before: Any
    cosine: Any
    sine: Any
    dbar: Any
    epsilon: Any
    phibar: Any
    norm: Any


@dataclass(frozen=True)
class MINRES(Iterative):
    """The least residual in the Krylov space of an operator known to be Hermitian, definite or not.

    Attributes:
        rtol: It stops at ‖b − A x‖ ≤ max(rtol ‖b‖, atol); None is 1e-10 in double precision and 1e-5 in single.
        atol: See rtol.
        max_iterations: The most iterations; None is 10 n.
        preconditioner: A positive definite approximate inverse: an operator, or what makes one of A.
        callback: Called with the number of iterations and the norms of residuals after each.

    Cost: a product with A an iteration, and one with the preconditioner.

    Source: Paige and Saunders, Solution of sparse indefinite systems of linear equations, 1975.

    Example:
        >>> import linops as lo, numpy as np
        >>> A = lo.assume(lo.Dense(np.array([[0., 1.], [1., 0.]])), lo.Tag.SYMMETRIC)
        >>> lo.linalg.solve(A, np.array([1., 2.]), lo.linalg.MINRES()).round(12)
        array([2., 1.])
    """

    def admit(self, A: LinearOperator) -> None:
        """Raise ValueError where it is not known to be Hermitian."""
        require_hermitian(self, A, "HERMITIAN")

    def begin(self, system: System, x: Any, r: Any, norm: Any) -> _State:
        """The first Lanczos vector."""
        y = system.preconditioned(r)
        beta = system.space.sqrt(system.real_dot(r, y))
        zero, one = 0 * beta, 0 * beta + 1
        return _State(x, r, y, r, 0 * r, 0 * x, 0 * x, beta, one, -one, zero, zero, zero, beta, norm)

    def advance(self, system: System, state: _State, step: Any, going: Any) -> _State:
        """A step of Lanczos, and of the rotations that solve for its coefficients."""
        space, s = system.space, state
        v = s.y / s.beta
        u = system.product(v) - (s.beta / s.beta_before) * s.before
        alpha = system.real_dot(v, u)
        u = u - (alpha / s.beta) * s.u
        y = system.preconditioned(u)
        beta = space.sqrt(system.real_dot(u, y))
        delta = s.cosine * s.dbar + s.sine * alpha
        gbar = s.sine * s.dbar - s.cosine * alpha
        epsilon, dbar = s.sine * beta, -s.cosine * beta
        gamma = space.hypot(gbar, beta)
        cosine, sine = gbar / gamma, beta / gamma
        w = (v - s.epsilon * s.w_before - delta * s.w) / gamma
        x = s.x + (cosine * s.phibar) * w
        phibar = sine * s.phibar
        r = sine**2 * s.r - (phibar * cosine / space.where(beta > 0, beta, 1)) * u
        return _State(x, r, y, u, s.u, w, s.w, beta, s.beta, cosine, sine, dbar, epsilon, phibar, system.norm(r))
