"""Pivots of Hermitian tridiagonal matrices by segments of rows, which join in any order: a scan, in parallel.

Elimination makes of the pivot δ before a segment that of its last row, γ − β / (δ + α). One row is γ = d_i, β =
|A_(i, i−1)|², α = 0. All that is subtracted when two are joined makes a Schur complement, so that it is as exact as
elimination row after row where the matrix is positive definite.
"""

from __future__ import annotations

from typing import Any


def joined(one: Any, other: Any) -> tuple[Any, Any, Any]:
    """(γ, β, α) of segments and, each, of the rows after it, together.

    Args:
        one: Three arrays (k,).
        other: Three arrays (k,).

    Returns:
        Three arrays (k,).
    """
    last, beside, ahead = one
    end, between, before = other
    pivot = last + before
    share, ratio = between / pivot, beside / pivot
    return end - share, ratio * share, ahead - ratio
