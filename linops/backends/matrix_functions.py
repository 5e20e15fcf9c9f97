"""Functions of matrices as primitives with one method a backend; and iterations, where there is no Schur form.

Matrices are stacks (…, n, n). Nothing here looks at numbers: where a function has no value, or an iteration does not
converge, it is NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from linops.backends import factorizations as lapack
from linops.backends import primitives as p
from linops.backends.dtypes import is_complex
from linops.backends.registry import backend_of, namespace
from linops.dispatch import generic

#: steps of the iteration for the first square root, which may be of numbers near the negative axis, and for later ones
FIRST_ROOT, LATER_ROOT = 30, 12
#: how many square roots a logarithm takes: numbers of 1e-16 … 1e16 come to 0.3 … 3.2
ROOTS = 5
#: points of the quadrature of log x = ∫ (x - 1) / (1 + t (x - 1)) dt: of 0.3 … 3.2 it is exact to 1e-17
POINTS = 16


@generic
def expm(a):
    """e^A."""


@generic
def sqrtm(a):
    """The principal square root, of a real matrix real; NaN where that does not exist or is not found."""


@generic
def logm(a):
    """The principal logarithm, of a real matrix real; NaN where that does not exist or is not found."""


@generic
def fractional_power(a, exponent: float):
    """The principal power of an invertible matrix, of a real one real; NaN where there is none or none is found."""


@generic
def repeated(x, step, state, count, limit: int):
    """The state, a tuple of arrays, after ``state = step(k, state)`` of k = 0 … count - 1.

    A count that is no integer but an array, which nobody can look at, is at most `limit`; beyond, steps are left out.
    """


@generic
def derived(x, operator, value, weights, surrogate):
    """value(A), which has no derivative, with that of ``surrogate(weights(A), A)`` in A alone, the weights fixed.

    The weights have derivatives of their own, which second derivatives see. x is a leaf of A.
    """


@generic
def derivative(x, f, at):
    """The derivative at numbers of f, a function of each number alone. x says the framework."""


@generic
def spectral_function(a, w, V, W, f):
    """V f(w) W = f(A) of matrices (…, n, n) with A = V diag(w) W, W = V⁻¹, and first and second derivatives in A alone.

    See `divided_differences`. Third derivatives are errors in torch and NaN in JAX.
    """


# ---------------------------------------------------------------- by iterations, for torch and JAX


def _unit(a: Any) -> Any:
    return p.eye(a, a.shape[-1], a.dtype)


def iterated_sqrtm(a: Any, steps: int = FIRST_ROOT) -> Any:
    """The square root by the product form of Denman and Beavers' iteration, scaled by determinants.

    Source: Cheng, Higham, Kenney & Laub, Approximating the logarithm of a matrix to specified accuracy, 2001. The
    derivative of the last iterate is that of the root, as the root is a fixed point of what each step does.
    """
    if 0 in a.shape:
        return a
    space: Any = namespace(backend_of(a))
    n, unit = a.shape[-1], _unit(a)

    def step(k: Any, state: Any) -> Any:
        x, m = state
        # what the root does not depend on has no derivative
        size = space.exp(lapack.slogdet(lapack.stop_gradient(m))[1] / (-2 * n))[..., None, None]
        size = space.astype(size, a.dtype)
        inverse = lapack.inverse(m) / size**2
        return x @ (unit + inverse) * (size / 2), (unit + (m * size**2 + inverse) / 2) / 2

    x, _ = repeated(a, step, (a, a), steps, steps)
    return checked_root(a, x)


def checked_root(a: Any, x: Any) -> Any:
    """A square root, NaN where its square is not the matrix to half the digits."""
    space: Any = namespace(backend_of(a))
    error, size = space.abs(lapack.stop_gradient(x @ x - a)), space.abs(lapack.stop_gradient(a))
    limit = space.finfo(a.dtype).eps ** 0.5
    right = space.amax(error, (-2, -1)) <= limit * space.amax(size, (-2, -1))
    return space.where(right[..., None, None], x, space.nan)


def iterated_logm(a: Any) -> Any:
    """The logarithm by square roots and a Gauss-Legendre quadrature, which is the diagonal Padé approximant.

    Source: Higham, Functions of Matrices, 2008, §11.5.
    """
    root = iterated_sqrtm(a)
    (root,) = repeated(a, lambda _, state: (iterated_sqrtm(state[0], LATER_ROOT),), (root,), ROOTS - 1, ROOTS)
    points, weights = np.polynomial.legendre.leggauss(POINTS)
    ones = (1,) * a.ndim
    points, weights = [
        p.constant(a, one.reshape(-1, *ones), a.dtype) for one in ((points + 1) / 2, weights / 2 * 2.0**ROOTS)
    ]
    away, unit = root - _unit(a), _unit(a)
    terms = lapack.solve(unit + points * away, away + points * 0)
    return (weights * terms).sum(0)


def iterated_power(a: Any, exponent: float) -> Any:
    """A^p by A to the integer below, and the exponential of the rest of the logarithm."""
    whole = int(np.floor(exponent))
    found = expm((exponent - whole) * iterated_logm(a))
    base = a if whole >= 0 else lapack.inverse(a)
    for _ in range(abs(whole)):
        found = found @ base
    return found


def real_or_nan(a: Any, found: Any) -> Any:
    """A function of a real matrix, NaN where it is complex beyond rounding."""
    if is_complex(found.dtype) and not is_complex(a.dtype):
        rounding = 1e4 * np.finfo(a.dtype).eps * np.abs(found).max()
        found = found.real if np.abs(found.imag).max() <= rounding else np.full_like(a, np.nan)
    return found.astype(a.dtype, copy=False)
