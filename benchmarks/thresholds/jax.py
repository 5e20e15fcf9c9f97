"""Constants of JAX, all ways compiled."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import linops as lo
from benchmarks.thresholds.case import Case, normal
from linops.backends.jax_mesh import _by_matrix, _chirped, _in_two
from linops.backends.jax_sparse import _compressed_rows, _segment_sums
from linops.lab.measure import Function


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


PRIMES = (127, 257, 1021, 2053)
CASES = [
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
