"""`lstsq` and `pinv`: least squares of any shape and rank."""

from __future__ import annotations

from typing import Any

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.inputs import floating_array, matrix_of, operator_of, result_dtype, wide_dtype
from linops.linalg.iterating import admitted, columns, restored
from linops.linalg.least_squares import LeastSquares
from linops.linalg.methods.lsmr import LSMR
from linops.linalg.pseudoinversion import cutoff, is_written_out, pinv_
from linops.operator import LinearOperator


def lstsq(A: Any, b: Any, method: LSMR | None = None) -> Any:
    """The x of least ‖b − A x‖, and of these that of least ‖x‖.

    The structure's closed form where it has one; else the matrix is factorised (QR, and singular values where it has
    not full rank), and where it is too large for that LSMR runs to a tight tolerance.

    Args:
        A: An operator or matrix (m, n).
        b: Right-hand sides: (m,), or (…, m, k).
        method: None, or `lo.linalg.LSMR()`, whose tolerances are those of Aᴴ w = Aᴴ b and of A x = w.

    Returns:
        An array (n,), or (…, n, k). Singular values of at most ε max(m, n) times the largest count as zero. In compiled
        functions, where the rank is not known, matrices are taken by singular values.

    Raises:
        ConvergenceError: If LSMR does not reach its tolerance.
        ValueError: If b does not fit.
        TypeError: If A is symbolic, or backends are mixed.

    Example:
        >>> import linops as lo, numpy as np
        >>> lo.linalg.lstsq(np.array([[1., 0.], [1., 0.], [0., 1.]]), np.array([1., 2., 3.])).round(12)
        array([1.5, 3. ])
    """
    operator = operator_of("lstsq", A)
    b = admitted("lstsq", operator, operator.shape[0], floating_array(b))
    backend, dtype = backends.backend_of(b), result_dtype(b, operator)
    space: Any = backends.namespace(backend)
    b = space.astype(b, dtype)
    operator = operator if operator.dtype in (None, dtype) else operator.to(dtype=dtype)
    if method is not None:
        return _by_products(operator, method) @ b
    if not is_written_out(operator):
        return _beside(pinv_(operator), b) @ b
    matrix, wide = matrix_of(operator), wide_dtype(dtype, backend)
    matrix = matrix if operator.backend is not None else backends.constant(b, matrix, dtype)
    x = _solution(space.astype(matrix, wide), space.astype(columns(b), wide))
    return restored(space.astype(x, dtype), b.shape)


def _beside(found: LinearOperator, b: Any) -> LinearOperator:
    """What was made of an operator without arrays, in the framework of right-hand sides."""
    backend = backends.backend_of(b)
    if found.backend != "numpy" or backend in ("numpy", None):
        return found
    if backend == "torch":
        return found.to(backend="torch", dtype=b.dtype, device=b.device)
    return found.to(backend=backend, dtype=backends.result_type(backend, backends.real_dtype(b.dtype, backend)))


def pinv(A: Any, method: LSMR | None = None) -> LinearOperator:
    """The pseudoinverse, as an operator: its products are the solutions of `lstsq`.

    Args:
        A: An operator or matrix (m, n).
        method: None, or `lo.linalg.LSMR()`; see `lstsq`.

    Returns:
        The operator A⁺, (n, m), with the structure of A where that has a closed form.

    Raises:
        TypeError: If A is symbolic.

    Example:
        >>> import linops as lo, numpy as np
        >>> (lo.linalg.pinv(lo.Circulant(np.array([1., -1., 0.]))) @ np.array([1., 0., -1.])).round(6)
        array([ 0.333333,  0.333333, -0.666667])
    """
    operator = operator_of("pinv", A)
    return pinv_(operator) if method is None else _by_products(operator, method)


def _by_products(operator: LinearOperator, method: Any) -> LeastSquares:
    if not isinstance(method, LSMR):
        raise TypeError(f"linalg.lstsq: method {method!r}: expected None or lo.linalg.LSMR()")
    if method.preconditioner is not None:
        raise ValueError(f"linalg.lstsq: {method}: least squares take no preconditioner")
    return LeastSquares(operator, method)


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
