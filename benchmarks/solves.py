"""Overhead of a solve by rule: tiny operators over the bare kernels, on NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

import linops as lo
from benchmarks.overhead import ROUNDS, Pair
from linops.lab.measure import side_by_side


def solves() -> dict[str, Pair]:
    """Solves with tiny operators by rule, with the bare kernels beside them: name → (linops, bare). On NumPy.

    Returns:
        The pairs; those whose name ends in "kept" multiply by an inverse that is kept.
    """
    random = np.random.default_rng(0)
    eight, other = (random.standard_normal((8, 8)) + 4 * np.eye(8) for _ in range(2))
    stack = random.standard_normal((8, 8, 8)) + 4 * np.eye(8)
    short, vector = random.standard_normal(8), random.standard_normal(64)
    numbers = 1 + random.random(64)
    dense, diagonal, blocks = lo.Dense(eight), lo.Diagonal(numbers), lo.BlockDiag(stack)
    kronecker = lo.Kronecker(eight, other)
    one, two, three = (np.linalg.inv(each) for each in (eight, other, stack))
    kept = [lo.linalg.inv(each) for each in (dense, diagonal, blocks, kronecker)]
    reciprocals = 1 / numbers
    solve = lo.linalg.solve

    def turned() -> Any:
        half = np.linalg.solve(eight, vector.reshape(8, 8))
        return np.linalg.solve(other, half.T).T.reshape(64)

    return {
        "solve, Dense": (lambda: solve(dense, short), lambda: np.linalg.solve(eight, short)),
        "solve, Diagonal": (lambda: solve(diagonal, vector), lambda: vector / numbers),
        "solve, BlockDiag": (
            lambda: solve(blocks, vector),
            lambda: np.linalg.solve(stack, vector.reshape(8, 8, 1)).reshape(64),
        ),
        "solve, Kronecker": (lambda: solve(kronecker, vector), turned),
        "solve, Dense, kept": (lambda: kept[0] @ short, lambda: one @ short),
        "solve, Diagonal, kept": (lambda: kept[1] @ vector, lambda: reciprocals * vector),
        "solve, BlockDiag, kept": (lambda: kept[2] @ vector, lambda: (three @ vector.reshape(8, 8, 1)).reshape(64)),
        "solve, Kronecker, kept": (
            lambda: kept[3] @ vector,
            lambda: (one @ vector.reshape(8, 8) @ two.T).reshape(64),
        ),
    }


def measure(seconds: float = 1.0) -> list[dict[str, Any]]:
    """Microseconds of a solve by rule over the bare kernels, on NumPy (goal: at most 10).

    Args:
        seconds: About how long to measure each.

    Returns:
        Rows with microseconds: the least of many short samples, for what else runs on the machine can only add to them.
    """
    rows = []
    for name, (ours, bare) in solves().items():
        times = side_by_side({"linops": ours, "bare": bare}, seconds=seconds, rounds=ROUNDS)
        least, bare_least = (1e6 * min(times[which].seconds) for which in ("linops", "bare"))
        row = {"what": name, "microseconds": least, "bare": bare_least}
        rows.append(row | {"overhead": least - bare_least, "goal": 10})
    return rows
