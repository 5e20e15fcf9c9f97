"""The work for linops and its peers: operators of one structure, their leaves as plain arrays, and an operand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse

import linops as lo
from linops import backends
from linops.lab.measure import compiler

BATCHES = (1, 16, 256)

#: the integers that a backend prefers
INDICES = {"numpy": "int64", "torch": "int64", "jax": "int32"}

#: work → (name of the size, arguments of its maker) in rising order; a quick run takes the first
SIZES: dict[str, dict[str, tuple[Any, ...]]] = {
    "kronecker": {
        "32×32 ⊗ 32×32": ((32, 32), (32, 32)),
        "64×16 ⊗ 16×64": ((64, 16), (16, 64)),
        "8×8 ⊗ 8×8 ⊗ 8×8": ((8, 8), (8, 8), (8, 8)),
        "64×64 ⊗ 64×64": ((64, 64), (64, 64)),
        "8×16 ⊗ 16×8 ⊗ 8×16": ((8, 16), (16, 8), (8, 16)),
        "16×16 ⊗ 16×16 ⊗ 16×16": ((16, 16), (16, 16), (16, 16)),
    },
    "block_diag": {
        "16 of 16×16": (16, 16, 16),
        "32 of 32×32": (32, 32, 32),
        "16 of 32×64": (16, 32, 64),
        "64 of 64×64": (64, 64, 64),
    },
    "permuted": {"16, 16": (16, 16), "32, 32": (32, 32), "64, 64": (64, 64)},
    "low_rank": {"1024, rank 16": (1024, 16), "4096, rank 64": (4096, 64)},
    "toeplitz": {"256×256": (256, 256), "1000×1000": (1000, 1000), "4096×4096": (4096, 4096)},
    "symmetric_toeplitz": {"1000×1000": (1000,), "4096×4096": (4096,)},
    "circulant": {"1024": (1024,), "1021": (1021,), "4096": (4096,)},
    "sparse": {"1024×1024, 8 a row": (1024, 1024, 8), "16384×16384, 8 a row": (16384, 16384, 8)},
}

#: how many of the sizes a quick run takes
QUICK = {"kronecker": 3}


@dataclass(frozen=True)
class Case:
    """One product.

    Attributes:
        work: A key of `SIZES`, which says the structure.
        size: What `SIZES` calls the size.
        batch: Number of vectors.
        backend: ``"numpy"``, ``"torch"`` or ``"jax"``.
        dtype: ``"float32"`` or ``"float64"``.
        arrays: The leaves, on the backend: the factors of ``kronecker`` (any number), ``blocks`` (b, p, q) of
            ``block_diag``, ``left`` and ``right`` (b, s, s) of ``permuted``, ``U`` and ``V`` of ``low_rank``, ``c`` and
            ``r`` of ``toeplitz``, ``c`` of ``symmetric_toeplitz`` and ``circulant``, ``values, rows, columns`` of
            ``sparse``.
        operator: The operator of linops.
        x: The operand: (n,) for one vector, else (n, batch).
    """

    work: str
    size: str
    batch: int
    backend: str
    dtype: str
    arrays: dict[str, Any]
    operator: lo.LinearOperator = field(repr=False)
    x: Any = field(repr=False)

    def product(self) -> Any:
        """How linops is called: a function of no arguments; on JAX compiled, with the operator as an argument."""
        return call(self.backend, lambda A, x: A @ x, self.operator, self.x)

    def numpy(self, name: str) -> np.ndarray:
        """A leaf as a NumPy array."""
        return backends.to_numpy(self.arrays[name])

    def permutations(self) -> tuple[Any, Any]:
        """The permutation of ``permuted`` that acts first, as indices, y[i] = x[indices[i]]; and its inverse."""
        b, s, _ = self.arrays["left"].shape
        indices = np.arange(b * s)
        both = indices.reshape(s, b).T.ravel(), indices.reshape(b, s).T.ravel()
        return tuple(backends.asarray(each, self.backend, INDICES[self.backend]) for each in both)

    @property
    def csr(self) -> Any:
        """The matrix of ``sparse``, as scipy's."""
        positions = (self.numpy("rows"), self.numpy("columns"))
        return scipy.sparse.coo_array((self.numpy("values"), positions), shape=self.operator.shape).tocsr()


