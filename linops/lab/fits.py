"""Power laws through measured points, with standard errors, and what follows from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from typing import Any

import numpy as np
from scipy.stats import linregress


@dataclass(frozen=True)
class PowerLaw:
    """y = coefficient · x^exponent, by least squares of log y on log x.

    Attributes:
        exponent: The slope on log axes.
        standard_error: Of the exponent; NaN through two points.
        coefficient: y at x = 1.
    """

    exponent: float
    standard_error: float
    coefficient: float

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """The law at x."""
        return self.coefficient * np.asarray(x, float) ** self.exponent

    def __str__(self) -> str:
        error = f" ± {self.standard_error:.2f}" if isfinite(self.standard_error) else ""
        return f"{self.exponent:.2f}{error}"


def power_law(x: Sequence[float], y: Sequence[float]) -> PowerLaw:
    """Fits a power law.

    Args:
        x: Positive numbers, at least two different ones.
        y: Positive numbers, as many.

    Returns:
        The law.

    Raises:
        ValueError: If there are too few points, or one is not positive.

    Example:
        >>> law = power_law([1, 2, 4], [3, 12, 48])
        >>> round(law.exponent, 6), round(law.coefficient, 6)
        (2.0, 3.0)
    """
    if len(x) != len(y) or len(set(x)) < 2 or min(*x, *y) <= 0:
        raise ValueError(
            f"power law through x = {list(x)}, y = {list(y)}: expected positive numbers and two different x"
        )
    fit: Any = linregress(np.log(x), np.log(y))
    error = float(fit.stderr) if len(x) > 2 else float("nan")
    return PowerLaw(float(fit.slope), error, float(np.exp(fit.intercept)))


def exponent_gap(
    x: Sequence[float], y: Sequence[float], reference_x: Sequence[float], reference_y: Sequence[float]
) -> tuple[float, float]:
    """By how much the exponent of a power law differs from another's, where both bend alike.

    Measured curves bend a little, so that two straight lines on log axes count a bend that both share as error of
    either. Here one quadratic in log x serves both, log y = a + b log x + c log² x, and the other has a level and a
    slope of its own beside: by least squares on all points at once.

    Args:
        x: Positive numbers.
        y: Positive numbers, as many.
        reference_x: Those of the reference.
        reference_y: As many.

    Returns:
        The exponent less that of the reference, and its standard error.

    Raises:
        ValueError: If there are no more points than the five coefficients, or one is not positive.

    Example:
        >>> x = [1, 2, 4, 8]
        >>> gap, error = exponent_gap(x, [z**-0.6 for z in x], x, [z**-0.5 for z in x])
        >>> round(gap, 6), error < 1e-6
        (-0.1, True)
    """
    count, other = len(x) + len(reference_x), np.arange(len(x) + len(reference_x)) < len(x)
    if (
        len(x) != len(y)
        or len(reference_x) != len(reference_y)
        or count <= 5
        or min(*x, *y, *reference_x, *reference_y) <= 0
    ):
        raise ValueError(
            f"exponent gap of {len(x)} points to {len(reference_x)}: expected positive numbers, six points at least"
        )
    position, value = np.log([*x, *reference_x]), np.log([*y, *reference_y])
    position = position - position.mean()
    design = np.stack([np.ones(count), position, position**2, other, other * position], axis=1)
    coefficients, *_ = np.linalg.lstsq(design, value, rcond=None)
    variance = np.sum((value - design @ coefficients) ** 2) / (count - 5)
    return float(coefficients[4]), float(np.sqrt(variance * np.linalg.pinv(design.T @ design)[4, 4]))


def compute_multiplier(
    reference: Sequence[tuple[float, float]], other: Sequence[tuple[float, float]], loss: float
) -> float | None:
    """How many times another curve's compute the reference needs for a loss, between neighbouring points on log axes.

    Args:
        reference: (compute, loss) points.
        other: (compute, loss) points of the other.
        loss: The loss that both must reach.

    Returns:
        The ratio; None where one of them does not reach the loss within its points.

    Example:
        >>> round(compute_multiplier([(100, 1.0), (400, 0.5)], [(25, 1.0), (100, 0.5)], loss=0.5), 6)
        4.0
    """
    ours, theirs = _compute_for(reference, loss), _compute_for(other, loss)
    return None if ours is None or theirs is None else ours / theirs


def _compute_for(points: Sequence[tuple[float, float]], loss: float) -> float | None:
    """The least compute at which the curve is at the loss."""
    ordered = sorted(points)
    for (x, y), (next_x, next_y) in pairwise(ordered):
        if y >= loss >= next_y:
            if y == next_y:
                return x
            share = np.log(y / loss) / np.log(y / next_y)
            return float(np.exp(np.log(x) + share * np.log(next_x / x)))
    return None
