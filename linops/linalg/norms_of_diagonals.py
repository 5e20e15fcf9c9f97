"""Norms by entries of operators that are given by their diagonals: tridiagonal, Toeplitz and circulant ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from linops import backends
from linops.linalg.inputs import widened
from linops.linalg.norms import entry_steps, extreme, norm_, norm_of_any, root_of_squares
from linops.linalg.parts import space_of
from linops.operators.circulant import Circulant
from linops.operators.toeplitz import Toeplitz
from linops.operators.tridiagonal import Tridiagonal

_BY_VALUES = ("nuc", 2, -2)


@norm_.rule("of its diagonals, or singular values", steps=entry_steps(lambda a: 3 * a.shape[0]), cost="n, n³")
def _norm_tridiagonal(a: Tridiagonal, order: Any):
    if order in _BY_VALUES or not a.shape[0]:
        return norm_of_any(a, order)
    lower, diag, upper = (widened(a, one) for one in (a.lower, a.diag, a.upper))
    if order == "fro":
        return root_of_squares(backends.concatenate(lower, [diag, upper]))
    space, n = space_of(diag), diag.shape[0]
    before, after = (lower, upper) if abs(order) == 1 else (upper, lower)  # below the diagonal, and above it
    sums = backends.add_slice(space.abs(diag), space.abs(before), 0, 0)
    return extreme(backends.add_slice(sums, space.abs(after), min(1, n), 0), order)


def _toeplitz(a: Toeplitz, order: Any) -> Any:
    """‖A‖² = Σ w_k |a_k|² of diagonals of w_k numbers; sums of columns are those of m successive diagonals."""
    column, row = (widened(a, one) for one in ((a.r, a.c) if a.transposed else (a.c, a.r)))
    (m, n), space = a.shape, space_of(column)
    corner = widened(a, a.c)[:1]
    if order == "fro":
        below, above = _lengths(m, n), _lengths(n, m)
        weighted = [
            one * backends.constant(one, weights[1:] ** 0.5, backends.real_dtype(one.dtype, a.backend))
            for one, weights in ((column[1:], below), (row[1:], above))
        ]
        return root_of_squares(backends.concatenate(corner * min(m, n) ** 0.5, weighted))
    if order in (np.inf, -np.inf):
        (m, n), column, row, order = (n, m), row, column, 1 if order > 0 else -1
    sizes = [space.abs(space.flip(row[1:], axis=0)), space.abs(corner), space.abs(column[1:])]
    return extreme(_sums_of_successive(backends.concatenate(sizes[0], sizes[1:]), m), order)


def _lengths(m: int, n: int) -> np.ndarray:
    """How many numbers the diagonals from the main one on have, down a column of m."""
    return np.minimum(np.arange(m, 0, -1), n).astype(float)


def _sums_of_successive(x: Any, m: int) -> Any:
    """Sums of each m successive numbers, without differences: of the end of a block of m, and the start of the next."""
    space, count = space_of(x), x.shape[0] - m + 1
    blocks = -(-x.shape[0] // m) + 1
    grid = backends.pad_rows(x, blocks * m).reshape(blocks, m)
    starts = space.cumsum(grid, axis=1).reshape(-1)
    ends = space.flip(space.cumsum(space.flip(grid, axis=1), axis=1), axis=1).reshape(-1)
    whole = backends.constant(x, np.arange(count) % m == 0, x.dtype)  # a block by itself
    return ends[:count] + (1 - whole) * starts[m - 1 : m - 1 + count]


@norm_.rule("of its diagonals, or singular values", steps=entry_steps(lambda a: sum(a.shape)), cost="n, n³")
def _norm_toeplitz(a: Toeplitz, order: Any):
    return norm_of_any(a, order) if order in _BY_VALUES or not min(a.shape) else _toeplitz(a, order)


@norm_.rule(
    "of its diagonals, or singular values", of="others", steps=entry_steps(lambda a: sum(a.shape)), cost="n, n³"
)
def _norm_circulant_block(a: Circulant, order: Any):
    if order in _BY_VALUES or not min(a.shape):
        return norm_of_any(a, order)
    (m, n), c = a._block, a.c
    row = backends.gather(c, backends.indices_beside(c, -np.arange(n) % c.shape[0]))
    return _toeplitz(Toeplitz(c[:m], row, transposed=a.transposed), order)
