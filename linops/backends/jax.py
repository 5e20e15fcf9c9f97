"""JAX: arrays and tracers by their concrete classes, as dispatch cannot cache an abstract class like `jax.Array`."""

from __future__ import annotations

from functools import partial
from typing import Any, Union

import jax
import jax.numpy as namespace
import numpy as np
from jax._src.array import ArrayImpl
from jax.core import Tracer

import linops.backends as backends
from linops.backends import (
    jax_derivatives,
    jax_linalg,
    jax_matrix_functions,
    jax_mesh,
    jax_parts,
    jax_sparse,
    jax_spectra,
    jax_transforms,
)
from linops.backends import primitives as p
from linops.backends.tree import register_jax
from linops.tuning import JAX_APART, JAX_REPEATED

__all__ = [
    "convert",
    "jax_derivatives",
    "jax_linalg",
    "jax_matrix_functions",
    "jax_parts",
    "jax_sparse",
    "jax_spectra",
    "jax_transforms",
    "namespace",
]

Array = Union[ArrayImpl, Tracer]
backends.register_type(ArrayImpl, "jax")
backends.register_type(Tracer, "jax")


@p.block_matmul.dispatch
def _block_matmul(a: Array, x: Array):
    return _product(a, _apart(x))


def _product(a: Any, x: Any) -> Any:
    """(b, p, q) blocks times (b, q, k); one vector multiplies from the left, which XLA does faster on a CPU."""
    if _is_known(x.shape[2]) and x.shape[2] == 1:
        return namespace.matmul(x.swapaxes(1, 2), a.swapaxes(1, 2)).swapaxes(1, 2)
    return namespace.matmul(a, x)


def _apart(x: Any) -> Any:
    """An operand that XLA keeps apart from what made it, and its gradient from what that makes.

    Otherwise XLA on a CPU folds axes that are exchanged into the product, whose gradient then takes up to three times
    as long. What is not traced is apart already, and would be copied.
    """
    if isinstance(x, Tracer) and _is_known(*x.shape) and x.size >= JAX_APART and backends.device_kind(x) == "cpu":
        return jax.lax.optimization_barrier(x)
    return x


def _is_known(*sizes: Any) -> bool:
    """Whether sizes are numbers, and no symbols, as in programs that are exported for any of them."""
    return all(isinstance(size, int) for size in sizes)


@p.crossed_matmul.dispatch
def _crossed_matmul(first: Array, second: Array, x: Array, swapped: bool = False):
    between = _product(first, _apart(x)).reshape(second.shape[2], second.shape[0], x.shape[2])
    y = _product(second, _apart(between.swapaxes(0, 1)))
    return y.swapaxes(0, 1) if swapped else y


@p.block_matvec.dispatch
def _block_matvec(a: Array, x: Array):
    return _product(a, x.reshape(a.shape[0], a.shape[2], 1))


@p.grid_matmul.dispatch
def _grid_matmul(a: Array, x: Array):
    return _product(a, _apart(x.reshape(a.shape[0], a.shape[2], x.shape[-1])))


@p.shared_matmul.dispatch
def _shared_matmul(a: Array, x: Array):
    (rows, columns), (stack, _, batch) = a.shape, x.shape
    if (
        _is_known(rows, columns, batch)
        and batch >= max(JAX_REPEATED, min(rows, columns))
        and rows * columns <= JAX_REPEATED**2
        and backends.device_kind(x) == "cpu"
        and not (jax_mesh.is_own(x) or jax_mesh.on_mesh(x))  # devices would add up gradients of all copies
    ):
        return namespace.matmul(namespace.broadcast_to(a, (stack, rows, columns)), _apart(x))
    return namespace.matmul(a, x)  # XLA multiplies all by one product, whose result it turns


@p.permute.dispatch
def _permute(x: Array, order: tuple):
    return x.transpose(order)


@p.copy.dispatch
def _copy(x: Array):
    return x


@p.applied.dispatch
def _applied(x: Array, function: Any):
    return function(x)


@p.conj.dispatch
def _conj(x: Array):
    return x.conj() if namespace.iscomplexobj(x) else x


@p.gather.dispatch
def _gather(x: Array, indices: Any):
    return namespace.take(x, p.to_numpy(indices), axis=0)


@p.pad_rows.dispatch
def _pad_rows(x: Array, rows: int):
    if rows <= x.shape[0]:
        return x[:rows]
    return namespace.pad(x, [(0, rows - x.shape[0])] + [(0, 0)] * (x.ndim - 1))


@p.spread.dispatch
def _spread(x: Array, start: int, step: int, rows: int):
    after = rows - start - max(step * (x.shape[0] - 1) + 1, 0)
    return jax.lax.pad(x, namespace.zeros((), x.dtype), [(start, after, step - 1)] + [(0, 0, 0)] * (x.ndim - 1))


