"""`lstsq` and `pinv`: least squares of any shape and rank."""

from __future__ import annotations

from typing import Any

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.asking import asked
from linops.linalg.hints import called
from linops.linalg.info import Info
from linops.linalg.inputs import floating_array, matrix_of, operator_of, result_dtype, wide_dtype, wide_operator
from linops.linalg.iterating import (
    admitted,
    columns,
    errors_restored,
    info_of,
    like_solution,
    residual_norms,
    restored,
)
from linops.linalg.least_squares import LeastSquares
from linops.linalg.methods.lsmr import LSMR
from linops.linalg.methods.qr import QR
from linops.linalg.methods.svd import SVD
from linops.linalg.pseudoinversion import cutoff, is_written_out, pinv_
from linops.operator import LinearOperator

#: methods of least squares
Fit = QR | SVD | LSMR


@asked
def lstsq(
    A: Any, b: Any, method: Fit | None = None, *, rtol: float | None = None, x0: Any = None, return_info: bool = False
) -> Any:
    """The x of least ‖b − A x‖, and of these that of least ‖x‖.

    The structure's closed form where it has one; else the matrix is factorised (QR, and singular values where it has
    not full rank), and where it is too large for that LSMR runs to a tight tolerance.

    Args:
        A: An operator or matrix (m, n).
        b: Right-hand sides: (m,), or (…, m, k).
        method: None, `lo.linalg.QR()` (of full rank), `lo.linalg.SVD(rtol)`, or `lo.linalg.LSMR()`, whose tolerances
            are those of Aᴴ w = Aᴴ b and of A x = w.
        rtol: Which share of the largest singular value counts as zero; short for ``method=lo.linalg.SVD(rtol)``.
        x0: Where LSMR begins, of the shape of x. Where A does not determine x, it is then the solution nearest to x0.
        return_info: Whether to return `lo.linalg.Info` as well.

    Returns:
        An array (n,), or (…, n, k); with return_info a pair of it and the information. Without a method or rtol,
        singular values of at most ε max(m, n) times the largest count as zero. In compiled functions, where the rank is
        not known, matrices are taken by singular values.

    Raises:
        ConvergenceError: If LSMR does not reach its tolerance.
        SingularError: If A has not full rank, by QR.
        ValueError: If b or x0 does not fit.
        TypeError: If A is symbolic, or backends are mixed.

    Example:
        >>> import linops as lo, numpy as np
        >>> A = np.array([[1., 0.], [1., 0.], [0., 1.]])
        >>> lo.linalg.lstsq(A, np.array([1., 2., 3.])).round(12)
        array([1.5, 3. ])
        >>> x, info = lo.linalg.lstsq(A, np.array([1., 2., 3.]), lo.linalg.LSMR(), return_info=True)
        >>> info.residual.round(6), info.converged
        (np.float64(0.707107), True)
    """
    method = _method("lstsq", method, rtol)
    operator = operator_of("lstsq", A)
    m, n = operator.shape
    b = admitted("lstsq", operator, m, floating_array(b))
    backend, dtype = backends.backend_of(b), result_dtype(b, operator)
    space: Any = backends.namespace(backend)
    b = space.astype(b, dtype)
    operator = operator if operator.dtype in (None, dtype) else operator.to(dtype=dtype)
    if x0 is not None:
        x0 = like_solution("lstsq", operator, (*b.shape[:-2], n, *b.shape[-1:]) if b.ndim > 1 else (n,), x0)
    if isinstance(method, LSMR):
        return _iterated(LeastSquares(operator, method), b, x0, return_info)
    if method is not None:
        x = _beside(_by(method, operator), b) @ b
    elif not is_written_out(operator):
        x = _beside(pinv_(operator), b) @ b
    else:
        matrix, wide = matrix_of(operator), wide_dtype(dtype, backend)
        matrix = matrix if operator.backend is not None else backends.constant(b, matrix, dtype)
        x = _solution(space.astype(matrix, wide), space.astype(columns(b), wide))
        x = restored(space.astype(x, dtype), b.shape)
    return (x, Info(0, residual_norms(operator, x, b), True, method)) if return_info else x


