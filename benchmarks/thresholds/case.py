"""A case: two ways to compute the same, at points around a constant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from linops import backends, tuning
from linops.lab.measure import Function


@dataclass(frozen=True)
class Case:
    """Two ways to compute the same.

    Attributes:
        constant: The name of the constant in `linops.tuning`.
        backend: The backend.
        what: What is computed.
        ways: What the two ways are: up to the constant, and from it on; of a constant that is a best size, any other
            size and the constant's.
        make: From a point to its size, in the unit of the constant, and the two ways as functions.
        points: What is measured; by default a quarter, half, twice and four times the constant.
        best: Whether the constant is a best size, and no crossing.
        same: Whether the two ways give the same numbers.
    """

    constant: str
    backend: str
    what: str
    ways: tuple[str, str]
    make: Callable[[int], tuple[float, Function, Function]]
    points: tuple[int, ...] = ()
    best: bool = False
    same: bool = True

    def __post_init__(self) -> None:
        if not self.points:
            value = int(self.value)
            object.__setattr__(self, "points", (value // 4, value // 2, 2 * value, 4 * value))

    @property
    def value(self) -> float:
        """The constant; of several numbers the largest."""
        value = getattr(tuning, self.constant)
        return max(value) if isinstance(value, tuple) else value

    @property
    def text(self) -> float | str:
        """The constant as tables have it."""
        value = getattr(tuning, self.constant)
        return ", ".join(map(str, value)) if isinstance(value, tuple) else value


def normal(backend: str, *shape: int) -> Any:
    """Random numbers in float32.

    Args:
        backend: The backend.
        *shape: The shape.

    Returns:
        An array.
    """
    return backends.asarray(np.random.default_rng(0).standard_normal(shape), backend, "float32")


def split(size: int) -> tuple[int, int]:
    """A power of two as a product of two numbers, as equal as can be.

    Args:
        size: The power of two.

    Returns:
        The larger and the smaller number.
    """
    smaller = 1 << (size.bit_length() - 1) // 2
    return size // smaller, smaller
