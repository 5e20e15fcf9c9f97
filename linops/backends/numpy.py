"""NumPy."""

from __future__ import annotations

from typing import Any

import numpy as namespace  # NumPy 2 is its own array-API namespace
import numpy as np

import linops.backends as backends
from linops.backends import primitives as p

__all__ = ["convert", "namespace"]

backends.register_type(np.ndarray, "numpy")


@p.block_matmul.dispatch
def _block_matmul(a: np.ndarray, x: np.ndarray):
    return a @ x


@p.shared_matmul.dispatch
def _shared_matmul(a: np.ndarray, x: np.ndarray):
    return a @ x


@p.permute.dispatch
def _permute(x: np.ndarray, order: tuple):
    return x.transpose(order)


@p.copy.dispatch
def _copy(x: np.ndarray):
    return x.copy()


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


@p.map_columns.dispatch
def _map_columns(x: np.ndarray, function: Any):
    count = x.shape[1]
    vectors = np.ascontiguousarray(x.T) if count else np.zeros((1, x.shape[0]), x.dtype)
    return np.stack([function(vector) for vector in vectors], axis=1)[:, :count]


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


@p.device_of.dispatch
def _device_of(x: np.ndarray):
    return "cpu"


@p.to_numpy.dispatch
def _to_numpy(x: np.ndarray):
    return x


@p.check_permutation.dispatch
def _check_permutation(indices: np.ndarray):
    if not np.array_equal(np.sort(indices), np.arange(indices.size)):
        raise ValueError(f"Permute: indices must be a permutation of 0 … {indices.size - 1}, got {indices!r}")


@p.inverse_permutation.dispatch
def _inverse_permutation(indices: np.ndarray):
    return np.argsort(indices)


def convert(x: Any, dtype: Any, device: Any) -> np.ndarray:
    """An array of any backend as one of this backend; see `linops.backends.asarray`."""
    if device not in (None, "cpu"):
        raise ValueError(f"backend 'numpy' has one device, 'cpu'; got device={device!r}")
    return np.asarray(p.to_numpy(x), dtype=dtype)
