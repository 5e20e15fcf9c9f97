"""`cholesky`, `lu` and `qr`: what users call."""

from __future__ import annotations

from typing import Any

from linops.linalg.asking import asked
from linops.linalg.factors import cholesky_, lu_, qr_
from linops.linalg.halves import own
from linops.linalg.hermitian import hermitian
from linops.linalg.inputs import operator_of
from linops.operator import LinearOperator


@asked
def cholesky(A: Any) -> LinearOperator:
    """The lower triangular L of A = L Lᴴ, with the structure of A: of a Kronecker product, one of the factors'.

    That of a `Tridiagonal` has two diagonals, in O(n).

    Args:
        A: A positive definite operator or matrix; one that is not known to be Hermitian is checked, as by `eigh`.

    Returns:
        L, with a positive diagonal.

    Raises:
        SingularError: If A is not positive definite; where numbers cannot be looked at, L is NaN.
        ValueError: If A is not square or not Hermitian.

    Example:
        >>> import linops as lo, numpy as np
        >>> lo.linalg.cholesky(np.array([[4., 2.], [2., 5.]])).to_dense()
        array([[2., 0.],
               [1., 2.]])
    """
    operator = operator_of("cholesky", A, square=True)
    return own(operator, cholesky_(hermitian("cholesky", operator)))


@asked
def lu(A: Any) -> tuple[LinearOperator, LinearOperator, LinearOperator]:
    """P, L and U of A = P L U: a permutation, and unit lower and upper triangular operators with the structure of A.

    Those of a `Tridiagonal` of constants are `Sparse`, in O(n); where it is differentiated or traced it is written out.

    Args:
        A: A square operator or matrix, which may be singular.

    Returns:
        (P, L, U); P is a `Permute`, or a matrix where the order is traced, as in `jax.jit`.

    Raises:
        ValueError: If A is not square, or larger than `DENSE_LIMIT` where it has to be written out.

    Example:
        >>> import linops as lo, numpy as np
        >>> P, L, U = lo.linalg.lu(np.array([[1., 2.], [2., 2.]]))
        >>> P.indices, L.to_dense()[1, 0], (P @ L @ U).to_dense()[0]
        (array([1, 0]), np.float64(0.5), array([1., 2.]))
    """
    operator = operator_of("lu", A, square=True)
    P, L, U = lu_(operator)
    return own(operator, P), own(operator, L), own(operator, U)


@asked
def qr(A: Any) -> tuple[LinearOperator, LinearOperator]:
    """Thin Q and R of A = Q R, with the structure of A: orthonormal columns, and an upper triangle.

    Args:
        A: An operator or matrix (m, n).

    Returns:
        Q, (m, k), and R, (k, n), of k = min(m, n).

    Raises:
        ValueError: If A is larger than `DENSE_LIMIT` where it has to be written out.

    Example:
        >>> import linops as lo, numpy as np
        >>> Q, R = lo.linalg.qr(lo.Kronecker(np.eye(2), np.array([[3.], [4.]])))
        >>> abs(R.to_dense()).round(12)
        array([[5., 0.],
               [0., 5.]])
    """
    operator = operator_of("qr", A)
    Q, R = qr_(operator)
    return own(operator, Q), own(operator, R)
