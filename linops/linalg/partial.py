"""`eigsh`: a few eigenvalues and eigenvectors of a Hermitian operator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import isfinite
from numbers import Real
from typing import Any

import numpy as np

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.asking import asked
from linops.linalg.errors import ConvergenceError, SingularError
from linops.linalg.function import Function
from linops.linalg.hermitian import hermitian
from linops.linalg.inputs import fits, operator_of, wide_dtype
from linops.linalg.inversion import inverse_
from linops.linalg.methods.krylov import Found, start_vector, without_derivatives
from linops.linalg.methods.lanczos import Lanczos
from linops.linalg.methods.lobpcg import LOBPCG
from linops.linalg.ordering import columns_taken, order_of, taken
from linops.linalg.parts import is_constant, norms
from linops.linalg.perturbation import moving
from linops.linalg.spectra import DENSELY, eigh_, real_part, written
from linops.operator import LinearOperator, flat
from linops.operators.dense import Dense
from linops.operators.identity import Identity
from linops.operators.tridiagonal import Tridiagonal

#: the sizes of matrices that are factorised whole, for a few of their values, unasked: alone, and as parts
SMALL, PART = 512, 2048


@asked
def eigsh(
    A: Any,
    k: int = 6,
    which: str = "LM",
    sigma: float | None = None,
    method: Lanczos | LOBPCG | None = None,
    *,
    tol: float | None = None,
) -> tuple[Any, LinearOperator]:
    """Some eigenvalues and eigenvectors of a Hermitian operator.

    Without a method they are picked from closed forms where the structure has one, such as products of the factors'
    eigenvalues of a Kronecker product, without vectors that are not asked for; matrices of up to 512 rows are
    factorised; others go to `Lanczos`. What is iterated has first and second derivatives, by solves with MINRES when
    they are asked for; `docs/linalg.md` says where values coincide. Third ones are NaN.

    Args:
        A: A Hermitian operator or matrix; one not known to be so is checked, as by `eigh`.
        k: How many.
        which: The largest (``"LM"``) or smallest (``"SM"``) in absolute value, or the largest (``"LA"``) or smallest
            (``"SA"``) by sign; of distances λ − sigma where that is given, which only takes ``"LM"``: the nearest ones.
        sigma: A shift; the k eigenvalues nearest to it are found by products with (A − sigma I)⁻¹, which `inv` makes;
            where that iterates, as `explain` says beforehand, each step takes many products.
        method: `Lanczos()`, `Arnoldi()`, `LOBPCG()` (for ``"LA"`` and ``"SA"``), or None.
        tol: The largest ‖A v − λ v‖, as a share of the largest |λ| that was met; None for eps^⅔, 4e-11 in double and
            2e-5 in single precision.

    Returns:
        w, an ascending array (k,), and V, an operator (n, k) with an eigenvector of norm 1 in each column.

    Raises:
        ConvergenceError: If an eigenpair is not within tolerance; where nothing can raise, as in `jax.jit`, it is NaN.
        SingularError: If sigma is an eigenvalue, so that A − sigma I has no inverse.
        ValueError: If A is not Hermitian, or there are fewer than k eigenvalues.

    Example:
        >>> import linops as lo, numpy as np
        >>> grid = lo.Tridiagonal(-np.ones(999), 2 * np.ones(1000), -np.ones(999))
        >>> w, V = lo.linalg.eigsh(lo.KroneckerSum(grid, grid), 2, which="SA")
        >>> (w * 1e5).round(3), V.shape
        (array([1.97 , 4.925]), (1000000, 2))
    """
    operator = operator_of("eigsh", A, square=True)
    check_wanted("eigsh", operator, k, which, sigma)
    check_method("eigsh", method, (Lanczos, LOBPCG))
    operator = hermitian("eigsh", operator)
    if method is None and (is_closed(eigh_, operator) or is_small(operator, k)):
        values, vectors = eigh_(operator)
        order = _order(values, k, which, sigma)
        chosen = columns_taken(vectors, order, values) if not _at_hand(order) else _part(vectors, order)
        return taken(values, order), chosen
    arguments = operator, k, which, sigma, Lanczos() if method is None else method, tol
    return lapack.apart(operator._like, _iterated, arguments)


def check_wanted(function: str, A: LinearOperator, k: Any, which: Any, sigma: Any) -> None:
    """Raise unless an operator has k values, and some are asked for by name or by a shift."""
    if not isinstance(k, (int, np.integer)) or isinstance(k, bool):
        raise TypeError(f"linalg.{function}: k must be an integer, got {k!r}")
    if not 1 <= k <= min(A.shape):
        raise ValueError(f"linalg.{function}({A._short()}): k = {k}; expected 1 to {min(A.shape)}")
    names = ("LM", "SM", "LA", "SA") if function == "eigsh" else ("LM", "SM")
    if which not in names or (sigma is not None and which != "LM"):
        expected = f"{', '.join(map(repr, names[:-1]))} or {names[-1]!r}"
        raise ValueError(f"linalg.{function}: which={which!r}: expected {expected}; with sigma only 'LM'")
    check_shift(function, sigma, -np.inf if function == "eigsh" else 0)


def check_method(function: str, method: Any, kinds: tuple[type, ...]) -> None:
    """Raise unless a method is None or of some kinds."""
    if method is not None and not isinstance(method, kinds):
        names = ", ".join(f"lo.linalg.{kind.__name__}()" for kind in kinds)
        raise TypeError(f"linalg.{function}: method {method!r}: expected None, or one of {names}")


def check_shift(function: str, sigma: Any, least: float = -np.inf) -> None:
    """Raise unless a shift is None or a real number that is not below another; an array of one number may be traced."""
    if sigma is None or (backends.is_array(sigma) and sigma.ndim == 0 and not backends.is_complex(sigma.dtype)):
        if sigma is None or not lapack.is_known(sigma):
            return
        sigma = float(sigma)
    if not isinstance(sigma, Real) or isinstance(sigma, bool):
        raise TypeError(f"linalg.{function}: sigma must be a real number, got {sigma!r}")
    if not (isfinite(sigma) and float(sigma) >= least):
        expected = "a finite number" if least == -np.inf else f"a finite number that is not below {least:g}"
        raise ValueError(f"linalg.{function}: sigma={sigma!r}: expected {expected}")


@contextmanager
def inverting(function: str, A: LinearOperator, sigma: Any) -> Iterator[None]:
    """What is singular within is so because a shift is one of the values that are looked for."""
    try:
        yield
    except SingularError:
        raise SingularError(
            f"linalg.{function}({A._short()}): sigma={sigma!r} is itself one of the values, where there is no inverse; "
            f"lo.linalg.{function} with sigma a little beside it finds that one too"
        ) from None


def is_closed(function: Function, A: LinearOperator) -> bool:
    """Whether a spectrum has a closed form whose dense parts are small."""
    rule = function.find(A)
    return rule.says != DENSELY and rule.kind is not Tridiagonal and all(map(_is_cheap, written(A, function)))


def _is_cheap(A: LinearOperator) -> bool:
    return min(A.shape) <= PART and fits(A)


def is_small(A: LinearOperator, k: int) -> bool:
    """Whether all of a spectrum is found as fast as some of it, or its numbers cannot be looked at."""
    n = min(A.shape)
    return fits(A) and (n <= SMALL or 4 * k >= n or not (A.is_symbolic or _is_known(A)))


def _is_known(A: LinearOperator) -> bool:
    return all(lapack.is_known(leaf) for _, leaf in A.named_leaves())


def shifted_by(A: LinearOperator, sigma: Any) -> LinearOperator:
    """A − σ I."""
    return A - sigma * Identity(A.shape[0])


def _order(values: Any, k: int, which: str, sigma: float | None) -> Any:
    """The indices of the k that are asked for, ascending: NumPy's where the numbers are at hand."""
    known = lapack.is_known(values)
    space: Any = np if known else backends.namespace(backends.backend_of(values))
    numbers = backends.to_numpy(lapack.stop_gradient(values)) if known else values
    keys = numbers if sigma is None else -space.abs(numbers - sigma)
    if sigma is None and which in ("LM", "SM"):
        keys = space.abs(numbers)
    order = space.argsort(keys)
    order = order[:k] if which in ("SM", "SA") else order[order.shape[0] - k :]
    return order[space.argsort(numbers[order])]


