"""NumPy: functions of matrices by SciPy, from Schur forms and Padé approximants."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy  # whose submodules load when they are first used

from linops.backends import matrix_functions as p


def _each(a: np.ndarray, function: Callable[[np.ndarray], Any]) -> np.ndarray:
    """A function of every matrix of a stack; NaN where SciPy finds none, of which it warns or not."""
    if not a.size:
        return a
    found = []
    for one in a.reshape(-1, *a.shape[-2:]):
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                found.append(p.real_or_nan(one, function(one)))
            except (ValueError, np.linalg.LinAlgError):
                found.append(np.full_like(one, np.nan))
    return np.stack(found).reshape(a.shape)


@p.expm.dispatch
def _expm(a: np.ndarray):
    return scipy.linalg.expm(a) if a.size else a


@p.sqrtm.dispatch
def _sqrtm(a: np.ndarray):
    return _each(a, lambda one: p.checked_root(one, scipy.linalg.sqrtm(one)))


@p.logm.dispatch
def _logm(a: np.ndarray):
    return _each(a, scipy.linalg.logm)


@p.fractional_power.dispatch
def _fractional_power(a: np.ndarray, exponent: float):
    return _each(a, lambda one: scipy.linalg.fractional_matrix_power(one, exponent))


@p.repeated.dispatch
def _repeated(x: np.ndarray, step: Any, state: Any, count: Any, limit: int):
    for k in range(int(count)):
        state = step(k, state)
    return state


@p.derived.dispatch
def _derived(x: np.ndarray, operator: Any, value: Any, weights: Any, surrogate: Any):
    return value(operator)


@p.spectral_function.dispatch
def _spectral_function(a: np.ndarray, w: Any, V: Any, W: Any, f: Any):
    return V * f(w)[..., None, :] @ W
