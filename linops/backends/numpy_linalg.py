"""NumPy: factorisations by LAPACK, through SciPy where NumPy has none."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import scipy  # whose submodules load when they are first used

from linops.backends import factorizations as p


@lru_cache(maxsize=64)
def _lapack(names: tuple[str, ...], char: str) -> Any:
    """LAPACK's routines for a dtype, looked up once."""
    found = scipy.linalg.get_lapack_funcs(names, dtype=np.dtype(char))
    return found[0] if len(names) == 1 else found


@p.lu_factor.dispatch
def _lu_factor(a: np.ndarray):
    if not a.size:
        return a, np.zeros(0, np.int32)
    lu, pivots, _ = _lapack(("getrf",), a.dtype.char)(a)
    return lu, pivots


@p.lu_solve.dispatch
def _lu_solve(lu: np.ndarray, pivots: Any, b: Any, transposed: bool):
    if not b.size:
        return b
    return _lapack(("getrs",), lu.dtype.char)(lu, pivots, b, trans=int(transposed))[0]


@p.lu_sign.dispatch
def _lu_sign(pivots: np.ndarray):
    return 1.0 - 2.0 * (np.count_nonzero(pivots != np.arange(len(pivots))) % 2)


@p.lu_order.dispatch
def _lu_order(pivots: np.ndarray):
    order = np.arange(len(pivots))
    for place, other in enumerate(pivots):
        order[[place, other]] = order[[other, place]]
    return order


@p.cholesky.dispatch
def _cholesky(a: np.ndarray):
    if not a.size:
        return a
    if a.ndim > 2:
        return np.stack([_cholesky(one) for one in a.reshape(-1, *a.shape[-2:])]).reshape(a.shape)
    lower, info = _lapack(("potrf",), a.dtype.char)(a, lower=1, clean=1)
    if info > 0:
        lower = np.full_like(lower, np.nan)
    return lower


@p.cholesky_solve.dispatch
def _cholesky_solve(lower: np.ndarray, b: Any):
    return _lapack(("potrs",), lower.dtype.char)(lower, b, lower=1)[0] if b.size else b


@p.solve.dispatch
def _solve(a: np.ndarray, b: Any):
    try:
        return np.linalg.solve(a, b)
    except np.linalg.LinAlgError:
        return np.full(np.broadcast_shapes(a.shape[:-2], b.shape[:-2]) + b.shape[-2:], np.nan, np.result_type(a, b))


@p.inverse.dispatch
def _inverse(a: np.ndarray):
    try:
        return np.linalg.inv(a)
    except np.linalg.LinAlgError:
        return np.full_like(a, np.nan)


@p.slogdet.dispatch
def _slogdet(a: np.ndarray):
    return tuple(np.linalg.slogdet(a))


@p.log_product.dispatch
def _log_product(x: np.ndarray):
    if x.dtype.kind == "f" and x.size and x.min() > 0:  # as most are: half the time
        return x.dtype.type(1), np.log(x).sum()
    with np.errstate(divide="ignore"):
        return np.prod(np.sign(x)), np.sum(np.log(np.abs(x)))


@p.eigh.dispatch
def _eigh(a: np.ndarray):
    return tuple(np.linalg.eigh(a))


def are_few(count: int, n: int) -> bool:
    """Whether so many of n eigenvectors are found faster than all, measured with one thread."""
    return n >= 16 and count * (4 if n >= 512 else 8) <= n


@p.dots.dispatch
def _dots(x: np.ndarray, y: Any):
    # without the arrays of products: up to ten times as fast as a sum; of two vectors einsum gives no array
    return np.asarray(np.einsum("...i,...i->...", x.conj(), y))


@p.column_dots.dispatch
def _column_dots(x: np.ndarray, y: Any) -> Any:
    return np.vecdot(x.T, y.T)  # einsum adds row by row, which loses digits in float32


@p.leading_eigenvectors.dispatch
def _leading_eigenvectors(a: np.ndarray, count: int):
    n = a.shape[-1]
    if not (count and are_few(count, n) and a.dtype.char in "fdFD" and np.isfinite(a).all()):
        return np.linalg.eigh(a)[1][..., n - count :]
    found = np.empty((*a.shape[:-1], count), a.dtype)
    for place in np.ndindex(a.shape[:-2]):
        found[place] = _few_eigenvectors(a[place], count)
    return found


def _few_eigenvectors(a: np.ndarray, count: int) -> np.ndarray:
    """By bisection and inverse iteration, or by all where that fails."""
    n, kind = len(a), "he" if a.dtype.kind == "c" else "sy"
    evr, sizes = _lapack((f"{kind}evr", f"{kind}evr_lwork"), a.dtype.char)
    *sizes, _ = sizes(n)
    names = ("lwork", "lrwork", "liwork") if kind == "he" else ("lwork", "liwork")
    work = {name: int(size.real) for name, size in zip(names, sizes, strict=True)}
    _, V, m, _, info = evr(a, range="I", lower=1, il=n - count + 1, iu=n, **work)
    return V[:, :count] if info == 0 and m == count else np.linalg.eigh(a)[1][:, n - count :]


@p.eigvalsh.dispatch
def _eigvalsh(a: np.ndarray):
    return np.linalg.eigvalsh(a)


@p.eig.dispatch
def _eig(a: np.ndarray):
    values, vectors = np.linalg.eig(a)
    dtype = np.result_type(a.dtype, 1j)
    return values.astype(dtype, copy=False), vectors.astype(dtype, copy=False)