def _at_hand(order: Any) -> bool:
    return isinstance(order, np.ndarray)


def _part(V: LinearOperator, order: np.ndarray) -> LinearOperator:
    return columns_taken(V, order, None) if isinstance(V, Dense) else V[:, order]


def setting(A: LinearOperator) -> tuple[LinearOperator, Any, Any]:
    """An operator in a dtype that LAPACK has, an array like its own, and the dtype of its vectors."""
    like = A._like
    dtype = like.dtype if A.dtype is None else A.dtype
    wide = wide_dtype(dtype, A.backend)
    if A.dtype is not None and wide != dtype:
        A = A.to(dtype=wide)
    if A._is_complex and not backends.is_complex(wide):
        wide = backends.result_type(A.backend, wide, 1j)
    return A, like, wide


def tolerance(tol: float | None, dtype: Any, backend: str | None) -> float:
    """A tolerance, by default eps^⅔."""
    real = backends.real_dtype(dtype, backend)
    return float(backends.namespace(backend).finfo(real).eps) ** (2 / 3) if tol is None else float(tol)


def _iterated(A: LinearOperator, k: int, which: str, sigma: float | None, method: Any, tol: float | None) -> Any:
    """By a method; eigenvalues as Rayleigh quotients, with derivatives through the product."""
    A, like, dtype = setting(A)
    n, limit = A.shape[0], tolerance(tol, dtype, A.backend)
    constant = without_derivatives(A)
    if sigma is None:
        found: Found = method.eigenpairs(lambda x: flat(constant @ x), n, like, dtype, k, which, limit / 4)
    else:
        with inverting("eigsh", A, sigma):
            inverse = inverse_(shifted_by(constant, sigma), True)
            found = method.eigenpairs(lambda x: flat(inverse @ x), n, like, dtype, k, "LM", limit / 4)
    V = lapack.stop_gradient(found.vectors)
    space: Any = backends.namespace(backends.backend_of(V))
    V = V / norms(V)
    image = lapack.stop_gradient(flat(constant @ V))
    values = real_part(space.sum(backends.conj(V) * image, axis=0))
    residuals = norms(image - V * values)
    scale = found.scale if sigma is None else size_of(constant, like, dtype)
    bound = limit * space.maximum(scale, space.max(space.abs(values)))
    require_converged("eigsh", A, residuals, bound, found.iterations, V, sigma)
    values, V = settled(A, values, V, residuals <= bound)
    return values, Dense(V)


