"""How often linops multiplied in the test that runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import linops as lo

#: products of linops since the test began
products = 0


def counting(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, counted."""

    @wraps(function)
    def counted(*args: Any, **options: Any) -> Any:
        global products
        products += 1
        return function(*args, **options)

    return counted


def install() -> None:
    """Count every product with an array, whoever asks for it and in whatever wrapping."""
    for name in ("_matmul", "_rmatmul"):
        setattr(lo.LinearOperator, name, counting(getattr(lo.LinearOperator, name)))
