"""Products of many vectors in JAX on a CPU, in parts.

XLA gives every operation an array of its own, in fresh memory. Where the numbers between two operations exceed a core's
cache, they are written and read again from memory that the system hands out page by page. A loop over parts of the
vectors uses the same small arrays again and again.

Of vectors in rows a part is a piece of memory, and the loop is `jax.lax.map`. For gradients its parts are computed
again, one after the other, so that nothing between operations is kept. Columns are cut out and put back, in whose
derivatives JAX would copy the whole: they run so only where no gradient is wanted.
"""

from __future__ import annotations

from typing import Any, Union

import jax
from jax._src.array import ArrayImpl
from jax.core import Tracer

from linops import backends
from linops.backends import primitives as p
from linops.backends.jax_derivatives import varying_as
from linops.tuning import JAX_PART

Array = Union[ArrayImpl, Tracer]


@p.vectors_at_once.dispatch
def _vectors_at_once(x: Array, count: int):
    # on more devices the vectors may be divided among these, which cannot be seen while JAX traces
    if not isinstance(x, Tracer) or backends.device_kind(x) != "cpu" or jax.device_count() > 1:
        return 0
    sizes = (*range(JAX_PART, JAX_PART // 2, -1), *range(JAX_PART + 1, 2 * JAX_PART + 1))
    return next((size for size in sizes if size < count and not count % size), 0)


@p.rows_in_parts.dispatch
def _rows_in_parts(x: Array, product: Any, size: int):
    y = jax.lax.map(jax.checkpoint(product, prevent_cse=False), x.reshape(-1, size, x.shape[1]))
    return y.reshape(x.shape[0], y.shape[2])


@p.columns_in_parts.dispatch
def _columns_in_parts(x: Array, product: Any, size: int, rows: int):
    def one(place: Any, y: Any) -> Any:
        part = jax.lax.dynamic_slice_in_dim(x, place * size, size, 1)
        return jax.lax.dynamic_update_slice_in_dim(y, product(part).reshape(rows, size), place * size, 1)

    whole = varying_as(x, jax.numpy.zeros((rows, x.shape[1]), x.dtype))
    return jax.lax.fori_loop(0, x.shape[1] // size, one, whole)
