"""The work for `lo.project` and its peers: matrices, structures, and how far a result is off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from math import sqrt
from typing import Any

import numpy as np
import scipy.linalg

from linops import backends

ALONE = "linops, start alone"


@dataclass(frozen=True)
class Work:
    """What is to be found.

    Attributes:
        kind: ``"tensor_train"``, ``"low_rank"``, ``"butterfly"``, ``"blocks"``, ``"activations"`` or ``"kronecker"``.
        size: n of the matrix n×n.
        target: The structure, as `lo.project` takes it.
        rank: Of the structure, where it has one.
        dims: How rows and columns are split.
        order: Of blocks: W over (rows' dims, columns' dims) in the order blocks, blocks, rows, columns.
        matrix: ``"random"``, ``"hadamard"`` or ``"decaying"``, with singular values 1/√k.
        variants: How linops is called: a name → options. Peers are compared with the first.
    """

    kind: str
    size: int
    target: str
    rank: int = 1
    dims: tuple[int, ...] = ()
    order: tuple[int, ...] = ()
    matrix: str = "random"
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"linops": {}})


@dataclass(frozen=True)
class Case:
    """A work with its numbers.

    Attributes:
        name: A key of `WORKS`.
        work: The work.
        W: The matrix, as a NumPy array in float32.
        C: The second moment of its inputs, or None.
    """

    name: str
    work: Work
    W: np.ndarray
    C: np.ndarray | None = None

    def on(self, backend: str) -> tuple[Any, Any]:
        """W and C on a backend."""
        return tuple(None if x is None else backends.asarray(x, backend, "float32") for x in (self.W, self.C))  # type: ignore[return-value]

    def error(self, found: Any) -> float:
        """‖(W − Ŵ) C^½‖ / ‖W C^½‖ of a matrix."""
        off = self.W.astype("float64") - np.asarray(found, "float64")
        return sqrt(self._square(off) / self._square(self.W.astype("float64")))

    def _square(self, E: np.ndarray) -> float:
        return float(np.vdot(E, E if self.C is None else E @ self.C.astype("float64")))

    def optimum(self) -> float | None:
        """The least error of any matrix of the rank, in double precision; None of other structures."""
        if self.work.kind not in ("low_rank", "activations"):
            return None
        W = self.W.astype("float64")
        squares = np.linalg.eigvalsh(W @ (W.T if self.C is None else self.C.astype("float64") @ W.T))
        return sqrt(max(squares[: -self.work.rank].sum() / squares.sum(), 0.0))


def decaying(random: np.random.Generator, n: int, power: float) -> np.ndarray:
    """A matrix n×n of random singular vectors, with singular values k^power."""
    left, right = (np.linalg.qr(random.standard_normal((n, n), dtype="float32"))[0] for _ in range(2))
    return (left * np.arange(1, n + 1, dtype="float32") ** power) @ right


@cache
def case(name: str) -> Case:
    """A work with its numbers, which are the same at each run.

    Args:
        name: A key of `WORKS`.

    Returns:
        The case.
    """
    return made(name, WORKS[name])


def made(name: str, work: Work) -> Case:
    """A work with its numbers.

    Args:
        name: Its name.
        work: The work.

    Returns:
        The case.
    """
    random, n = np.random.default_rng(0), work.size
    match work.matrix:
        case "hadamard":
            W = np.asarray(scipy.linalg.hadamard(n) / sqrt(n), "float32")
        case "decaying":
            W = decaying(random, n, -0.5)
        case _:
            W = random.standard_normal((n, n), dtype="float32")
    if work.kind != "activations":
        return Case(name, work, W)
    X = decaying(random, n, -0.75)
    return Case(name, work, W, X.T @ X)


def _butterfly(size: int, matrix: str = "random") -> Work:
    return Work("butterfly", size, "butterfly", matrix=matrix, variants={ALONE: {"max_iterations": 0}, "linops": {}})


def _btt(size: int, first: int) -> Work:
    last = size // first
    return Work("blocks", size, "btt", 1, (first, last, first, last), (0, 2, 1, 3))


def _monarch(size: int, blocks: int) -> Work:
    inside = size // blocks
    rank = inside // blocks
    return Work("blocks", size, f"monarch:blocks={blocks}", rank, (inside, blocks, blocks, inside), (1, 2, 0, 3))


WORKS = {
    "tensor_train": Work("tensor_train", 1024, "tensor_train:rank=16", 16, (32, 32, 32, 32)),
    "tensor_train_3": Work(
        "tensor_train",
        1024,
        "tensor_train:rank=8:cores=3",
        8,
        (8, 8, 16, 16, 8, 8),
        variants={ALONE: {"max_iterations": 0}, "linops": {}},
    ),
    "low_rank_8": Work("low_rank", 2048, "low_rank:rank=8", 8, matrix="decaying"),
    "low_rank_64": Work("low_rank", 2048, "low_rank:rank=64", 64, matrix="decaying"),
    "butterfly_256_hadamard": _butterfly(256, "hadamard"),
    "butterfly_256": _butterfly(256),
    "butterfly_1024_hadamard": _butterfly(1024, "hadamard"),
    "butterfly_1024": _butterfly(1024),
    "btt_1024": _btt(1024, 32),
    "btt_2048": _btt(2048, 32),
    "btt_4096": _btt(4096, 64),
    "monarch_1024": _monarch(1024, 32),
    "monarch_2048": _monarch(2048, 32),
    "monarch_4096": _monarch(4096, 64),
    "monarch_2048_4": _monarch(2048, 4),
    "activations": Work("activations", 1024, "low_rank:rank=64", 64, matrix="decaying"),
    "kronecker": Work("kronecker", 2048, "kronecker", 1, (32, 64, 64, 32)),
}