def _iterated(pseudoinverse: LeastSquares, b: Any, x0: Any, return_info: bool) -> Any:
    """By LSMR, and how."""
    sides = columns(b)
    with errors_restored(b.shape):
        x, (counts, converged) = pseudoinverse.solved(sides, None if x0 is None else columns(x0))
    x = restored(x, b.shape)
    if not return_info:
        return x
    return x, info_of(counts, residual_norms(pseudoinverse.base, x, b), converged, pseudoinverse.method)


def _beside(found: LinearOperator, b: Any) -> LinearOperator:
    """What was made of an operator without arrays, in the framework of right-hand sides."""
    backend = backends.backend_of(b)
    if found.backend != "numpy" or backend in ("numpy", None):
        return found
    if backend == "torch":
        return found.to(backend="torch", dtype=b.dtype, device=b.device)
    return found.to(backend=backend, dtype=backends.result_type(backend, backends.real_dtype(b.dtype, backend)))


@asked
def pinv(A: Any, method: Fit | None = None, *, rtol: float | None = None) -> LinearOperator:
    """The pseudoinverse, as an operator: its products are the solutions of `lstsq`.

    Args:
        A: An operator or matrix (m, n).
        method: None, `lo.linalg.QR()`, `lo.linalg.SVD(rtol)` or `lo.linalg.LSMR()`; see `lstsq`.
        rtol: Which share of the largest singular value counts as zero; short for ``method=lo.linalg.SVD(rtol)``.

    Returns:
        The operator A⁺, (n, m), with the structure of A where that has a closed form.

    Raises:
        TypeError: If A is symbolic.
        SingularError: If A has not full rank, by QR.

    Example:
        >>> import linops as lo, numpy as np
        >>> (lo.linalg.pinv(lo.Circulant(np.array([1., -1., 0.]))) @ np.array([1., 0., -1.])).round(6)
        array([ 0.333333,  0.333333, -0.666667])
    """
    method, operator = _method("pinv", method, rtol), operator_of("pinv", A)
    if method is None:
        return pinv_(operator)
    return LeastSquares(operator, method) if isinstance(method, LSMR) else _by(method, operator)


def _method(function: str, method: Any, rtol: float | None) -> Any:
    """The method that is asked for; others raise."""
    if method is not None and not isinstance(method, Fit):
        raise TypeError(
            f"linalg.{function}: method {method!r}: expected None or lo.linalg.LSMR(), "
            f"lo.linalg.QR() or lo.linalg.SVD(){called(method, 'method')}"
        )
    if isinstance(method, LSMR) and method.preconditioner is not None:
        raise ValueError(f"linalg.{function}: {method}: least squares take no preconditioner")
    if rtol is None:
        return method
    if method is not None:
        raise TypeError(f"linalg.{function}: rtol={rtol!r} is short for method=lo.linalg.SVD(rtol), got {method} too")
    return SVD(rtol)


def _by(method: QR | SVD, operator: LinearOperator) -> LinearOperator:
    """The pseudoinverse by a factorisation, in the operator's own dtype."""
    wide = wide_operator(operator)
    found = method.pseudoinverse(wide)
    return found if wide is operator else found.to(dtype=operator.dtype)


def _solution(matrix: Any, b: Any) -> Any:
    """By QR where the matrix has full rank, else by singular values."""
    space: Any = backends.namespace(backends.backend_of(matrix))
    m, n = matrix.shape
    share = cutoff((m, n), matrix.dtype, space)
    if not min(m, n):
        return backends.zeros(b, (n, b.shape[1]), b.dtype)
    if lapack.is_known(matrix):
        q, r = lapack.qr(matrix if m >= n else backends.conj(matrix).T)
        if _is_regular(r, share):
            if m >= n:
                return backends.solve_triangular(r, backends.conj(q).T @ b, False, False)
            return q @ backends.solve_triangular(backends.conj(r).T, b, True, False)
    return lapack.pinv(matrix, share) @ b


def _is_regular(r: Any, share: float) -> bool:
    """Whether a triangle is far from singular: its condition number, in Frobenius' norm, is below 0.1 / share."""
    r = lapack.stop_gradient(r)
    space: Any = backends.namespace(backends.backend_of(r))
    if lapack.has_zero(space.diagonal(r)):
        return False
    inverse = backends.solve_triangular(r, backends.eye(r, r.shape[0], r.dtype), False, False)
    condition = space.sqrt(space.sum(space.abs(r) ** 2) * space.sum(space.abs(inverse) ** 2))
    return bool(condition * share < 0.1)  # NaN is not
