"""Derivatives of functions of matrices from divided differences of f: right also where eigenvalues coincide.

With A = V diag(w) V⁻¹ and Ê = V⁻¹ E V, the derivative of f(A) = V f(w) V⁻¹ along E is V (f[w_i, w_j] ∘ Ê) V⁻¹, where
f[x, y] = (f(x) − f(y)) / (x − y) and f[x, x] = f'(x) (Daleckii and Krein, 1965; Higham, Functions of Matrices, 2008,
§3.2). The second derivative along E and G is V X V⁻¹ of X_ij = Σ_k f[w_i, w_k, w_j] (Ê_ik Ĝ_kj + Ĝ_ik Ê_kj).

Where numbers are close, quotients lose digits, and differences are means of derivatives instead, by Gauss's quadrature;
the smaller of both errors, as estimated, decides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from linops.backends import primitives as p
from linops.backends.dtypes import is_complex
from linops.backends.matrix_functions import derivative
from linops.backends.registry import backend_of, namespace

Numbers = Callable[[Any], Any]


def _unit_gauss(count: int) -> Any:
    """Points and weights of Gauss's quadrature over (0, 1)."""
    points, weights = np.polynomial.legendre.leggauss(count)
    return zip((points + 1) / 2, weights / 2)


def _mean_slope(f: Numbers, x: Any, gap: Any, count: int) -> Any:
    """The mean of f' from x over a gap."""
    return sum(weight * derivative(x, f, x + point * gap) for point, weight in _unit_gauss(count))


def _mean_curvature(f: Numbers, x: Any, one: Any, other: Any, count: int) -> Any:
    """The integral of f'' over the triangle of x, x + one, x + other, in its own coordinates."""
    found = 0
    for u, first in _unit_gauss(count):
        for v, second in _unit_gauss(count):
            place = x + u * one + (1 - u) * v * other
            found = found + first * second * (1 - u) * derivative(x, lambda z: derivative(x, f, z), place)
    return found


def _better(space: Any, fine: Any, coarse: Any, direct: Any, sizes: Any, gap: Any) -> Any:
    """The mean of derivatives, or the quotient where that has the smaller error."""
    eps = space.finfo(gap.dtype).eps
    rounding = eps * sizes / space.where(gap == 0, 1, space.abs(gap))
    return space.where((gap == 0) | (space.abs(fine - coarse) <= rounding), fine, direct)


def first_differences(f: Numbers, w: Any) -> Any:
    """f[w_i, w_j]: (…, n) → (…, n, n)."""
    space: Any = namespace(backend_of(w))
    x, y, values = w[..., :, None], w[..., None, :], f(w)
    gap = y - x
    x = x + 0 * gap
    one, other = values[..., :, None], values[..., None, :]
    direct = (other - one) / space.where(gap == 0, 1, gap)
    fine, coarse = _mean_slope(f, x, gap, 5), _mean_slope(f, x, gap, 4)
    return _better(space, fine, coarse, direct, space.abs(one) + space.abs(other), gap)


def second_differences(f: Numbers, w: Any, first: Any) -> Any:
    """f[w_i, w_k, w_j]: (…, n) → (…, n, n, n), of f[w_i, w_j]."""
    space: Any = namespace(backend_of(w))
    i, k, j = w[..., :, None, None], w[..., None, :, None], w[..., None, None, :]
    ik, kj, ij = first[..., :, :, None], first[..., None, :, :], first[..., :, None, :]
    full = 0 * (i + k + j)
    gap, one, other = j - i + full, kj + full, ik + full  # the two that are farthest apart, and the third with each
    for wider, a, b in ((k - i + full, kj, ij), (j - k + full, ij, ik)):
        is_wider = space.abs(wider) > space.abs(gap)
        one, other = space.where(is_wider, a + full, one), space.where(is_wider, b + full, other)
        gap = space.where(is_wider, wider, gap)
    direct = (one - other) / space.where(gap == 0, 1, gap)
    fine, coarse = [_mean_curvature(f, i + full, k - i + full, j - i + full, count) for count in (4, 3)]
    return _better(space, fine, coarse, direct, space.abs(one) + space.abs(other), gap)


def _conjugate(x: Any) -> Any:
    return p.conj(x) if is_complex(x.dtype) else x


def composed(V: Any, inner: Any, W: Any) -> Any:
    """V X W."""
    space: Any = namespace(backend_of(V))
    dtype = inner.dtype if is_complex(inner.dtype) else V.dtype  # torch mixes none
    V, inner, W = space.astype(V, dtype), space.astype(inner, dtype), space.astype(W, dtype)
    return V @ inner @ W


def along(f: Numbers, w: Any, V: Any, W: Any, E: Any) -> Any:
    """The derivative of V f(w) W along E."""
    return composed(V, first_differences(f, w) * composed(W, E, V), W)


def along_both(f: Numbers, w: Any, V: Any, W: Any, E: Any, G: Any) -> Any:
    """The second derivative of V f(w) W along E and G."""
    space: Any = namespace(backend_of(w))
    T = second_differences(f, w, first_differences(f, w))
    E, G = composed(W, E, V), composed(W, G, V)
    both = E[..., :, :, None] * G[..., None, :, :] + G[..., :, :, None] * E[..., None, :, :]
    return composed(V, space.sum(T * both, axis=-2), W)


def series(f: Numbers, a: Any, fixed: Any, w: Any, V: Any, W: Any) -> Any:
    """f(A) as its Taylor polynomial of degree two at A itself: plain operations, which f's own parameters have, too.

    Args:
        f: The function.
        a: A.
        fixed: A as a constant.
        w: Its eigenvalues, constants.
        V: Its eigenvectors, constants.
        W: V⁻¹.

    Returns:
        V f(w) V⁻¹, with first and second derivatives in A.
    """
    space: Any = namespace(backend_of(w))
    D, E = first_differences(f, w), composed(W, a - fixed, V)
    twice = space.sum(second_differences(f, w, D) * (E[..., :, :, None] * E[..., None, :, :]), axis=-2)
    return composed(V, diagonal(f(w)) + D * E + twice, W)


def diagonal(numbers: Any) -> Any:
    """Diagonal matrices of numbers (…, n)."""
    n = numbers.shape[-1]
    return numbers[..., None] * p.eye(numbers, n, numbers.dtype)
