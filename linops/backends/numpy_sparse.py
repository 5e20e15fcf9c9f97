"""Products with sparse matrices in NumPy: scipy's kernels, and a matrix of scipy's that is made once."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy  # whose submodules load when they are first used

from linops.backends import primitives as p


class Prepared(NamedTuple):
    """A sparse matrix as scipy's, over the same memory, which takes longer to make than to multiply by a vector.

    Attributes:
        matrix: A `csr_array`, or a `csc_array` if the entries are in order of columns; None in half precision.
        positions: Where the entries stand.
    """

    matrix: Any
    positions: p.Positions


@p.prepared_sparse.dispatch
def _prepared_sparse(values: np.ndarray, positions: p.Positions):
    if values.dtype.char not in _SCIPY_DTYPES:
        return Prepared(None, positions)
    if positions.by_row is None:
        matrix = scipy.sparse.csr_array((values, positions.columns, positions.row_starts), shape=positions.shape)
    else:
        matrix = scipy.sparse.csc_array((values, positions.rows, positions.column_starts), shape=positions.shape)
    return Prepared(matrix, positions)


@p.sparse_matmul.dispatch
def _sparse_matmul(values: np.ndarray, prepared: Prepared, x: Any):
    matrix, positions = prepared
    if matrix is not None and x.dtype.char in _SCIPY_DTYPES:
        return matrix @ x
    return p.scatter(values[:, None] * x[positions.columns], positions.rows, positions.shape[0])


@p.sparse_matvec.dispatch
def _sparse_matvec(values: np.ndarray, prepared: Prepared, x: Any):
    matrix, positions = prepared
    if matrix is not None and x.dtype.char in _SCIPY_DTYPES:
        return matrix @ x
    return p.scatter(values * x[positions.columns], positions.rows, positions.shape[0])


#: in which scipy's kernels compute: all but half precision
_SCIPY_DTYPES = frozenset("?bBhHiIlLqQfdgFDG")
