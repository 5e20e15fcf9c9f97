"""How often linops multiplied in the test that runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

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