def call(backend: str, function: Any, *arguments: Any) -> Any:
    """A function of no arguments that calls another with these, compiled on JAX.

    Args:
        backend: The backend.
        function: The function.
        *arguments: Its arguments: pytrees of arrays on JAX.

    Returns:
        The function.
    """
    compiled = compiler(backend)[0](function)
    return lambda: compiled(*arguments)


def cases(backend: str, quick: bool = False, works: tuple[str, ...] = tuple(SIZES)) -> Iterator[Case]:
    """All cases of a backend, in float32.

    Args:
        backend: ``"numpy"``, ``"torch"`` or ``"jax"``.
        quick: Whether to take few sizes.
        works: Keys of `SIZES`.

    Yields:
        The cases.
    """
    for work in works:
        sizes = list(SIZES[work])
        for size in sizes[: QUICK.get(work, 1)] if quick else sizes:
            for batch in BATCHES:
                yield case(work, size, batch, backend)


def case(work: str, size: str, batch: int, backend: str, dtype: str = "float32") -> Case:
    """One case, its numbers the same on every backend.

    Args:
        work: A key of `SIZES`.
        size: A key of its sizes.
        batch: Number of vectors.
        backend: ``"numpy"``, ``"torch"`` or ``"jax"``.
        dtype: Of the numbers.

    Returns:
        The case.
    """
    random = np.random.default_rng(0)
    leaves = LEAVES[work](random, *SIZES[work][size])
    arrays = {
        name: backends.asarray(leaf, backend, dtype if leaf.dtype.kind == "f" else INDICES[backend])
        for name, leaf in leaves.items()
    }
    operator = OPERATORS[work](arrays, *SIZES[work][size])
    n = operator.shape[1]
    x = random.standard_normal(n if batch == 1 else (n, batch))
    return Case(work, size, batch, backend, dtype, arrays, operator, backends.asarray(x, backend, dtype))


def _sparse(random: np.random.Generator, m: int, n: int, entries: int) -> dict[str, np.ndarray]:
    rows = np.repeat(np.arange(m), entries)
    columns = np.concatenate([np.sort(random.choice(n, entries, replace=False)) for _ in range(m)])
    return {"values": random.standard_normal(m * entries), "rows": rows, "columns": columns}


#: work → the leaves of an operator, as NumPy arrays
LEAVES: dict[str, Any] = {
    "kronecker": lambda random, *shapes: {
        f"factor {k}": random.standard_normal(shape) for k, shape in enumerate(shapes)
    },
    "block_diag": lambda random, *shape: {"blocks": random.standard_normal(shape)},
    "permuted": lambda random, b, s: {name: random.standard_normal((b, s, s)) for name in ("left", "right")},
    "low_rank": lambda random, n, rank: {
        "U": random.standard_normal((n, rank)),
        "V": random.standard_normal((rank, n)),
    },
    "toeplitz": lambda random, m, n: {"c": random.standard_normal(m), "r": random.standard_normal(n)},
    "symmetric_toeplitz": lambda random, n: {"c": random.standard_normal(n)},
    "circulant": lambda random, n: {"c": random.standard_normal(n)},
    "sparse": _sparse,
}


def _permuted(arrays: dict[str, Any], b: int, s: int) -> lo.LinearOperator:
    permute = lo.Permute.axes((s, b), (1, 0))
    return permute.T @ lo.BlockDiag(arrays["left"]) @ permute @ lo.BlockDiag(arrays["right"])


#: work → the operator of linops
OPERATORS: dict[str, Any] = {
    "kronecker": lambda arrays, *_: lo.Kronecker(*arrays.values()),
    "block_diag": lambda arrays, *_: lo.BlockDiag(arrays["blocks"]),
    "permuted": _permuted,
    "low_rank": lambda arrays, *_: lo.LowRank(arrays["U"], arrays["V"]),
    "toeplitz": lambda arrays, *_: lo.Toeplitz(arrays["c"], arrays["r"]),
    "symmetric_toeplitz": lambda arrays, *_: lo.Toeplitz(arrays["c"], arrays["c"]),
    "circulant": lambda arrays, *_: lo.Circulant(arrays["c"]),
    "sparse": lambda arrays, m, n, _: lo.Sparse(arrays["values"], arrays["rows"], arrays["columns"], (m, n)),
}
