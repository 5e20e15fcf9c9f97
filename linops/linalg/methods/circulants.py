"""Toeplitz systems by iteration with fast products and T. Chan's circulant, of NumPy's numbers, all vectors at once."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy  # whose submodules load when they are first used

#: below so many unknowns Levinson's recursion takes no longer
LEAST = 512
#: more steps than these take as long as Levinson's recursion; and how often the true residual is looked at
STEPS, ROUNDS = 40, 3


class Spectra(NamedTuple):
    """What is made of a Toeplitz matrix.

    Attributes:
        kernel: The transform of the circulant in which the matrix lies.
        length: Its length.
        inverse: One over the spectrum of the nearest circulant, which preconditions.
        size: A bound of the matrix' norm.
        definite: Whether it is known to be positive definite.
    """

    kernel: np.ndarray
    length: int
    inverse: np.ndarray
    size: float
    definite: bool


def spectra(column: np.ndarray, row: np.ndarray, definite: bool) -> Spectra | None:
    """The transforms of a Toeplitz matrix and of its preconditioner.

    Args:
        column: The first column.
        row: The first row.
        definite: Whether it is known to be positive definite.

    Returns:
        The transforms; None where the matrix is small, or the circulant is singular.

    Source: T. F. Chan, An optimal circulant preconditioner for Toeplitz systems, 1988.
    """
    n = len(column)
    if n < LEAST:
        return None
    fft = scipy.fft.fft if np.iscomplexobj(column) else scipy.fft.rfft
    length = scipy.fft.next_fast_len(2 * n - 1, not np.iscomplexobj(column))
    kernel = fft(np.concatenate([column, np.zeros(length - 2 * n + 1, column.dtype), row[:0:-1]]))
    share = np.arange(n) / n
    nearest = fft((1 - share) * column + share * np.concatenate([row[:1], row[:0:-1]]))
    least, size = np.abs(nearest).min(), float(np.abs(column).sum() + np.abs(row).sum())
    if not least > 1e-8 * size:
        return None
    return Spectra(kernel[:, None], length, (1 / nearest)[:, None], size, definite)


def iterated(made: Spectra, b: np.ndarray) -> np.ndarray | None:
    """The solution, or None where iteration does not find it.

    Args:
        made: What `spectra` gave.
        b: Right-hand sides (n, k) in double precision, complex if the matrix is.

    Returns:
        x with ‖b − A x‖ of the order of what rounding leaves, or None.
    """
    x, residual, eps = np.zeros_like(b), b, np.finfo(b.dtype).eps
    for _ in range(ROUNDS):
        x = x + (_conjugate_gradients if made.definite else _minimal_residuals)(made, residual)
        residual = b - _product(made, x)
        left = np.linalg.norm(residual, axis=0)
        if not np.isfinite(left).all():
            return None
        if (left <= 10 * eps * (made.size * np.linalg.norm(x, axis=0) + np.linalg.norm(b, axis=0))).all():
            return x
    return None


def _transformed(x: np.ndarray, spectrum: np.ndarray, length: int) -> np.ndarray:
    if np.iscomplexobj(x):
        return scipy.fft.ifft(spectrum * scipy.fft.fft(x, length, axis=0), axis=0)
    return scipy.fft.irfft(spectrum * scipy.fft.rfft(x, length, axis=0), length, axis=0)


def _product(made: Spectra, x: np.ndarray) -> np.ndarray:
    return _transformed(x, made.kernel, made.length)[: len(x)]


def _preconditioned(made: Spectra, x: np.ndarray) -> np.ndarray:
    return _transformed(x, made.inverse, len(x))


def _dot(x: np.ndarray, y: np.ndarray) -> Any:
    return np.einsum("nk,nk->k", x.conj(), y)


def _conjugate_gradients(made: Spectra, b: np.ndarray) -> np.ndarray:
    """Preconditioned conjugate gradients, until no vector's residual is above 1e-14 of what it was."""
    x, r = np.zeros_like(b), b
    p = z = _preconditioned(made, r)
    rho, goal = _dot(r, z).real, 1e-28 * _dot(b, b).real
    with np.errstate(all="ignore"):
        for _ in range(STEPS):
            q = _product(made, p)
            alpha = np.where(rho > 0, rho / _dot(p, q).real, 0)
            x, r = x + alpha * p, r - alpha * q
            if (_dot(r, r).real <= goal).all():
                break
            z = _preconditioned(made, r)
            before, rho = rho, _dot(r, z).real
            p = z + np.where(before > 0, rho / before, 0) * p
    return x


def _minimal_residuals(made: Spectra, b: np.ndarray) -> np.ndarray:
    """GMRES, preconditioned on the right, until no vector's residual is above 1e-14 of what it was."""
    size = np.linalg.norm(b, axis=0)
    with np.errstate(all="ignore"):
        basis = [np.where(size > 0, b / size, 0)]
        h = np.zeros((STEPS + 1, STEPS, b.shape[1]), b.dtype)
        turns: list[tuple[np.ndarray, np.ndarray]] = []
        g = np.zeros((STEPS + 1, b.shape[1]), b.dtype)
        g[0] = size
        for j in range(STEPS):
            w = _product(made, _preconditioned(made, basis[j]))
            for i, v in enumerate(basis):
                h[i, j] = _dot(v, w)
                w = w - h[i, j] * v
            beside = np.linalg.norm(w, axis=0)
            for i, (c, s) in enumerate(turns):  # the rotations that came before
                h[i, j], h[i + 1, j] = c * h[i, j] + s * h[i + 1, j], c * h[i + 1, j] - s.conj() * h[i, j]
            length = np.hypot(np.abs(h[j, j]), beside)
            phase = np.where(h[j, j] != 0, h[j, j] / np.abs(h[j, j]), 1)
            c, s = np.where(length > 0, np.abs(h[j, j]) / length, 1), np.where(length > 0, phase * beside / length, 0)
            turns.append((c, s))
            h[j, j] = phase * length
            g[j], g[j + 1] = c * g[j], -s.conj() * g[j]
            if (np.abs(g[j + 1]) <= 1e-14 * size).all():
                break
            basis.append(np.where(beside > 1e-300, w / beside, 0))
        m = len(turns)
        y = np.zeros((m, b.shape[1]), b.dtype)
        for i in range(m)[::-1]:
            known = (h[i, i + 1 : m] * y[i + 1 :]).sum(0)
            y[i] = np.where(h[i, i] != 0, (g[i] - known) / h[i, i], 0)
        return _preconditioned(made, sum((one * v for one, v in zip(y, basis)), np.zeros_like(b)))
