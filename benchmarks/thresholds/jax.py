"""Constants of JAX, all ways compiled."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import linops as lo
from benchmarks.thresholds.case import Case, normal
from linops.backends.jax_mesh import _by_matrix, _chirped, _in_two
from linops.backends.jax_parts import _columns_in_parts
from linops.backends.jax_sparse import _compressed_rows, _segment_sums
from linops.lab.measure import Function
from linops.plan import natural_order
from linops.tuning import JAX_PART


def _sparse(batch: int) -> tuple[int, Function, Function]:
    n, entries = 4096, 1 << 14
    rows, columns = np.random.default_rng(0).integers(0, n, (2, entries))
    A = lo.Sparse(normal("jax", entries), rows, columns, (n, n))
    it, x = A._positions(), normal("jax", n, batch)
    return (
        batch,
        lambda: _segment_sums(A.values, it.rows, it.columns, x, n, True),
        lambda: _compressed_rows(A.values, it.columns, it.row_starts, it.by_row, x, n),
    )


def _transforms(length: int, other: str) -> tuple[int, Function, Function]:
    x = jax.lax.complex(normal("jax", 256, length), normal("jax", 256, length))
    whole = jax.jit(partial(_by_matrix, n=length, sign=-1, dtype=jnp.complex64))
    apart = jax.jit(partial(_chirped if other == "chirp" else _in_two, n=length, sign=-1, dtype=jnp.complex64))
    return length, lambda: whole(x), lambda: apart(x)


def _apart(numbers: int) -> tuple[int, Function, Function]:
    first, second = normal("jax", 16, 64, 16), normal("jax", 16, 16, 64)
    x = normal("jax", 16, 16, numbers // 1024)

    def gradient(keep: Callable[[Any], Any]) -> Function:
        def product(first: Any, second: Any, x: Any) -> Any:
            between = (first @ keep(x)).reshape(64, 16, -1)
            return second @ keep(between.swapaxes(0, 1))

        step = jax.jit(lambda *given: jax.vjp(product, *given)[1](jnp.ones((16, 16, x.shape[2]))))
        return lambda: step(first, second, x)[0]

    return numbers, gradient(lambda x: x), gradient(jax.lax.optimization_barrier)


def _repeated(batch: int) -> tuple[int, Function, Function]:
    a, x = normal("jax", 16, 64), normal("jax", 16, 64, batch)
    one, repeated = jax.jit(jnp.matmul), jax.jit(lambda a, x: jnp.broadcast_to(a, (16, *a.shape)) @ x)
    return batch, lambda: one(a, x), lambda: repeated(a, x)


def _in_parts(count: int, size: int) -> Function:
    """BTT of rank 4 and d = 1024 with 2^14 bytes between its products a vector; all at once, or so many at a time."""
    A, x = lo.btt(1024, 1024, rank=4).init(seed=0, backend="jax"), normal("jax", 1024, count)

    def product(A: Any, x: Any) -> Any:
        with natural_order():
            return _columns_in_parts(x, lambda x: A @ x, size, 1024) if size < count else A @ x

    compiled = jax.jit(product)
    return lambda: compiled(A, x)


def _parts(size: int) -> tuple[int, Function, Function]:
    count = size >> 14
    return size, _in_parts(count, count), _in_parts(count, JAX_PART)


def _part(size: int) -> tuple[int, Function, Function]:
    return size, _in_parts(2048, size), _in_parts(2048, JAX_PART)


PRIMES = (127, 257, 1021, 2053)
CASES = [
    Case("JAX_APART", "jax", "gradient of BTT of rank 4", ("in one", "apart"), _apart),
    Case("JAX_REPEATED", "jax", "16×64 times a stack of 16", ("one product", "repeated"), _repeated),
    Case("JAX_PARTS", "jax", "BTT of rank 4, bytes between products", ("whole", "in parts"), _parts),
    Case("JAX_PART", "jax", "the same in parts, 32 MiB", ("of this size", "of the constant"), _part, best=True),
    Case("JAX_COMPRESSED", "jax", "16,384 sparse entries", ("sums over segments", "compressed rows"), _sparse),
    Case("JAX_WHOLE", "jax", "transform by products", ("one", "two"), partial(_transforms, other="two")),
    Case(
        "JAX_PRIME",
        "jax",
        "transform of a prime",
        ("one product", "chirp"),
        partial(_transforms, other="chirp"),
        PRIMES,
    ),
]
