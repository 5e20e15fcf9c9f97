"""`CG`: conjugate gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from linops.linalg.methods.iterative import Iterative
from linops.linalg.methods.loop import System
from linops.linalg.spectra import is_hermitian
from linops.operator import LinearOperator


class _State(NamedTuple):
    x: Any
    r: Any
    p: Any
    rho: Any
    norm: Any


@dataclass(frozen=True)
class CG(Iterative):
    """Conjugate gradients, of an operator known to be Hermitian, and to be positive definite.

    Where it is Hermitian alone the iteration may break down, and `ConvergenceError` says so; `MINRES` does not.

    Attributes:
        rtol: It stops at ‖b − A x‖ ≤ max(rtol ‖b‖, atol); None is 1e-10 in double precision and 1e-5 in single.
        atol: See rtol.
        max_iterations: The most iterations; None is 10 n.
        preconditioner: A positive definite approximate inverse: an operator, or what makes one of A.
        callback: Called with the number of iterations and the norms of residuals after each.

    Cost: a product with A an iteration, and one with the preconditioner.

    Source: Hestenes and Stiefel, 1952.

    Example:
        >>> import linops as lo, numpy as np
        >>> A = lo.assume(lo.Dense(np.array([[2., 1.], [1., 2.]])), lo.Tag.POSITIVE_DEFINITE)
        >>> lo.linalg.solve(A, np.array([3., 3.]), lo.linalg.CG())
        array([1., 1.])
    """

    def admit(self, A: LinearOperator) -> None:
        """Raise ValueError where it is not known to be Hermitian."""
        require_hermitian(self, A, "POSITIVE_DEFINITE")

    def begin(self, system: System, x: Any, r: Any, norm: Any) -> _State:
        """The first direction."""
        z = system.preconditioned(r)
        return _State(x, r, z, system.real_dot(r, z), norm)

    def advance(self, system: System, state: _State, step: Any, going: Any) -> _State:
        """A step along the direction, and the next one."""
        x, r, p, rho, _ = state
        q = system.product(p)
        alpha = rho / system.real_dot(p, q)
        x, r = x + alpha * p, r - alpha * q
        z = system.preconditioned(r)
        after = system.real_dot(r, z)
        norm = system.space.sqrt(after) if z is r else system.norm(r)
        return _State(x, r, z + (after / rho) * p, after, norm)


def require_hermitian(method: Iterative, A: LinearOperator, tag: str) -> None:
    """Raise where an operator is not known to be Hermitian."""
    if not is_hermitian(A):
        raise ValueError(
            f"{method}: {A._short()} is not known to be Hermitian. Where it is, say so: lo.assume(A, lo.Tag.{tag}); "
            "lo.linalg.GMRES() takes any operator"
        )
