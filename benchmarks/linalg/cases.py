"""The work for linops and its peers: matrices of one structure, right-hand sides, and what is right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import scipy.sparse.linalg

import linops as lo
from linops import backends

PSD = lo.Tag.POSITIVE_DEFINITE

#: σ² of the Kronecker products with noise
NOISE = 0.5
#: how exactly iterations are asked to solve, by all
RTOL = 1e-6


@dataclass(frozen=True)
class Work:
    """What is to be computed.

    Attributes:
        task: ``"solve"``, ``"logdet"``, ``"slogdet"`` or ``"eigsh"``.
        make: (random numbers) → (the leaves as NumPy arrays, the solution or None).
        operator: The leaves on some backend → the operator of linops.
        tolerance: Relative errors up to which a result counts as one.
        method: A name in `lo.linalg` of the method that is asked for, and its arguments; None for what a rule says.
    """

    task: str
    make: Callable[[np.random.Generator], tuple[dict[str, np.ndarray], Any]] = field(repr=False)
    operator: Callable[[dict[str, Any]], Any] = field(repr=False)
    tolerance: float = 1e-8
    method: tuple[str, dict[str, Any]] | None = None

    @property
    def is_kept(self) -> bool:
        """Whether there is something to keep for more right-hand sides."""
        return self.task == "solve"


@dataclass(frozen=True)
class Case:
    """A work with its numbers.

    Attributes:
        name: A key of `WORKS`.
        work: The work.
        arrays: The leaves, as NumPy arrays in float64.
        expected: The solution, or (sign,) logarithm, or eigenvalues.
        b: Right-hand sides, of a solve.
    """

    name: str
    work: Work
    arrays: dict[str, np.ndarray]
    expected: Any
    b: Any

    def on(self, backend: str) -> tuple[dict[str, Any], Any]:
        """The leaves and the right-hand sides on a backend."""
        arrays = {name: _moved(leaf, backend) for name, leaf in self.arrays.items()}
        return arrays, None if self.b is None else _moved(self.b, backend)

    def error(self, found: Any) -> float:
        """How far a result is off, relative to the norm of what is right."""
        parts = found if isinstance(found, tuple) else (found,)
        flat = np.concatenate([np.ravel(_plain(part)) for part in parts])
        expected = np.ravel(self.expected)
        if flat.size != expected.size:
            return float("inf")
        if self.work.task == "eigsh":
            flat, expected = np.sort(flat), np.sort(expected)
        error = np.linalg.norm(flat - expected) / np.linalg.norm(expected)
        return float(error) if np.isfinite(error) else float("inf")


def _plain(part: Any) -> np.ndarray:
    return np.asarray(backends.to_numpy(part) if backends.is_array(part) else part, "float64")


def _moved(array: np.ndarray, backend: str) -> Any:
    return backends.asarray(array, backend, array.dtype.name)


@cache
def case(name: str) -> Case:
    """A work with its numbers, which are the same at each run.

    Args:
        name: A key of `WORKS`.

    Returns:
        The case.
    """
    work = WORKS[name]
    arrays, solution = work.make(np.random.default_rng(0))
    if work.task != "solve":
        return Case(name, work, arrays, solution, None)
    return Case(name, work, arrays, solution, work.operator(arrays) @ solution)


def definite(random: np.random.Generator, n: int) -> np.ndarray:
    """A positive definite matrix of condition below ten."""
    a = random.standard_normal((n, n))
    return a @ a.T / n + np.eye(n)


def _general(random: np.random.Generator, n: int) -> np.ndarray:
    return random.standard_normal((n, n)) / np.sqrt(n) + 1.5 * np.eye(n)


def _three(make: Any, task: str, noise: float = 0) -> Any:
    def made(random: np.random.Generator) -> Any:
        factors = [make(random, 64) for _ in range(3)]
        arrays = {f"factor {k}": factor for k, factor in enumerate(factors)}
        if task == "solve":
            return arrays, random.standard_normal(64**3)
        if not noise:
            found = [np.linalg.slogdet(factor) for factor in factors]
            return arrays, (np.prod([sign**4096 for sign, _ in found]), 4096 * sum(log for _, log in found))
        one, two, three = map(np.linalg.eigvalsh, factors)
        return arrays, np.log((one[:, None, None] * two[:, None] * three) + noise).sum()

    return made


def _kronecker(arrays: dict[str, Any]) -> Any:
    return lo.Kronecker(*arrays.values())


def _definite_kronecker(arrays: dict[str, Any]) -> Any:
    return lo.Kronecker(*(lo.assume(lo.Dense(factor), PSD) for factor in arrays.values()))


def _noisy_kronecker(arrays: dict[str, Any]) -> Any:
    return _definite_kronecker(arrays) + NOISE * lo.Identity(64**3)


def _laplace(random: np.random.Generator) -> Any:
    n = 256
    return {"beside": -np.ones(n - 1), "diagonal": 2 * np.ones(n)}, random.standard_normal(n * n)


def _poisson(arrays: dict[str, Any]) -> Any:
    line = lo.Tridiagonal(arrays["beside"], arrays["diagonal"], arrays["beside"])
    return lo.KroneckerSum(line, line)


def _blocks(random: np.random.Generator) -> Any:
    return {"blocks": np.stack([_general(random, 64) for _ in range(64)])}, random.standard_normal((4096, 16))


def _toeplitz(random: np.random.Generator) -> Any:
    n = 4096
    c, r = 0.9 ** np.arange(n), 0.7 ** np.arange(n)
    c, r = c * random.standard_normal(n), r * random.standard_normal(n)
    c[0] = r[0] = 4
    return {"c": c, "r": r}, random.standard_normal(n)


def _autocovariance(random: np.random.Generator) -> Any:
    c = np.exp(-np.arange(4096) / 20.0)
    c[0] += 0.1
    return {"c": c}, random.standard_normal(4096)


def _three_diagonals(random: np.random.Generator) -> Any:
    n = 10**6
    lower, upper = (random.standard_normal(n - 1) for _ in range(2))
    return {"lower": lower, "diagonal": 4 + random.random(n), "upper": upper}, random.standard_normal(n)


def _dense_definite(random: np.random.Generator) -> Any:
    return {"matrix": definite(random, 2000)}, random.standard_normal((2000, 64))


def _low_rank(random: np.random.Generator) -> Any:
    n, rank = 10**5, 32
    return {"U": random.standard_normal((n, rank)) / 100, "d": 1 + random.random(n)}, random.standard_normal(n)


def _logdet(random: np.random.Generator) -> Any:
    matrix = definite(random, 2000)
    return {"matrix": matrix}, np.linalg.slogdet(matrix)[1]


def _sparse(random: np.random.Generator) -> Any:
    n, each = 10**5, 5
    rows = np.repeat(np.arange(n), each)
    half = scipy.sparse.coo_array((random.standard_normal(n * each), (rows, random.integers(0, n, n * each))), (n, n))
    whole = (half + half.T + 100 * scipy.sparse.diags_array(1 / np.arange(1.0, n + 1))).tocoo()
    values = scipy.sparse.linalg.eigsh(whole.tocsr(), 10, which="LA", return_eigenvectors=False, v0=np.ones(n))
    return {"values": whole.data, "rows": whole.row.astype("int64"), "columns": whole.col.astype("int64")}, values


WORKS: dict[str, Work] = {
    "kronecker": Work("solve", _three(_general, "solve"), _kronecker),
    "kronecker_definite": Work("solve", _three(definite, "solve"), _definite_kronecker),
    "kronecker_slogdet": Work("slogdet", _three(_general, "slogdet"), _kronecker),
    "kronecker_noise": Work("solve", _three(definite, "solve"), _noisy_kronecker),
    "kronecker_noise_logdet": Work("logdet", _three(definite, "logdet", NOISE), _noisy_kronecker),
    "poisson": Work("solve", _laplace, _poisson),
    "block_diag": Work("solve", _blocks, lambda arrays: lo.BlockDiag(arrays["blocks"])),
    "toeplitz": Work("solve", _toeplitz, lambda arrays: lo.Toeplitz(arrays["c"], arrays["r"])),
    "toeplitz_definite": Work(
        "solve",
        _autocovariance,
        lambda arrays: lo.assume(lo.Toeplitz(arrays["c"], arrays["c"]), PSD),
    ),
    "tridiagonal": Work(
        "solve",
        _three_diagonals,
        lambda arrays: lo.Tridiagonal(arrays["lower"], arrays["diagonal"], arrays["upper"]),
    ),
    "low_rank": Work(
        "solve",
        _low_rank,
        lambda arrays: lo.LowRank(arrays["U"], arrays["U"].T) + lo.Diagonal(arrays["d"]),
    ),
    "cg": Work(
        "solve",
        _dense_definite,
        lambda arrays: lo.assume(lo.Dense(arrays["matrix"]), PSD),
        1e-4,
        ("CG", {"rtol": RTOL}),
    ),
    "slq": Work(
        "logdet",
        _logdet,
        lambda arrays: lo.assume(lo.Dense(arrays["matrix"]), PSD),
        2e-2,
        ("SLQ", {"samples": 10, "steps": 20, "seed": 0}),
    ),
    "eigsh": Work(
        "eigsh",
        _sparse,
        lambda arrays: lo.assume(
            lo.Sparse(arrays["values"], arrays["rows"], arrays["columns"], (10**5, 10**5)), lo.Tag.SYMMETRIC
        ),
    ),
}
