"""NumPy."""

from __future__ import annotations

import sys
from typing import Any

import numpy as namespace  # NumPy 2 is its own array-API namespace
import numpy as np
import scipy  # whose submodules load when they are first used

import linops.backends as backends
from linops.backends import numpy_linalg, numpy_matrix_functions, numpy_sparse, numpy_transforms
from linops.backends import primitives as p
from linops.backends.primitives import SQUARES
from linops.tuning import NUMPY_EINSUM_BLOCKS, NUMPY_EINSUM_NUMBERS, NUMPY_SHARED_STACK

__all__ = ["convert", "namespace", "numpy_linalg", "numpy_matrix_functions", "numpy_sparse", "numpy_transforms"]

backends.register_type(np.ndarray, "numpy")


@p.block_matmul.dispatch
def _block_matmul(a: np.ndarray, x: np.ndarray):
    return a @ x if x.shape[2] != 1 else p.block_matvec(a, x)


@p.block_matvec.dispatch
def _block_matvec(a: np.ndarray, x: np.ndarray):
    blocks, rows, columns = a.shape
    x = x.reshape(blocks, columns, 1)
    if blocks >= NUMPY_EINSUM_BLOCKS and rows * columns <= NUMPY_EINSUM_NUMBERS:
        return np.einsum("bpq,bqk->bpk", a, x)
    return a @ x


@p.crossed_matmul.dispatch
def _crossed_matmul(first: np.ndarray, second: np.ndarray, x: np.ndarray, swapped: bool = False):
    (m, _, middle), between = second.shape, _block_matmul(first, x)
    if middle != first.shape[0]:
        between = between.reshape(middle, m, x.shape[2])
    y = _block_matmul(second, between.swapaxes(0, 1))
    return y.swapaxes(0, 1) if swapped else y


@p.grid_matmul.dispatch
def _grid_matmul(a: np.ndarray, x: np.ndarray):
    return a.reshape(*x.shape[:-2], *a.shape[1:]) @ x  # which reads blocks where they lie: no copy


@p.shared_matmul.dispatch
def _shared_matmul(a: np.ndarray, x: np.ndarray):
    stack, columns, batch = x.shape
    if batch == 1 and stack >= NUMPY_SHARED_STACK:
        return (x.reshape(stack, columns) @ a.T).reshape(stack, a.shape[0], 1)
    return a @ x


@p.permute.dispatch
def _permute(x: np.ndarray, order: tuple):
    return x.transpose(order)


@p.copy.dispatch
def _copy(x: np.ndarray):
    return x.copy()


def _called(function: Any, x: Any) -> tuple[Any, int, int]:
    """What a function returns, and how many hold it, and the array whose memory it shows."""
    y = function(x)
    return y, sys.getrefcount(y), sys.getrefcount(y.base)


#: these numbers where nobody else holds it: of an array with its own memory, and of a view
_ALONE = _called(np.empty, 1)[1]
_ALONE_BELOW = _called(lambda size: np.empty(size)[:], 1)[2]


def _fresh(function: Any, x: Any) -> Any:
    y, held, held_below = _called(function, x)
    owner = y if y.base is None else y.base
    if (
        held == _ALONE
        and type(owner) is np.ndarray
        and owner.flags.owndata
        and (owner is y or held_below == _ALONE_BELOW)
    ):
        return y
    return y.copy()


@p.applied.dispatch
def _applied(x: np.ndarray, function: Any):
    return _fresh(function, x.copy())


@p.conj.dispatch
def _conj(x: np.ndarray):
    return np.asarray(x.conj()) if x.dtype.kind == "c" else x  # of a 0-d array NumPy makes a scalar


@p.gather.dispatch
def _gather(x: np.ndarray, indices: Any):
    return x[p.to_numpy(indices)]


@p.pad_rows.dispatch
def _pad_rows(x: np.ndarray, rows: int):
    if rows <= x.shape[0]:
        return x[:rows]
    padded = np.zeros((rows, *x.shape[1:]), x.dtype)
    padded[: x.shape[0]] = x
    return padded


@p.spread.dispatch
def _spread(x: np.ndarray, start: int, step: int, rows: int):
    result = np.zeros((rows, *x.shape[1:]), x.dtype)
    result[start : start + step * len(x) : step] = x
    return result


@p.three_diagonals.dispatch
def _three_diagonals(x: np.ndarray, lower: Any, diagonal: Any, upper: Any, columns: bool):
    if columns:
        x = x.T
    y = diagonal * x
    if not lower.dtype == diagonal.dtype == upper.dtype:
        y = y.astype(np.result_type(y, lower, upper), copy=False)
    below, above = y[..., 1:], y[..., :-1]
    below += lower * x[..., :-1]
    above += upper * x[..., 1:]
    return y.T if columns else y


@p.reflected.dispatch
def _reflected(x: np.ndarray, v: np.ndarray, rows: bool):
    square = np.vdot(v, v)  # which says nothing of squares that overflow, as dot does
    if not SQUARES[0] < square < SQUARES[1]:
        return None
    u = v / (square / 2) ** 0.5  # before it meets x, whose products with v may overflow
    if rows:
        return x - (x @ u)[:, None] * u
    return x - (u if x.ndim == 1 else u[:, None]) * (u @ x)


