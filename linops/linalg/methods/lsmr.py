"""`LSMR`: least squares by products with A and Aᴴ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from linops.linalg.methods.iterative import Iterative
from linops.linalg.methods.loop import System
from linops.operator import LinearOperator


class _State(NamedTuple):
    x: Any
    z: Any  # what is added to x, before the preconditioner
    r: Any
    u: Any
    v: Any
    h: Any
    h_image: Any  # A h
    g: Any  # h with a bar in the paper
    g_image: Any
    alpha: Any
    alphabar: Any
    zetabar: Any
    rho: Any
    rhobar: Any
    cosine: Any
    sine: Any
    share: Any  # of h in the next
    norm: Any


@dataclass(frozen=True)
class LSMR(Iterative):
    """Least ‖Aᴴ r‖ in the Krylov space of AᴴA, by bidiagonalisation; any shape. It has no breakdown.

    Of consistent equations it finds the solution of least norm, from x = 0 and without a preconditioner.
    `lo.linalg.lstsq` makes least squares of two of these, one after the other.

    Attributes:
        rtol: It stops at ‖b − A x‖ ≤ max(rtol ‖b‖, atol); None is 1e-10 in double precision and 1e-5 in single.
        atol: See rtol.
        max_iterations: The most iterations, of `lstsq` those of both together; None is 10 n, there for each.
        preconditioner: An approximate inverse: an operator, or what makes one of A.
        callback: Called with the number of iterations and the norms of residuals after each.
        damp: Of `lstsq` and `pinv`: the d of least ‖b − A x‖² + d² ‖x‖² (Tikhonov), for problems that are ill-posed.

    Cost: a product with A and one with Aᴴ an iteration, and two with the preconditioner.

    Source: Fong and Saunders, LSMR, 2011.

    Example:
        >>> import linops as lo, numpy as np
        >>> lo.linalg.solve(np.array([[2., 1.], [0., 1.]]), np.array([3., 1.]), lo.linalg.LSMR()).round(6)
        array([1., 1.])
    """

    damp: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.damp >= 0:
            raise ValueError(f"LSMR: damp must not be negative, got {self.damp!r}")

    def admit(self, A: LinearOperator) -> None:
        """Not to solve equations, where it is damped."""
        if self.damp:
            raise ValueError(f"{self}: damp makes least squares of equations; lo.linalg.lstsq and pinv take it")

    def begin(self, system: System, x: Any, r: Any, norm: Any) -> _State:
        """The first vectors on both sides."""
        u = _over(system, r, norm)
        v = system.adjoint(u)
        alpha = system.norm(v)
        v = _over(system, v, alpha)
        zero, one = 0 * norm, 0 * norm + 1
        g, image = 0 * v, 0 * u
        return _State(x, g, r, u, v, g, image, g, image, alpha, alpha, alpha * norm, one, one, one, zero, zero, norm)

    def advance(self, system: System, state: _State, step: Any, going: Any) -> _State:
        """A step of bidiagonalisation, and of the rotations that solve for its coefficients."""
        space, s = system.space, state
        image = system.product(system.preconditioned(s.v))
        h, h_image = s.v - s.share * s.h, image - s.share * s.h_image
        u = image - s.alpha * s.u
        beta = system.norm(u)
        u = _over(system, u, beta)
        v = system.adjoint(u) - beta * s.v
        alpha = system.norm(v)
        v = _over(system, v, alpha)

        rho = space.hypot(s.alphabar, beta)
        theta = beta / rho * alpha
        bar = s.sine * rho
        rhobar = space.hypot(s.cosine * rho, theta)
        cosine, sine = s.cosine * rho / rhobar, theta / rhobar
        zeta = cosine * s.zetabar
        share = bar * rho / (s.rho * s.rhobar)
        g, g_image = h - share * s.g, h_image - share * s.g_image
        length = zeta / (rho * rhobar)
        r = s.r - length * g_image
        return _State(
            s.x,
            s.z + length * g,
            r,
            u,
            v,
            h,
            h_image,
            g,
            g_image,
            alpha,
            s.alphabar / rho * alpha,
            -sine * s.zetabar,
            rho,
            rhobar,
            cosine,
            sine,
            theta / rho,
            system.norm(r),
        )

    def end(self, system: System, state: _State) -> Any:
        """The iterates."""
        return state.x + system.preconditioned(state.z)


def _over(system: System, x: Any, norm: Any) -> Any:
    """Columns divided by their norms, those of zero left."""
    return x / system.space.where(norm > 0, norm, 1)
