"""Preconditioners of low rank: pivoted Cholesky and Nyström, of positive definite operators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.preconditioners import Preconditioner, columns_of, require_definite, require_positive
from linops.linalg.spectra import real_part, scalar_of, split_shift
from linops.linalg.traces import diagonal_
from linops.operator import LinearOperator, assume, flat
from linops.operators.diagonal import Diagonal
from linops.operators.identity import Identity
from linops.operators.low_rank import LowRank
from linops.operators.sum import Sum
from linops.tags import Tag


@dataclass(frozen=True)
class PivotedCholesky(Preconditioner):
    """Cholesky elimination of the rows of largest diagonal, and of what is left the diagonal; of a positive definite A.

    Of a sum c I + X it is that of X, with c beside what is left.

    Attributes:
        rank: How many rows.

    Cost: rank products with one vector, and n rank² MACs once; 4 n rank a vector.

    Source: Harbrecht, Peters and Schneider, On the low-rank approximation by the pivoted Cholesky decomposition, 2012.

    Raises:
        ValueError: If A is not known to be Hermitian.

    Example:
        >>> import linops as lo, numpy as np
        >>> A = lo.assume(lo.Dense(np.array([[4., 2.], [2., 3.]])), lo.Tag.POSITIVE_DEFINITE)
        >>> (lo.linalg.PivotedCholesky(2).of(A) @ A).to_dense().round(12)
        array([[1., 0.],
               [0., 1.]])
    """

    rank: int

    def __post_init__(self) -> None:
        require_positive(self, "rank")

    def of(self, A: LinearOperator) -> LinearOperator:
        """The operator F⁻ᴴ F⁻¹ of the factor F, or the inverse of L Lᴴ + D."""
        require_definite(self, A)
        shift, X = _shifted(A)
        rows, pivots, remaining = _eliminated(X, min(self.rank, A.shape[0]))
        space: Any = backends.namespace(backends.backend_of(remaining))
        floor = A.shape[0] * space.finfo(remaining.dtype).eps * space.sum(space.abs(rows[:1]) ** 2)
        eye = backends.eye(rows, rows.shape[0], rows.dtype)
        if X is not A:
            weight = space.astype(
                1 / space.maximum(space.where(remaining > 0, remaining, 0 * floor) + shift, floor), rows.dtype
            )
            inner = eye + (backends.conj(rows) * weight) @ rows.T
            factor = lapack.cholesky(_hermitian(inner))
            half = backends.conj(backends.solve_triangular(factor, backends.conj(rows) * weight, True, False).T)
            M = Diagonal(weight) - LowRank(half, backends.conj(half.T))
        else:
            weight = space.where(remaining > -space.inf, 1 / space.sqrt(space.maximum(remaining, floor)), 0 * floor)
            inverse = backends.solve_triangular(space.tril(pivots @ rows.T), eye, True, False)
            U = pivots.T - weight[:, None] * rows.T
            G = Diagonal(space.astype(weight, rows.dtype)) + LowRank(U, inverse @ pivots)
            M = G.H @ G
        return assume(M, Tag.POSITIVE_DEFINITE)


def _shifted(A: LinearOperator) -> tuple[Any, LinearOperator]:
    """(c, X) of a sum c I + X, (0, A) of others."""
    found = split_shift(A) if isinstance(A, Sum) else None
    return (0, A) if found is None else (sum([real_part(scalar_of(one)) for one in found[0]]), found[1])


def _eliminated(A: LinearOperator, rank: int) -> tuple[Any, Any, Any]:
    """Rows whose outer products approximate A; their pivots, as rows of the identity; what the diagonal keeps.

    The last is −inf at pivots.
    """
    remaining = real_part(diagonal_(A))
    space: Any = backends.namespace(backends.backend_of(remaining))
    floor = A.shape[0] * space.finfo(remaining.dtype).eps * space.max(space.abs(remaining))
    places = space.cumsum(space.ones_like(remaining), axis=0) - 1
    one = columns_of(A, 0, 1)

    def step(state: Any) -> Any:
        count, rows, pivots, remaining = state
        pivot = space.argmax(remaining)
        here = places == pivot
        column = flat(A._columns(space.astype(here, one.dtype)[:, None]))[:, 0]
        column = column - backends.conj(rows[:, pivot]) @ rows
        value = remaining[pivot]
        size = space.sqrt(space.maximum(value, floor))
        row = space.where((value > floor) & (remaining > -space.inf), column / size, 0 * column)
        row = space.where(here, size + 0 * row, row)
        remaining = space.where(here, -space.inf, remaining - space.abs(row) ** 2)
        pivots = lapack.put(pivots, 0, count, space.astype(here, one.dtype))
        return count + 1, lapack.put(rows, 0, count, row), pivots, remaining

    empty = backends.zeros(one, (rank, A.shape[0]), one.dtype)
    state = (0, empty, backends.copy(empty), remaining)
    return lapack.iterate(one, state, lambda state: state[0] < rank, step)[1:]


@dataclass(frozen=True)
class Nystrom(Preconditioner):
    """The inverse on a random space where A is large, and a multiple of the identity beside it; A positive definite.

    Of a sum c I + X the space is that of X.

    Attributes:
        rank: The dimension of the space.
        seed: Which random numbers.

    Cost: rank products, and n rank² MACs once; 2 n rank a vector.

    Source: Frangella, Tropp and Udell, Randomized Nyström preconditioning, 2023.

    Raises:
        ValueError: If A is not known to be Hermitian.

    Example:
        >>> import linops as lo, numpy as np
        >>> A = lo.assume(lo.Dense(np.diag([4., 2.])), lo.Tag.POSITIVE_DEFINITE)
        >>> (lo.linalg.Nystrom(2).of(A) @ A).to_dense().round(6)
        array([[2., 0.],
               [0., 2.]])
    """

    rank: int
    seed: int = 0

    def __post_init__(self) -> None:
        require_positive(self, "rank")

    def of(self, A: LinearOperator) -> LinearOperator:
        """The operator I + U diag(…) Uᴴ."""
        require_definite(self, A)
        shift, X = _shifted(A)
        n = A.shape[0]
        rank = min(self.rank, n)
        one = columns_of(A, 0, 1)
        space: Any = backends.namespace(backends.backend_of(one))
        numbers = np.random.default_rng(self.seed).standard_normal((n, rank))
        test = lapack.qr(backends.constant(one, numbers, one.dtype))[0]
        image = flat(X._columns(test))
        little = space.finfo(one.dtype).eps * space.sqrt(space.sum(space.abs(image) ** 2))
        image = image + little * test
        lower = lapack.cholesky(_hermitian(backends.conj(test.T) @ image))
        half = backends.conj(backends.solve_triangular(lower, backends.conj(image.T), True, False).T)
        U, sizes, _ = lapack.svd(half)
        values = space.maximum(sizes**2 - little, 0 * little)
        gains = (values[-1] + shift + little) / (values + shift + little) - 1
        M = Identity(n) + LowRank(U * space.astype(gains, one.dtype), backends.conj(U.T))
        return assume(M, Tag.POSITIVE_DEFINITE)


def _hermitian(a: Any) -> Any:
    return (a + backends.conj(a.T)) / 2
