"""What stands for an array or a matrix in other libraries and becomes ours: the one place that says what is admitted.

An operand, a leaf or a summand is one of

* a plain array of a backend (`linops.backends.backend_of`), taken as it is;
* what stands for a NumPy array, made one by `plain`: lists of numbers, subclasses of `numpy.ndarray` (as np.matrix),
  pandas' tables;
* a matrix that is no array (`foreign_kind`), made an operator by `lo.aslinearoperator`: sparse ones of scipy, torch and
  JAX, scipy's linear operators, and those of others that have a ``shape`` and a ``matvec``;
* or a TypeError that says so.

Types are looked up in a dict; a type seen for the first time is resolved among the modules that the program has
imported, so nothing is imported for it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from numbers import Number
from typing import Any, NamedTuple

import numpy as np

#: type → "sparse", "operator", "tensor" (sparse if its layout is), "open" (an operator if it looks like one) or None
_KINDS: dict[type, str | None] = dict.fromkeys((np.ndarray, bool, int, float, complex, list, tuple))
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
    """What a value is that is no array, but a matrix.

    Args:
        value: Anything.

    Returns:
        ``"sparse"`` for a sparse array of scipy, torch or JAX; ``"operator"`` for scipy's `LinearOperator` and for what
        looks like one, a ``shape`` (m, n) and a ``matvec``; None for anything else.
    """
    kind = type(value)
    found = _KINDS[kind] if kind in _KINDS else _KINDS.setdefault(kind, _resolve(kind))
    if found is None:
        return None
    if found == "tensor":
        return None if value.layout is sys.modules["torch"].strided else "sparse"
    if found == "open":
        return "operator" if _multiplies(value) else None
    return found


def _resolve(kind: type) -> str | None:
    for library, names, found in _LIBRARIES:
        module = sys.modules.get(library)
        classes = tuple([getattr(module, name) for name in names if hasattr(module, name)])
        if issubclass(kind, classes):
            return found
    return None if hasattr(kind, "__array__") else "open"  # an array


def _multiplies(value: Any) -> bool:
    """Whether a value looks like a linear operator: instances are asked, for some have their methods there alone."""
    shape = getattr(value, "shape", None)
    return isinstance(shape, tuple) and len(shape) == 2 and callable(getattr(value, "matvec", None))


def plain(value: Any, where: str | Callable[[], str]) -> np.ndarray | None:
    """The plain NumPy array of what stands for one.

    Args:
        value: Anything but an array of a backend.
        where: What it is given to, or a function that says so, for errors.

    Returns:
        The array, which may share memory with the value: of a (nested) list or tuple of numbers, a subclass of
        `numpy.ndarray`, a pandas Series, Index or DataFrame, or another object that NumPy reads by its ``__array__``.
        None for anything else.

    Raises:
        TypeError: If it holds no numbers, masked ones, or has an arithmetic of its own (as of units), which would be
            lost.
        ValueError: If nested lists are of different lengths.
    """
    kind = type(value)

    def told() -> str:
        return where if isinstance(where, str) else where()

    def refuse(reason: str) -> TypeError:
        return TypeError(f"{told()}: {reason}")

    if not stands_for_array(value):
        return None
    if isinstance(value, (list, tuple)):
        stranger = _stranger(value)
        if stranger is not None:
            raise refuse(
                f"expected numbers in a {kind.__name__}, got {stranger.__name__}; "
                "torch.stack and jax.numpy.stack join arrays"
            )
    elif kind.__module__.partition(".")[0] != "pandas" and _has_arithmetic(kind):
        numbers = "x.filled(0)" if hasattr(kind, "filled") else "numpy.asarray(x)"
        raise refuse(f"{kind.__name__} has an arithmetic of its own; give its numbers, as in {numbers}")
    try:
        array = np.asarray(value)
    except ValueError:
        if not isinstance(value, (list, tuple)):
            raise
        raise ValueError(f"{told()}: the rows of a {kind.__name__} are of different lengths") from None
    if not is_numeric(array.dtype):
        raise refuse(f"expected numbers, got {kind.__name__} of dtype {array.dtype}")
    return array


def stands_for_array(value: Any) -> bool:
    """Whether `plain` makes an array of a value, or says why not.

    Args:
        value: Anything but an array of a backend.

    Returns:
        True or False.
    """
    return isinstance(value, (list, tuple)) or (hasattr(type(value), "__array__") and not isinstance(value, np.generic))


def _stranger(values: Any) -> type | None:
    """The type of something in nested lists that is neither a number nor an array of NumPy."""
    for value in values:
        if isinstance(value, (list, tuple)):
            found = _stranger(value)
            if found is not None:
                return found
        elif not isinstance(value, (Number, np.ndarray, np.generic)):
            return type(value)
    return None


def _has_arithmetic(kind: type) -> bool:
    """Whether arrays of a type add and multiply by rules of their own, as those with masks or units do."""
    masked = sys.modules.get("numpy.ma")
    if masked is not None and issubclass(kind, masked.MaskedArray):
        return True
    return getattr(kind, "__array_ufunc__", np.ndarray.__array_ufunc__) is not np.ndarray.__array_ufunc__


def is_numeric(dtype: Any) -> bool:
    """Whether arrays of a dtype of any framework hold numbers.

    Args:
        dtype: A dtype.

    Returns:
        False for NumPy's objects, text, dates and records.
    """
    kind = getattr(dtype, "kind", "f")
    return kind in "biufc" or (kind == "V" and not issubclass(dtype.type, np.void))  # bfloat16 and its like


def native(array: np.ndarray) -> np.ndarray:
    """A NumPy array in this machine's byte order, copied only if it has to be.

    Args:
        array: The array.

    Returns:
        The array.
    """
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def index_array(where: str, indices: Any) -> np.ndarray:
    """The numbers of an index array, which are structure: they must be known.

    Args:
        where: What they are given to, for errors.
        indices: An array of any framework, or what stands for one, such as a list of integers.

    Returns:
        A NumPy array, which may share memory with the given one.

    Raises:
        TypeError: If they are no array, or JAX traces them.
    """
    if isinstance(indices, (list, tuple, range)):
        return np.asarray(indices, dtype=None if len(indices) else np.intp)
    kind = type(indices)
    if isinstance(indices, np.ndarray):
        return indices if kind is np.ndarray else np.asarray(plain(indices, where))
    if not hasattr(kind, "__array__"):
        raise TypeError(f"{where} must be an array or a list of integers, got {kind.__name__}")
    try:
        return np.asarray(indices.detach().cpu() if hasattr(indices, "detach") else indices)
    except TypeError:
        if "Tracer" not in kind.__name__:
            raise
        raise TypeError(
            f"{where}: index arrays are the structure of an operator, and JAX traces this one of shape "
            f"{tuple(indices.shape)}; make the operator outside of jit, grad and vmap and pass it in, for its index "
            "arrays are no leaves"
        ) from None


def coordinates(matrix: Any) -> Coordinates:
    """The entries of a sparse matrix.

    Args:
        matrix: A sparse array of scipy (any format; copied), torch (any layout) or JAX (BCOO, BCSR, COO, CSR or CSC).

    Returns:
        Its entries.

    Raises:
        ValueError: If it has other than two axes, or batched or dense ones.
        TypeError: If JAX traces its positions.
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
        dense = getattr(matrix, "n_batch", 0) + getattr(matrix, "n_dense", 0)
        values, rows, columns = (
            (None, None, None) if dense else _jax_entries(matrix, f"Sparse of a {name} of shape {shape}")
        )
    if dense:
        raise ValueError(
            f"Sparse: a {name} of shape {shape} has batched or dense axes; expected entries that are numbers"
        )
    return Coordinates(values, rows, columns, shape)


def _jax_entries(matrix: Any, where: str) -> tuple[Any, Any, Any]:
    """(values, rows, columns) of a sparse matrix of JAX, whose padding stands outside of the shape."""
    if hasattr(matrix, "indptr"):
        starts, inner = index_array(where, matrix.indptr), index_array(where, matrix.indices)
        outer = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        values, inner = matrix.data[: starts[-1]], inner[: starts[-1]]
        return (values, inner, outer) if type(matrix).__name__ == "CSC" else (values, outer, inner)
    if hasattr(matrix, "row"):
        rows, columns = index_array(where, matrix.row), index_array(where, matrix.col)
    else:
        rows, columns = index_array(where, matrix.indices).T
    inside = (rows < matrix.shape[0]) & (columns < matrix.shape[1])
    return (matrix.data, rows, columns) if inside.all() else (matrix.data[inside], rows[inside], columns[inside])
