"""What methods for a few eigenpairs have in common: starts, orthogonalisation, choice and convergence."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.parts import norms


class Found(NamedTuple):
    """Eigenpairs, in no order.

    Attributes:
        values: (k,) eigenvalues.
        vectors: (n, k) vectors of norm 1.
        residuals: (k,) norms ‖A v − λ v‖.
        converged: (k,) whether each is within tolerance.
        scale: The largest eigenvalue in absolute value that was met.
        iterations: How many products there were.
    """

    values: Any
    vectors: Any
    residuals: Any
    converged: Any
    scale: Any
    iterations: int


def noise(like: Any, shape: tuple[int, ...], dtype: Any, seed: Any) -> Any:
    """Normal numbers, the same ones on each framework."""
    random = np.random.default_rng(seed)
    numbers = random.standard_normal(shape)
    if backends.is_complex(dtype):
        numbers = numbers + 1j * random.standard_normal(shape)
    return backends.constant(like, numbers, dtype)


def start_vector(like: Any, n: int, dtype: Any, seed: int) -> Any:
    """A column of norm 1."""
    x = noise(like, (n, 1), dtype, seed)
    return x / norms(x)


def orthogonal(x: Any, rows: Any, seed: int) -> tuple[Any, Any, Any]:
    """A vector without what it has of orthonormal rows, of norm 1; noise so treated where nothing is left of it.

    Args:
        x: (n,).
        rows: (m, n), of norm 1 or 0.
        seed: Of the noise.

    Returns:
        The vector, the length of what was left (0 where that was nothing), and rowsᴴ x (m,).
    """
    space: Any = backends.namespace(backends.backend_of(x))
    across, before = backends.conj(rows), _length(x)
    share = across @ x
    x = x - share @ rows
    left = _length(x)
    if not lapack.is_known(left) or bool(left < 0.7 * before):  # twice is enough, and mostly needed
        again = across @ x
        x, share = x - again @ rows, share + again
        left = _length(x)
    lost = left <= 100 * float(space.finfo(x.dtype).eps) * before
    if lapack.is_known(lost) and not bool(lost):
        return x / left, left, share
    other = start_vector(x, x.shape[0], x.dtype, 1000 + seed)[:, 0]
    for _ in range(2):
        other = other - (across @ other) @ rows
    size = _length(other)
    other = other / space.where(size == 0, 1 + 0 * size, size)  # of a whole space nothing is left over
    found = space.where(lost, other, x / space.where(lost, 1 + 0 * left, left))
    return found, space.where(lost, 0 * left, left), share


def _length(x: Any) -> Any:
    """The norm of a vector."""
    return norms(x[:, None])[0]


def picked(values: Any, k: int, which: str) -> Any:
    """The indices of the k ascending values that are asked for."""
    n = values.shape[0]
    if which in ("LA", "SA"):
        return slice(n - k, n) if which == "LA" else slice(0, k)
    space: Any = backends.namespace(backends.backend_of(values))
    order = space.argsort(space.abs(values))
    return order[n - k :] if which == "LM" else order[:k]


def finished(converged: Any) -> bool:
    """Whether all have converged."""
    return bool(converged.all())


def without_derivatives(A: Any) -> Any:
    """An operator whose arrays are constants, to iterate with."""
    return A._map(lambda leaf: lapack.stop_gradient(leaf) if backends.is_inexact(leaf.dtype) else leaf)
