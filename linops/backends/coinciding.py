"""When eigenvalues or singular values count as one: where they differ by rounding alone."""

from __future__ import annotations


def rounding_of_values(count: int, eps: float) -> float:
    """How far apart rounding may bring equal ones of count values, relative to the largest.

    A few columns carry the rounding of the larger matrix that they came from, so that it is not count · eps.
    """
    return (count + 16) * eps
