"""NumPy's tests of matmul: where one operand is a matrix, it becomes a linops operator; where both are, each in turn."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

import linops as lo

from . import counts


def matmul(a: Any, b: Any, *args: Any, **options: Any) -> Any:
    """`numpy.matmul` by an operator; NumPy's own where no operand is a matrix of numbers, or an `out` is given, which operators have not."""
    if args or options or not all(isinstance(x, np.ndarray) and x.dtype.kind in "fciub" for x in (a, b)):
        return np.matmul(a, b, *args, **options)
    results = []
    if a.ndim == 2:
        results.append(counts.counting(operator.matmul)(lo.Dense(a), b))
    if b.ndim == 2:
        results.append(counts.counting(operator.matmul)(a, lo.Dense(b)))
    if not results:
        return np.matmul(a, b)
    if len(results) == 2:
        np.testing.assert_array_equal(*results, strict=True)
    return results[-1]


class Proxy:
    """NumPy with another matmul."""

    def __getattr__(self, name: str) -> Any:
        return matmul if name == "matmul" else getattr(np, name)


def install(module: Any) -> None:
    """Patch a test module of NumPy."""
    module.np = Proxy()
    for name in ("TestMatmul", "TestMatmulOperator"):
        setattr(getattr(module, name), "matmul", staticmethod(matmul))