@p.add_slice.dispatch
def _add_slice(y: Array, x: Array, start: int, axis: int):
    around = (start, y.shape[axis] - start - x.shape[axis])
    return y + namespace.pad(x, [around if place == axis else (0, 0) for place in range(x.ndim)])


@p.three_diagonals.dispatch
def _three_diagonals(x: Array, lower: Array, diagonal: Array, upper: Array, columns: bool):
    if columns:
        return _three_diagonals(x.T, lower, diagonal, upper, False).T
    n, axis = x.shape[-1], x.ndim - 1
    y = _add_slice(diagonal * x, lower * x[..., : n - 1], min(1, n), axis)
    return _add_slice(y, upper * x[..., 1:], 0, axis)


@p.reflected.dispatch
def _reflected(x: Array, v: Array, rows: bool):
    return None


@p.scatter.dispatch
def _scatter(x: Array, indices: Any, rows: int):
    places = namespace.zeros((rows, *x.shape[1:]), x.dtype).at[p.to_numpy(indices)]
    return places.max(x) if x.dtype == bool else places.add(x)  # JAX adds no booleans


@p.concatenate.dispatch
def _concatenate(first: Array, others: list):
    return namespace.concatenate([first, *others])


@p.eye.dispatch
def _eye(like: Array, n: int, dtype: Any):
    return namespace.eye(n, dtype=dtype)


@p.zeros.dispatch
def _zeros(like: Array, shape: tuple, dtype: Any):
    return namespace.zeros(shape, dtype)


@p.constant.dispatch
def _constant(like: Array, array: np.ndarray, dtype: Any):
    return namespace.asarray(array, dtype)


@p.map_columns.dispatch
def _map_columns(x: Array, function: Any):
    return jax.vmap(function, in_axes=1, out_axes=1)(x)


@p.value_of.dispatch
def _value_of(x: Array, function: Any):
    return jax.eval_shape(function, x)


@p.same_array.dispatch
def _same_array(a: Array, b: Array):
    if a is b:
        return True
    if isinstance(a, Tracer) or isinstance(b, Tracer) or a.shape != b.shape or a.dtype != b.dtype:
        return False
    # transposes and conjugates are copies, so arrays are compared by their numbers, where these are at hand
    if any(device.platform != "cpu" for device in (*a.devices(), *b.devices())):
        return False
    return np.array_equal(np.asarray(a), np.asarray(b))


@p.memory.dispatch
def _memory(x: Array):
    return id(x), tuple(range(x.ndim)), False  # no two arrays share memory that is seen


@p.solve_triangular.dispatch
def _solve_triangular(a: Array, b: Array, lower: bool, unit: bool):
    solve = partial(jax.scipy.linalg.solve_triangular, a, lower=lower, unit_diagonal=unit)
    if jax_mesh.on_mesh(b):  # where a call of LAPACK is one device's, which all vectors would be gathered for
        return namespace.matmul(solve(namespace.eye(a.shape[0], dtype=a.dtype)), b, precision="highest")
    return solve(b)


@p.indices_beside.dispatch
def _indices_beside(like: Array, indices: Any):
    return p.to_numpy(indices)


@p.device_of.dispatch
def _device_of(x: ArrayImpl):
    return x.sharding if len(x.devices()) > 1 else next(iter(x.devices()))


@p.device_of.dispatch
def _device_of_2(x: Tracer):
    return None


@p.to_numpy.dispatch
def _to_numpy(x: Array):
    return np.asarray(x)


@p.any_nonzero.dispatch
def _any_nonzero(x: Array):
    return None


@p.on_mesh.dispatch
def _on_mesh(x: Array):
    return jax_mesh.on_mesh(x)


@p.mesh_product.dispatch
def _mesh_product(x: Array, operator: Any, axis: int):
    return jax_mesh.multiply(x, operator, axis)


def convert(x: Any, dtype: Any, device: Any) -> jax.Array:
    """An array of any backend as one of this backend; see `linops.backends.asarray`."""
    array = x if isinstance(x, jax.Array) else backends.native(p.to_numpy(x))
    wanted = array.dtype if dtype is None else dtype
    held = jax.dtypes.canonicalize_dtype(wanted)
    if held != wanted:
        raise TypeError(
            f"JAX would turn {wanted} into {held}: "
            f"call jax.config.update('jax_enable_x64', True) first, or ask for dtype={held.name!r}"
        )
    # a copy of others' memory: JAX would share it, and torch and NumPy write in place
    converted = namespace.array(array, dtype=dtype, copy=not isinstance(x, jax.Array))
    if isinstance(device, str):  # as others name it, such as "cpu" or "cuda:1"
        platform, _, number = device.partition(":")
        device = jax.devices(platform)[int(number or 0)]
    return converted if device is None else jax.device_put(converted, device)


register_jax()
