"""Sparse: diagonals scale the entries, and entries of sums go together."""

from __future__ import annotations

from typing import Any

import numpy as np

from linops import backends
from linops.operators.diagonal import Diagonal
from linops.operators.sparse import Sparse
from linops.rules.functions import absorb, join, merge


def _with_values(a: Sparse, values: Any) -> Sparse:
    """Other entries at the same positions."""
    return Sparse(values, a.rows, a.columns, a.size, a.by_row, a.by_column, a.row_starts, a.column_starts)


@merge.dispatch
def _merge_diagonal_sparse(a: Diagonal, b: Sparse):
    return _with_values(b, backends.gather(a.diagonal, b.rows) * b.values)


@merge.dispatch
def _merge_sparse_diagonal(a: Sparse, b: Diagonal):
    return _with_values(a, a.values * backends.gather(b.diagonal, a.columns))


@join.dispatch
def _join_sparses(a: Sparse, b: Sparse):
    if a.rows is b.rows and a.columns is b.columns:
        return _with_values(a, a.values + b.values)
    rows, columns = (
        np.concatenate([backends.to_numpy(one) for one in pair]) for pair in ((a.rows, b.rows), (a.columns, b.columns))
    )
    return Sparse(backends.concatenate(a.values, [b.values]), rows, columns, a.size)


@absorb.dispatch
def _absorb_sparse(a: Sparse, scalar: Any):
    return _with_values(a, scalar * a.values)
