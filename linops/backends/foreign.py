"""Matrices of other libraries that are no plain arrays: sparse ones of scipy, torch and JAX, and scipy's linear operators.

They are recognised without importing their libraries, by one dict look-up of the type; a type seen for the first time is resolved among
the modules that the program has imported.
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import numpy as np

#: type → "sparse", "operator", "tensor" (sparse if its layout is) or None
_KINDS: dict[type, str | None] = {np.ndarray: None}
_LIBRARIES = (
    ("scipy.sparse", ("sparray", "spmatrix"), "sparse"),
    ("scipy.sparse.linalg", ("LinearOperator",), "operator"),
    ("jax.experimental.sparse", ("JAXSparse",), "sparse"),
    ("torch", ("Tensor",), "tensor"),
)


class Coordinates(NamedTuple):
    """A sparse matrix by its entries: the sum of values[i] at (rows[i], columns[i]).

    Attributes:
        values: (nnz,) array of the library.
        rows: (nnz,) integers.
        columns: (nnz,) integers.
        shape: The sizes of the axes.
    """

    values: Any
    rows: Any
    columns: Any
    shape: tuple[int, ...]


def foreign_kind(value: Any) -> str | None:
    """What a value is that is no plain array.

    Args:
        value: Anything.

    Returns:
        ``"sparse"`` for a sparse array of scipy, torch or JAX; ``"operator"`` for scipy's `LinearOperator`; None for anything else.
    """
    kind = type(value)
    found = _KINDS[kind] if kind in _KINDS else _KINDS.setdefault(kind, _resolve(kind))
    if found == "tensor":
        return None if value.layout is sys.modules["torch"].strided else "sparse"
    return found


def _resolve(kind: type) -> str | None:
    for library, names, found in _LIBRARIES:
        module = sys.modules.get(library)
        classes = tuple([getattr(module, name) for name in names if hasattr(module, name)])
        if issubclass(kind, classes):
            return found
    return None


def coordinates(matrix: Any) -> Coordinates:
    """The entries of a sparse matrix.

    Args:
        matrix: A sparse array of scipy (any format; copied), torch (any layout) or JAX (BCOO or BCSR).

    Returns:
        Its entries.

    Raises:
        ValueError: If it has other than two axes, or batched or dense ones.
    """
    shape = tuple(map(int, matrix.shape))
    name = type(matrix).__name__
    if len(shape) != 2:
        raise ValueError(f"Sparse: expected a sparse matrix with 2 axes, got a {name} of shape {shape}")
    if hasattr(matrix, "tocoo"):
        entries = matrix.tocoo(copy=True)
        return Coordinates(entries.data, entries.row, entries.col, shape)
    if hasattr(matrix, "layout"):
        entries = (matrix if matrix.is_sparse else matrix.to_sparse_coo()).coalesce()
        dense, values, (rows, columns) = entries.dense_dim(), entries.values(), entries.indices()
    else:
        dense, values, rows, columns = matrix.n_batch + matrix.n_dense, *_jax_entries(matrix)
    if dense:
        raise ValueError(f"Sparse: a {name} of shape {shape} has batched or dense axes; expected entries that are numbers")
    return Coordinates(values, rows, columns, shape)


def _jax_entries(matrix: Any) -> tuple[Any, Any, Any]:
    """(values, rows, columns) of a BCOO or BCSR without batched and dense axes, whose padding stands outside of the shape."""
    if matrix.n_batch + matrix.n_dense:
        return None, None, None
    columns = np.asarray(matrix.indices)
    if hasattr(matrix, "indptr"):
        starts = np.asarray(matrix.indptr)
        rows = np.repeat(np.arange(matrix.shape[0]), np.diff(starts))
        return matrix.data[: starts[-1]], rows, columns[: starts[-1]]
    rows, columns = columns.T
    inside = (rows < matrix.shape[0]) & (columns < matrix.shape[1])
    return (matrix.data, rows, columns) if inside.all() else (matrix.data[inside], rows[inside], columns[inside])
