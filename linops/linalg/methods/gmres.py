"""`GMRES`: the least residual of any operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.methods.iterative import Iterative
from linops.linalg.methods.loop import System


class _State(NamedTuple):
    x: Any
    basis: Any  # (k, restart + 1, n): orthonormal rows, zeros where there are none yet
    rotations: Any  # (k, restart + 1, restart + 1): the product of all rotations
    triangle: Any  # (k, restart + 1, restart): what they make of the Hessenberg matrix
    first: Any
    norm: Any


@dataclass(frozen=True)
class GMRES(Iterative):
    """The least residual in the Krylov space of any square operator, begun again after `restart` iterations.

    A preconditioner is applied on the right, so that residuals are those of A x = b.

    Attributes:
        rtol: It stops at ‖b − A x‖ ≤ max(rtol ‖b‖, atol); None is 1e-10 in double precision and 1e-5 in single.
        atol: See rtol.
        max_iterations: The most iterations, those before and after restarts together; None is 10 n.
        preconditioner: An approximate inverse: an operator, or what makes one of A.
        callback: Called with the number of iterations and the norms of residuals after each.
        restart: After how many iterations to begin again from the residual.

    Cost: a product with A an iteration, one with the preconditioner, and 4 j n MACs in the j-th after a restart;
    restart + 1 vectors are kept for each right-hand side.

    Source: Saad and Schultz, GMRES, 1986; orthogonalised twice by classical Gram–Schmidt.

    Example:
        >>> import linops as lo, numpy as np
        >>> lo.linalg.solve(np.array([[0., 1.], [2., 0.]]), np.array([1., 2.]), lo.linalg.GMRES()).round(12)
        array([1., 1.])
    """

    restart: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.restart < 1:
            raise ValueError(f"GMRES: restart must be positive, got {self.restart!r}")

    def length(self, n: int, limit: int) -> int:
        """As many as there are vectors for."""
        return min(self.restart, n)

    def begin(self, system: System, x: Any, r: Any, norm: Any) -> _State:
        """The residual as the first vector."""
        (n, k), length = r.shape, self.length(r.shape[0], 0)
        basis = backends.zeros(r, (k, length + 1, n), r.dtype)
        basis = lapack.put(basis, 1, 0, (r / system.space.where(norm > 0, norm, 1)).T)
        rotations = backends.zeros(r, (k, length + 1, length + 1), r.dtype) + backends.eye(r, length + 1, r.dtype)
        return _State(x, basis, rotations, backends.zeros(r, (k, length + 1, length), r.dtype), norm, norm)

    def advance(self, system: System, state: _State, step: Any, going: Any) -> _State:
        """The next vector, orthogonal to those before, and the rotation that its coefficients need."""
        space, (x, basis, rotations, triangle, first, _) = system.space, state
        w = system.product(system.preconditioned(basis[:, step].T))
        w = space.where(going, w, 0 * w).T
        before = _row_norm(system, w)
        known = basis[:, : step + 1] if isinstance(step, int) else basis  # where it is compiled the others are zeros
        w, one = _orthogonal(known, w)
        w, two = _orthogonal(known, w)
        after = _row_norm(system, w)
        after = space.where(after <= space.finfo(w.dtype).eps * before, 0 * after, after)
        w = space.where(after > 0, (w.T / space.where(after > 0, after, 1)), 0 * w.T).T
        basis = lapack.put(basis, 1, step + 1, w)

        column = (rotations[:, :, : known.shape[1]] @ (one + two))[:, :, 0] + rotations[:, :, step + 1] * after[:, None]
        a, b = column[:, step], column[:, step + 1]
        size = space.hypot(space.abs(a), space.abs(b))
        safe = space.where(size > 0, size, 1)
        a, b = space.where(size > 0, a / safe, 1)[:, None], space.where(size > 0, b / safe, 0)[:, None]
        upper, lower = rotations[:, step], rotations[:, step + 1]
        upper, lower = backends.conj(a) * upper + backends.conj(b) * lower, a * lower - b * upper
        rotations = lapack.put(lapack.put(rotations, 1, step, upper), 1, step + 1, lower)
        column = lapack.put(lapack.put(column, 1, step, size), 1, step + 1, 0 * size)
        triangle = lapack.put(triangle, 2, step, column)
        return _State(x, basis, rotations, triangle, first, first * space.abs(lower[:, 0]))

    def keep(self, kept: Any, new: _State, old: _State) -> _State:
        """All but norms: columns that are not going get vectors of zeros, and so no share of later ones."""
        space: Any = backends.namespace(backends.backend_of(kept))
        return new._replace(norm=space.where(kept, new.norm, old.norm))

    def end(self, system: System, state: _State) -> Any:
        """The iterates of least residual."""
        space, length = system.space, state.triangle.shape[2]
        right = state.rotations[:, :length, 0] * state.first[:, None]
        upper = state.triangle[:, :length]
        one = backends.eye(right, length, right.dtype)
        there = (upper * one).sum(1) != 0
        upper = upper + one * space.where(there, 0, 1)[:, None, :]
        y = lapack.solve(upper, space.where(there, right, 0 * right)[:, :, None])[:, :, 0]
        return state.x + system.preconditioned((y[:, None, :] @ state.basis[:, :length])[:, 0].T)


def _orthogonal(known: Any, w: Any) -> tuple[Any, Any]:
    """Rows w without their parts along known ones, and the coefficients of these, (k, j, 1)."""
    found = backends.conj(known @ backends.conj(w)[:, :, None])
    return w - (backends.permute(found, (0, 2, 1)) @ known)[:, 0], found


def _row_norm(system: System, w: Any) -> Any:
    return system.norm(w.T)
