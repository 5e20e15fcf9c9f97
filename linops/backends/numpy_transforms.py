"""Fast transforms in NumPy: scipy's, and what overflows in them."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy  # whose submodules load when they are first used

from linops.backends import primitives as p
from linops.tuning import CORE_CACHE, NUMPY_FFT_PART


@p.fourier.dispatch
def _fourier(x: np.ndarray, transform: str, length: int, axis: int, norm: Any):
    return getattr(scipy.fft, transform)(x, length, axis, norm)  # several times faster than numpy.fft on many vectors


@p.convolved.dispatch
def _convolved(x: np.ndarray, leaves: tuple, kernel: Any, length: int, axis: int, reverse: bool, kept: dict):
    if not x.size or (axis == -2 and _columns_at_once(x, length) is not None):
        return None
    spectrum = _spectrum(leaves, kernel, length, reverse, kept)
    if axis == -2:
        spectrum = spectrum[:, None]
    y = scipy.fft.rfft(x, length, axis)
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is seen in the result, and run again
        y *= spectrum
    y = scipy.fft.irfft(y, length, axis)
    return y if np.isfinite(y).all() else None


def _spectrum(leaves: tuple, kernel: Any, length: int, reverse: bool, kept: dict) -> np.ndarray:
    """The spectrum of a kernel, or its conjugate, which a reversed one has; see `convolved`."""
    if reverse not in kept:
        kept[reverse] = None  # of a product that stays the only one nothing is kept
        numbers = None
    else:
        numbers = [leaf.tobytes() for leaf in leaves]
        if (found := kept[reverse]) and found[0] == numbers:
            return found[1]
    spectrum = scipy.fft.rfft(kernel(), length)
    if reverse:
        spectrum = spectrum.conj()
    if numbers is not None:
        kept[reverse] = numbers, spectrum
    return spectrum


@p.columns_at_once.dispatch
def _columns_at_once(x: np.ndarray, length: int):
    # pocketfft gathers columns from all over the memory: parts of them stay in the cache
    columns = x.shape[-1]
    size = length * x.itemsize * columns
    return None if size < CORE_CACHE or columns < 2 else max(1, columns * NUMPY_FFT_PART // size)


@p.suits_rows.dispatch
def _suits_rows(x: np.ndarray, length: int):
    return False  # as rows of a copy pocketfft takes 0.97 to 1.2 times as long


@p.multiply_quietly.dispatch
def _multiply_quietly(x: np.ndarray, y: np.ndarray):
    with np.errstate(over="ignore", invalid="ignore"):
        return x * y


@p.multiplies_integers.dispatch
def _multiplies_integers(x: np.ndarray):
    return True


@p.magnitude.dispatch
def _magnitude(x: np.ndarray, axis: int):
    largest = np.abs(x.view(np.real(x).dtype) if x.dtype.kind == "c" and axis == -1 and x.flags.c_contiguous else x)
    largest = largest.max(axis, keepdims=True, initial=0)
    limits = np.finfo(largest.dtype)
    exponents = np.frexp(largest)[1] - 1
    return np.where(
        largest > 0,
        np.ldexp(largest.dtype.type(1), np.clip(exponents, limits.minexp, limits.maxexp - 1)),
        largest.dtype.type(1),
    )


@p.is_at_hand.dispatch
def _is_at_hand(x: np.ndarray):
    return True


@p.all_finite.dispatch
def _all_finite(x: np.ndarray):
    return bool(np.isfinite(x).all())


@p.to_integers.dispatch
def _to_integers(x: np.ndarray, dtype: Any):
    return np.rint(x).astype(np.int64).astype(dtype)