@p.eigvals.dispatch
def _eigvals(a: np.ndarray):
    return np.linalg.eigvals(a).astype(np.result_type(a.dtype, 1j), copy=False)


def _require_finite(a: np.ndarray) -> None:
    """Raise where the singular value decomposition of LAPACK would not return, as of infinities."""
    if not np.isfinite(a).all():
        raise np.linalg.LinAlgError("SVD of numbers that are not finite")


@p.svd.dispatch
def _svd(a: np.ndarray):
    _require_finite(a)
    return tuple(np.linalg.svd(a, full_matrices=False))


@p.svdvals.dispatch
def _svdvals(a: np.ndarray):
    return np.linalg.svd(a, compute_uv=False)


@p.qr.dispatch
def _qr(a: np.ndarray):
    return tuple(np.linalg.qr(a))


@p.tridiagonal_solve.dispatch
def _tridiagonal_solve(b: np.ndarray, lower: Any, diag: Any, upper: Any):
    if not b.size:
        return b
    if len(diag) == 1:
        with np.errstate(divide="ignore", invalid="ignore"):
            return b / diag[:, None]
    x, info = _lapack(("gtsv",), np.result_type(diag, b).char)(lower, diag, upper, b)[3:]
    return np.full_like(x, np.nan) if info > 0 else x


@p.tridiagonal_elimination.dispatch
def _tridiagonal_elimination(diag: np.ndarray, lower: Any, upper: Any):
    return _lapack(("gttrf",), diag.dtype.char)(lower, diag, upper)[:-1]


@p.tridiagonal_factor.dispatch
def _tridiagonal_factor(diag: np.ndarray, lower: Any, upper: Any):
    if len(diag) < 3:
        return None
    factors = _tridiagonal_elimination(diag, lower, upper)
    return factors if factors[1].all() else None


@p.tridiagonal_slogdet.dispatch
def _tridiagonal_slogdet(diag: np.ndarray, lower: Any, upper: Any):
    if len(diag) < 3:
        return tuple(np.linalg.slogdet(np.diag(diag) + np.diag(lower, -1) + np.diag(upper, 1)))
    factors = _tridiagonal_factor(diag, lower, upper)
    if factors is None:  # a pivot is zero
        return diag.dtype.type(0), np.abs(diag[:1]).dtype.type(-np.inf)
    sign, logarithm = _log_product(factors[1])
    order = factors[4]
    return (-sign if np.count_nonzero(order != np.arange(1, len(order) + 1)) % 2 else sign), logarithm


@p.tridiagonal_pivots.dispatch
def _tridiagonal_pivots(diag: np.ndarray, squares: Any):
    if len(diag) == 1:
        return diag
    pivots, _, info = _lapack(("pttrf",), diag.dtype.char)(diag, np.sqrt(squares))
    return np.full_like(pivots, np.nan) if info > 0 else pivots


@p.tridiagonal_substitute.dispatch
def _tridiagonal_substitute(b: np.ndarray, factors: Any, transposed: bool):
    return _lapack(("gttrs",), b.dtype.char)(*factors, b, trans="T" if transposed else "N")[0] if b.size else b


@p.eigh_tridiagonal.dispatch
def _eigh_tridiagonal(diag: np.ndarray, beside: Any):
    return scipy.linalg.eigh_tridiagonal(diag, beside, check_finite=False) if len(diag) else (diag, np.zeros((0, 0)))


@p.has_zero.dispatch
def _has_zero(x: np.ndarray | np.generic):
    return np.count_nonzero(x) != x.size  # four times as fast as all() of few


@p.stop_gradient.dispatch
def _stop_gradient(x: np.ndarray | np.generic):
    return x


@p.is_constant.dispatch
def _is_constant(x: np.ndarray):
    return True


@p.lu_inverse.dispatch
def _lu_inverse(lu: np.ndarray, pivots: Any):
    return _lapack(("getri",), lu.dtype.char)(lu, pivots)[0] if lu.size else lu


@p.cholesky_inverse.dispatch
def _cholesky_inverse(lower: np.ndarray):
    if not lower.size:
        return lower
    half = _lapack(("potri",), lower.dtype.char)(lower, lower=1)[0]  # whose lower triangle counts
    return np.tril(half) + np.tril(half, -1).conj().T


@p.is_known.dispatch
def _is_known(x: np.ndarray | np.generic):
    return True


@p.implicit_solve.dispatch
def _implicit_solve(b: np.ndarray, operator: Any, solve: Any):
    return solve(operator, b)


@p.on_numpy.dispatch
def _on_numpy(b: np.ndarray, function: Any, arrays: Any):
    return function(b, *arrays)


@p.found_on_numpy.dispatch
def _found_on_numpy(x: np.ndarray, like: Any, function: Any, derivative: Any):
    return function(x)


@p.iterate.dispatch
def _iterate(like: np.ndarray, state: tuple, keeps_on: Any, step: Any):
    with np.errstate(all="ignore"):
        while keeps_on(state):
            state = step(state)
    return state


@p.apart.dispatch
def _apart(like: np.ndarray, function: Any, arguments: tuple):
    return function(*arguments)


@p.put.dispatch
def _put(x: np.ndarray, axis: int, index: Any, value: Any):
    x[(slice(None),) * axis + (index,)] = value
    return x


@p.tell.dispatch
def _tell(x: np.ndarray, function: Any, rest: Any):
    function(x, *rest)


@p.pinv.dispatch
def _pinv(a: np.ndarray, rtol: float):
    _require_finite(a)
    return np.linalg.pinv(a, rtol) if a.size else np.zeros((*a.shape[:-2], a.shape[-1], a.shape[-2]), a.dtype)
