"""`eigh`, `eig`, `svd` and their like: what users call."""

from __future__ import annotations

from typing import Any

from linops import backends
from linops.linalg.asking import asked
from linops.linalg.eigenpairs import eig_
from linops.linalg.eigenvalues import eigvals_, eigvalsh_
from linops.linalg.halves import own
from linops.linalg.hermitian import hermitian
from linops.linalg.inputs import of_whole, operator_of
from linops.linalg.ordering import columns_taken, order_of, rows_taken, taken
from linops.linalg.singular import svd_
from linops.linalg.spectra import eigh_
from linops.operator import LinearOperator


@asked
def eigh(A: Any) -> tuple[Any, LinearOperator]:
    """Eigenvalues and eigenvectors of a Hermitian operator: A = V diag(w) Vᴴ.

    V keeps the structure of A: that of a Kronecker product is one of the factors', with a permutation that puts the
    columns in order. Derivatives are those of w and of invariant functions of V; where eigenvalues coincide, parts that
    turn their vectors into each other are left out.

    Args:
        A: A Hermitian operator or matrix. One that is not known to be so is checked, or where its numbers cannot be
            looked at, as in `jax.jit`, replaced by its Hermitian part.

    Returns:
        w, an ascending array (n,), and V, a unitary operator with an eigenvector in each column.

    Raises:
        ValueError: If A is not square or not Hermitian, or a matrix of more than `lo.linalg.DENSE_LIMIT` entries would
            be written out.

    Example:
        >>> import linops as lo, numpy as np
        >>> w, V = lo.linalg.eigh(lo.Kronecker(np.diag([3., 1.]), np.array([[2., 1.], [1., 2.]])))
        >>> w.round(12), V.shape
        (array([1., 3., 3., 9.]), (4, 4))
    """
    operator = operator_of("eigh", A, square=True)
    values, vectors = eigh_(hermitian("eigh", operator))
    order = order_of(values)
    return own(operator, taken(values, order)), own(operator, columns_taken(vectors, order, values))


@asked
def eigvalsh(A: Any) -> Any:
    """The eigenvalues of a Hermitian operator, ascending; see `eigh`.

    Args:
        A: A Hermitian operator or matrix.

    Returns:
        An array (n,).

    Raises:
        ValueError: If A is not square or not Hermitian.

    Example:
        >>> import linops as lo, numpy as np
        >>> lo.linalg.eigvalsh(np.array([[2, 1j], [-1j, 2]])).round(12)
        array([1., 3.])
    """
    operator = operator_of("eigvalsh", A, square=True)
    values = eigvalsh_(hermitian("eigvalsh", operator))
    return own(operator, taken(values, order_of(values)))


@asked
def eig(A: Any) -> tuple[Any, LinearOperator]:
    """Eigenvalues and eigenvectors of a square operator: A V = V diag(w).

    Args:
        A: A square operator or matrix.

    Returns:
        w, a complex array (n,) in no order, and V, an operator with an eigenvector of norm 1 in each column.

    Raises:
        ValueError: If A is not square.

    Example:
        >>> import linops as lo, numpy as np
        >>> w, V = lo.linalg.eig(lo.Circulant(np.array([0., 1., 0.])))
        >>> (w ** 3).real.round(12), V.shape
        (array([1., 1., 1.]), (3, 3))
    """
    return eig_(operator_of("eig", A, square=True))


@asked
def eigvals(A: Any) -> Any:
    """The eigenvalues of a square operator, complex and in no order.

    Args:
        A: A square operator or matrix.

    Returns:
        An array (n,).

    Raises:
        ValueError: If A is not square.

    Example:
        >>> import linops as lo, numpy as np
        >>> lo.linalg.eigvals(lo.Triangular(np.array([[1., 0.], [5., 2.]]), lower=True))
        array([1.+0.j, 2.+0.j])
    """
    return eigvals_(operator_of("eigvals", A, square=True))


@asked
def svd(A: Any) -> tuple[LinearOperator, Any, LinearOperator]:
    """The thin singular value decomposition: A = U diag(s) Vᴴ.

    U and Vᴴ keep the structure of A. Where the structure bounds the rank (`LowRank`, and Kronecker products and direct
    sums of parts that are so or not square), there are as many singular values as it allows other than zero.

    Args:
        A: An operator or matrix (m, n).

    Returns:
        U, an operator (m, k) with orthonormal columns; s, a descending array (k,); Vᴴ, an operator (k, n). k is min(m,
        n), or a bound of the rank. U and V of real circulants are complex.

    Raises:
        ValueError: If a matrix of more than `lo.linalg.DENSE_LIMIT` entries would be written out.

    Example:
        >>> import linops as lo, numpy as np
        >>> U, s, Vh = lo.linalg.svd(lo.Kronecker(np.diag([1., 2.]), np.ones((1, 2))))
        >>> s.round(6), U.shape, Vh.shape
        (array([2.828427, 1.414214]), (2, 2), (2, 4))
    """
    operator = operator_of("svd", A)
    U, values, Vh = svd_(operator, True)
    U, Vh = of_whole(operator, [U, Vh])
    order = order_of(values, descending=True)
    found = columns_taken(U, order, values), taken(values, order), rows_taken(Vh, order, values)
    return own(operator, found[0]), own(operator, found[1]), own(operator, found[2])


@asked
def svdvals(A: Any) -> Any:
    """The singular values, descending.

    Args:
        A: An operator or matrix (m, n).

    Returns:
        An array (min(m, n),).

    Example:
        >>> import linops as lo, numpy as np
        >>> lo.linalg.svdvals(lo.Diagonal(np.array([1., -3.])))
        array([3., 1.])
    """
    operator = operator_of("svdvals", A)
    return own(operator, singular_values(operator))


def singular_values(operator: LinearOperator) -> Any:
    """The singular values of an operator, descending, as LAPACK gives them: of halves in single precision."""
    _, values, _ = svd_(operator, False)
    return backends.pad_rows(taken(values, order_of(values, descending=True)), min(operator.shape))
