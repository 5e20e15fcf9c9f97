"""Tridiagonal operators: determinants and factors by elimination."""

from __future__ import annotations

from typing import Any

import numpy as np

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.determinants import slogdet_
from linops.linalg.factors import cholesky_, indefinite, lu_
from linops.linalg.inputs import widened
from linops.linalg.parts import is_constant, space_of
from linops.linalg.spectra import real_part
from linops.operator import assume
from linops.operators.permute import Permute
from linops.operators.sparse import Sparse
from linops.operators.tridiagonal import Tridiagonal
from linops.plan.step import Step
from linops.tags import Tag


def _steps(name: str, flops: int) -> Any:
    def steps(a: Tridiagonal) -> Any:
        n = a.shape[0]
        return (Step(name, f"({n}, 3)", other_flops=flops * n, inputs=3 * n),)

    return steps


def _diagonals(a: Tridiagonal) -> tuple[Any, Any, Any]:
    """The three of one dtype, which LAPACK has."""
    lower, diag, upper = (widened(a, one) for one in (a.lower, a.diag, a.upper))
    dtype = backends.result_type(a.backend, lower.dtype, diag.dtype, upper.dtype)
    lower, diag, upper = (space_of(one).astype(one, dtype) for one in (lower, diag, upper))
    return lower, diag, upper


@slogdet_.rule("elimination with pivoting", steps=_steps("tridiagonal lu", 6), cost="n")
def _slogdet_tridiagonal(a: Tridiagonal):
    lower, diag, upper = _diagonals(a)
    return lapack.tridiagonal_slogdet(diag, lower, upper)


@cholesky_.rule("elimination: two diagonals", steps=_steps("tridiagonal cholesky", 6), cost="n")
def _cholesky_tridiagonal(a: Tridiagonal):
    """L of pivots δ: √δ_i on its diagonal, and A_(i+1, i) / √δ_i below."""
    lower, diag, upper = _diagonals(a)
    beside, diag = (lower + backends.conj(upper)) / 2, real_part(diag)
    if not diag.shape[0]:
        return a
    pivots = lapack.tridiagonal_pivots(diag, real_part(beside * backends.conj(beside)))
    space = space_of(pivots)
    definite = space.all(pivots > 0)
    if lapack.is_known(pivots) and not bool(definite):
        raise indefinite(a)
    roots = space.sqrt(space.where(definite, pivots, space.nan))
    below = beside / roots[:-1]
    roots = space.astype(roots, below.dtype)
    return assume(Tridiagonal(below, roots, space.zeros_like(below)), Tag.LOWER_TRIANGULAR)


@lu_.rule(
    "elimination with pivoting: sparse factors",
    of="three rows or more, without derivatives",
    when=lambda a: a.shape[0] > 2 and (a.is_symbolic or is_constant(a)),
    steps=_steps("tridiagonal lu", 6),
    cost="n",
)
def _lu_tridiagonal(a: Tridiagonal):
    """L with one entry below the diagonal in each column, and U with two diagonals above.

    A row that is swapped away goes down while swaps follow one another, and the entry of L that it gave before with it.
    """
    given = _diagonals(a)
    lower, diag, upper = map(backends.to_numpy, given)
    n = diag.shape[0]
    below, pivots, beside, beyond, swaps = lapack.tridiagonal_elimination(diag, lower, upper)
    places = np.arange(n)
    stays = np.append(swaps[: n - 1] == places[:-1] + 1, True)  # LAPACK counts from one
    ends = np.minimum.accumulate(np.where(stays, places, n)[::-1])[::-1]
    starts = np.maximum.accumulate(np.where(np.append(True, stays[:-1]), places, 0))
    order = np.where(stays, starts, places + 1)

    def sparse(*entries: Any) -> Sparse:
        """Of diagonals (values, rows, columns), one of whose entries follow those of the other: mostly in order."""
        there = np.stack([np.arange(n) < len(one) for one, _, _ in entries], 1)
        values, rows, columns = (
            np.stack([np.pad(one, (0, n - len(one))) for one in parts], 1)[there] for parts in zip(*entries)
        )
        return Sparse(backends.constant(given[1], values, given[1].dtype), rows, columns, (n, n))

    L = sparse((np.ones(n, diag.dtype), places, places), (below, ends[1:], places[:-1]))
    U = sparse((pivots, places, places), (beside, places[:-1], places[1:]), (beyond, places[:-2], places[2:]))
    return Permute(order).T, L, U