def settled(A: LinearOperator, values: Any, V: Any, converged: Any) -> tuple[Any, Any]:
    """Eigenpairs of a Hermitian operator in ascending order, with derivatives; NaN, and last, where not converged."""
    space: Any = backends.namespace(backends.backend_of(V))
    beyond = 1 + 2 * space.max(space.where(converged, space.abs(values), 0 * values))
    values, V = space.where(converged, values, beyond), space.where(converged, V, 0 * V[:1, :1])
    order = order_of(values)
    if order is not None:
        values, V, converged = taken(values, order), taken(V.T, order).T, taken(converged, order)
    if not is_constant(A):
        values, V = moving(A, V, values)
    return space.where(converged, values, space.nan), space.where(converged, V, space.nan)


def size_of(A: LinearOperator, like: Any, dtype: Any) -> Any:
    """The root mean square of an operator's singular values, roughly: of the size of the largest, and not above it."""
    return norms(flat(A @ start_vector(like, A.shape[1], dtype, 2)))[0]


def require_converged(
    function: str, A: LinearOperator, residuals: Any, limit: Any, iterations: int, V: Any, sigma: Any
) -> None:
    """Raise ConvergenceError where a residual is above a limit and numbers can be looked at."""
    if not lapack.is_known(residuals):
        return
    bad = int((~(residuals <= limit)).sum())  # NaN is within no limit
    if bad:
        beside = "smallest ones are found faster with sigma=0"
        if sigma is not None:
            beside = f"a value that is sigma={sigma!r} itself hides others, which a sigma a little beside it finds"
        raise ConvergenceError(
            f"linalg.{function}({A._short()}): {bad} of {residuals.shape[0]} did not converge in "
            f"{iterations} products: the largest residual is {float(residuals.max()):.1e}, the limit "
            f"{float(limit):.1e}. Raise max_iterations or basis of lo.linalg.Lanczos(), or tol; {beside}",
            solution=V,
            residual=residuals,
            iterations=iterations,
        )
