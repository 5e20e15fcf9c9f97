"""NumPy's tests of matmul: where an operand is a matrix, it becomes a linops operator; where both are, each in turn."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

import linops as lo


def substituted(original: Callable[..., Any]) -> Callable[..., Any]:
    """A matmul by operators; the original where no operand is a matrix of numbers, or an `out` is given."""

    def matmul(a: Any, b: Any, *args: Any, **options: Any) -> Any:
        numbers = all(isinstance(x, np.ndarray) and x.dtype.kind in "fciub" for x in (a, b))
        if args or options or not numbers or 2 not in (a.ndim, b.ndim):
            return original(a, b, *args, **options)
        results = [lo.Dense(a) @ b] if a.ndim == 2 else []
        results += [a @ lo.Dense(b)] if b.ndim == 2 else []
        np.testing.assert_array_equal(results[0], results[-1], strict=True)
        return results[0]

    return matmul


class Proxy:
    """NumPy with another matmul."""

    matmul = staticmethod(substituted(np.matmul))

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def install(module: Any) -> None:
    """Patch NumPy's test module."""
    module.np = Proxy()
    module.TestMatmul.matmul = staticmethod(substituted(np.matmul))
    module.TestMatmulOperator.matmul = staticmethod(substituted(operator.matmul))
