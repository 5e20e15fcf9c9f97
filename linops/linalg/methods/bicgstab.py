"""`BiCGStab`: stabilised biconjugate gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from linops.linalg.methods.iterative import Iterative
from linops.linalg.methods.loop import System


class _State(NamedTuple):
    x: Any
    r: Any
    shadow: Any
    p: Any
    v: Any
    rho: Any
    alpha: Any
    omega: Any
    norm: Any


@dataclass(frozen=True)
class BiCGStab(Iterative):
    """Stabilised biconjugate gradients, of any square operator: few vectors are kept, but it may break down.

    Attributes:
        rtol: It stops at ‖b − A x‖ ≤ max(rtol ‖b‖, atol); None is 1e-10 in double precision and 1e-5 in single.
        atol: See rtol.
        max_iterations: The most iterations; None is 10 n.
        preconditioner: An approximate inverse: an operator, or what makes one of A.
        callback: Called with the number of iterations and the norms of residuals after each.

    Cost: two products with A an iteration, and two with the preconditioner.

    Source: van der Vorst, Bi-CGSTAB, 1992.

    Example:
        >>> import linops as lo, numpy as np
        >>> lo.linalg.solve(np.array([[2., 1.], [0., 1.]]), np.array([3., 1.]), lo.linalg.BiCGStab()).round(6)
        array([1., 1.])
    """

    def begin(self, system: System, x: Any, r: Any, norm: Any) -> _State:
        """The residual as its own shadow."""
        one = system.dot(r, r) * 0 + 1
        return _State(x, r, r, 0 * r, 0 * r, one, one, one, norm)

    def advance(self, system: System, state: _State, step: Any, going: Any) -> _State:
        """Half a step of biconjugate gradients, and half a step of least residual."""
        x, r, shadow, p, v, before, alpha, omega, _ = state
        rho = system.dot(shadow, r)
        p = r + (rho / before) * (alpha / omega) * (p - omega * v)
        direction = system.preconditioned(p)
        v = system.product(direction)
        alpha = rho / system.dot(shadow, v)
        s = r - alpha * v
        second = system.preconditioned(s)
        t = system.product(second)
        square = system.dot(t, t)
        is_there = system.norm(s) <= system.tolerance  # after the first half
        omega = system.space.where(is_there, 0 * square, system.dot(t, s) / square)
        x = x + alpha * direction + omega * second
        r = s - omega * t
        return _State(x, r, shadow, p, v, rho, alpha, omega, system.norm(r))
