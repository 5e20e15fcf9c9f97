"""What methods for a few eigenpairs have in common: starts, orthogonalisation, choice and convergence."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.parts import adjoint, norms


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


def orthogonal(x: Any, Q: Any, like: Any, seed: int) -> Any:
    """A column, orthogonal to those of Q and of norm 1; noise so treated where nothing is left of x."""
    space: Any = backends.namespace(backends.backend_of(x))
    before = norms(x)
    x = x - Q @ (adjoint(Q) @ x)
    left = norms(x)
    if not lapack.is_known(left) or bool((left < 0.7 * before).any()):  # twice is enough, and mostly needed
        x = x - Q @ (adjoint(Q) @ x)
        left = norms(x)
    lost = left <= 100 * float(space.finfo(x.dtype).eps) * before
    if lapack.is_known(lost) and not bool(lost.all()):
        return x / left
    other = start_vector(like, x.shape[0], x.dtype, 1000 + seed)
    for _ in range(2):
        other = other - Q @ (adjoint(Q) @ other)
    return space.where(lost, other / norms(other), x / space.where(lost, 1 + 0 * left, left))


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
