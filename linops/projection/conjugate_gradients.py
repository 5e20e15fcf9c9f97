"""Conjugate gradients on the normal equations of least squares (Hestenes and Stiefel, 1952), of arrays of any shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from linops import backends
from linops.linalg.parts import space_of
from linops.linalg.spectra import real_part


def conjugate_gradients(
    product: Callable[[Any], Any], x: Any, h: Any, steps: int, tol: float = 0.0
) -> tuple[Any, int, float]:
    """X nearer to the solution of G x = h.

    Args:
        product: x ↦ G x, with G positive semidefinite.
        x: Where it starts.
        h: The right-hand side.
        steps: How many at most.
        tol: It stops where the residual's norm is at most this share of that of h.

    Returns:
        x, steps, and the squared norm of the residual as a share of that of h; 0 where rounding ends the descent.
    """
    space: Any = space_of(h)

    def square(y: Any) -> Any:
        return space.sum(space.abs(y) ** 2)

    whole = float(square(h))
    r = h - product(x)
    p, left = r, square(r)
    for step in range(steps):
        if float(left) <= tol**2 * whole:
            return x, step, 0.0
        image = product(p)
        curve = float(space.sum(real_part(backends.conj(p) * image)))
        if curve <= 0:
            return x, step, 0.0
        length = left / curve
        x, r = x + length * p, r - length * image
        before, left = left, square(r)
        p = r + left / before * p
    return x, steps, float(left) / whole if whole else 0.0