@p.add_slice.dispatch
def _add_slice(y: np.ndarray, x: np.ndarray, start: int, axis: int):
    if y.dtype != x.dtype:
        y = y.astype(np.result_type(y, x))
    part = y[(slice(None),) * axis + (slice(start, start + x.shape[axis]),)]
    part += x
    return y


@p.scatter.dispatch
def _scatter(x: np.ndarray, indices: Any, rows: int):
    indices = p.to_numpy(indices)
    result = np.zeros((rows, *x.shape[1:]), x.dtype)
    if np.bincount(indices, minlength=1).max() > 1:
        np.add.at(result, indices, x)
    else:  # some 40 times faster
        result[indices] = x
    return result


@p.concatenate.dispatch
def _concatenate(first: np.ndarray, others: list):
    return np.concatenate([first, *others])


@p.eye.dispatch
def _eye(like: np.ndarray, n: int, dtype: Any):
    return np.eye(n, dtype=dtype)


@p.zeros.dispatch
def _zeros(like: np.ndarray, shape: tuple, dtype: Any):
    return np.zeros(shape, dtype)


@p.constant.dispatch
def _constant(like: np.ndarray, array: np.ndarray, dtype: Any):
    return array.astype(dtype)


@p.map_columns.dispatch
def _map_columns(x: np.ndarray, function: Any):
    count = x.shape[1]
    vectors = np.array(x.T, order="C") if count else np.zeros((1, x.shape[0]), x.dtype)
    return np.stack([_fresh(function, vector) for vector in vectors], axis=1)[:, :count]


@p.jvp.dispatch
def _jvp(x: np.ndarray, function: Any, tangent: Any):
    raise TypeError("NumPy has no derivatives of functions; use torch or JAX, as in A.to(backend='jax')")


@p.vjp.dispatch
def _vjp(x: np.ndarray, function: Any, cotangent: Any):
    raise TypeError("NumPy has no derivatives of functions; use torch or JAX, as in A.to(backend='jax')")


@p.same_array.dispatch
def _same_array(a: np.ndarray, b: np.ndarray):
    one, other = a.__array_interface__, b.__array_interface__
    if all(one[key] == other[key] for key in ("data", "shape", "strides", "typestr")):
        return True
    # conjugates are copies, so complex arrays are compared by their numbers
    return a.dtype.kind == "c" and a.dtype == b.dtype and np.array_equal(a, b)


@p.memory.dispatch
def _memory(x: np.ndarray):
    return (x.__array_interface__["data"][0], x.dtype.str), x.strides, False


@p.solve_triangular.dispatch
def _solve_triangular(a: np.ndarray, b: np.ndarray, lower: bool, unit: bool):
    if np.result_type(a, b).char in "gG":  # which LAPACK has not
        return _substituted(a, b, lower, unit)
    x = scipy.linalg.solve_triangular(a, b, lower=lower, unit_diagonal=unit, check_finite=False)
    return x.astype(np.result_type(a, b), copy=False)  # of float16, float32 as yet


def _substituted(a: np.ndarray, b: np.ndarray, lower: bool, unit: bool) -> np.ndarray:
    """A⁻¹ b of a triangular A, row by row."""
    x = b.astype(np.result_type(a, b))
    for row in range(len(a)) if lower else range(len(a))[::-1]:
        known = slice(0, row) if lower else slice(row + 1, None)
        x[row] -= a[row, known] @ x[known]
        if not unit:
            x[row] /= a[row, row]
    return x


@p.device_of.dispatch
def _device_of(x: np.ndarray):
    return "cpu"


@p.to_numpy.dispatch
def _to_numpy(x: np.ndarray):
    return x


@p.outside.dispatch
def _outside(indices: np.ndarray, size: int):
    return None if backends.is_compiling() else bool(indices.size) and not 0 <= indices.min() <= indices.max() < size


@p.own_indices.dispatch
def _own_indices(indices: np.ndarray):
    return np.array(indices, dtype=np.intp)


@p.indices_beside.dispatch
def _indices_beside(like: np.ndarray, indices: Any):
    return indices if backends.is_compiling() else p.to_numpy(indices)


@p.never_exceeds.dispatch
def _never_exceeds(a: np.ndarray, b: np.ndarray):
    return None if backends.is_compiling() else bool((a <= b).all())


@p.any_nonzero.dispatch
def _any_nonzero(x: np.ndarray):
    return bool(x.any())


@p.differentiates.dispatch
def _differentiates(x: np.ndarray):
    return False


@p.check_permutation.dispatch
def _check_permutation(indices: np.ndarray):
    if not np.array_equal(np.sort(indices), np.arange(indices.size)):
        raise ValueError(f"Permute: indices must be a permutation of 0 … {indices.size - 1}, got {indices!r}")


@p.inverse_permutation.dispatch
def _inverse_permutation(indices: np.ndarray):
    return np.argsort(indices)


def convert(x: Any, dtype: Any, device: Any) -> np.ndarray:
    """An array of any backend as one of this backend; see `linops.backends.asarray`."""
    if device is not None and str(device) != "cpu":
        raise ValueError(f"backend 'numpy' has one device, 'cpu'; got device={device!r}")
    if isinstance(x, np.ndarray):
        return np.asarray(x, dtype=dtype)
    return np.array(p.to_numpy(x), dtype=dtype)  # a copy of others' memory: torch writes in place
