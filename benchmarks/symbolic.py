"""Counting an expression of 10^12 parameters: time and memory."""

from __future__ import annotations

import tracemalloc
from typing import Any

import linops as lo
from linops.lab.measure import side_by_side


def count() -> tuple[int, int]:
    """Build an expression of 10^12 parameters, and count parameters and FLOPs.

    Returns:
        (parameters, FLOPs for one vector).
    """
    n = 10**6
    permute = lo.Permute.axes((1000, 1000), (1, 0))
    operator = lo.Dense(lo.spec(n, n)) @ permute.T @ lo.BlockDiag(lo.spec(1000, 1000, 1000)) @ permute
    return operator.num_params, operator.flops()


def measure() -> list[dict[str, Any]]:
    """Counting an expression of 10^12 parameters (goals: 1 ms, 1 MB).

    Returns:
        Parameters, median milliseconds, and the peak of memory allocated by Python in bytes.
    """
    parameters, flops = count()
    tracemalloc.start()
    count()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    took = side_by_side({"count": count}, seconds=1.0)["count"].median
    return [{"parameters": parameters, "flops": flops, "milliseconds": 1e3 * took, "peak_bytes": peak}]
