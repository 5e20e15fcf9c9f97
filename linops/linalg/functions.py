"""`expm`, `logm`, `sqrtm`, `funm` and `matrix_power`: what users call."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

from linops import backends
from linops.linalg.asking import asked, require_finite
from linops.linalg.exponential import Exponential
from linops.linalg.function import Function
from linops.linalg.function_rules import expm_, funm_, logm_, power_, sqrtm_
from linops.linalg.inputs import operator_of
from linops.linalg.inversion import inverse_
from linops.linalg.scalars import EXP, LOG, SQRT, Scalar, power_of
from linops.operator import LinearOperator


def _of(function: Function, f: Scalar, A: Any) -> LinearOperator:
    """A function of an operand, in its own dtype where it was computed in a wider one."""
    operator = operator_of(f.name, A, square=True)
    if f is not EXP:
        require_finite(f.name, A, operator)  # before: SciPy's logarithm does not return from infinities
    found = function(operator, f)
    own, dtype = operator.dtype, found.dtype
    if own is None or dtype is None:
        return found
    if backends.is_complex(dtype) and not backends.is_complex(own):
        own = backends.result_type(operator.backend, own, 1j)
    return found if dtype == own or backends.itemsize(dtype) <= backends.itemsize(own) else found.to(dtype=own)


@asked
def expm(A: Any) -> LinearOperator:
    """The exponential e^A.

    It keeps diagonals, blocks, circulants and multiples; of a Kronecker sum it is the Kronecker product of
    exponentials, of a Hermitian operator V e^w Vᴴ of its eigenvectors. A small matrix is written out, and its
    exponential taken by scaling and squaring (SciPy's, torch's or JAX's). A larger operator that is no array gives an
    `lo.linalg.Exponential`, which forms nothing.

    Args:
        A: A square operator or matrix.

    Returns:
        An operator.

    Raises:
        ValueError: If A is not square.
        TypeError: If A is symbolic.

    Example:
        >>> import linops as lo, numpy as np
        >>> lo.linalg.expm(np.array([[0, 1], [0, 0]])).to_dense()
        array([[1., 1.],
               [0., 1.]])
    """
    return _of(expm_, EXP, A)


@asked
def logm(A: Any) -> LinearOperator:
    """The principal logarithm: e^(log A) = A, with eigenvalues of imaginary parts between −π and π.

    It keeps diagonals, blocks and circulants; of a Kronecker product of positive definite factors it is the Kronecker
    sum of logarithms. A matrix that is not Hermitian is written out: NumPy takes SciPy's, by a Schur form, torch and
    JAX square roots and a quadrature (Higham, Functions of Matrices, 2008, §11.5).

    Args:
        A: A square operator or matrix without zero or, where it is real, negative eigenvalues.

    Returns:
        An operator, real if A is.

    Raises:
        ValueError: If A is not square, or real and its logarithm not; where numbers cannot be looked at it is NaN.
        SingularError: If an eigenvalue is zero.

    Example:
        >>> import linops as lo, numpy as np
        >>> lo.linalg.logm(lo.Diagonal(np.array([1., np.e]))).diagonal
        array([0., 1.])
    """
    return _of(logm_, LOG, A)


@asked
def sqrtm(A: Any) -> LinearOperator:
    """The principal square root: X X = A, with eigenvalues of positive real parts.

    It keeps diagonals, blocks, circulants, and Kronecker products of positive semidefinite factors. A matrix that is
    not Hermitian is written out: NumPy takes SciPy's, by a Schur form, torch and JAX the iteration of Denman and
    Beavers.

    Args:
        A: A square operator or matrix; a real one without negative eigenvalues. Those of a Hermitian one that are
            negative by rounding count as zero.

    Returns:
        An operator, real if A is.

    Raises:
        ValueError: If A is not square, or real and its square root not; where numbers cannot be looked at it is NaN.
        SingularError: If A is not Hermitian, and singular, and no square root is found.

    Example:
        >>> import linops as lo, numpy as np
        >>> lo.linalg.sqrtm(np.array([[1., 3.], [0., 4.]])).to_dense()
        array([[1., 1.],
               [0., 2.]])
    """
    return _of(sqrtm_, SQRT, A)


@asked
def funm(A: Any, f: Callable[[Any], Any]) -> LinearOperator:
    """A function of an operator: V f(w) V⁻¹ of its eigenvalues w and eigenvectors V.

    It keeps diagonals, blocks and circulants, and the eigenvectors of a Hermitian operator where they have structure. A
    large Hermitian operator that is no array gives an `lo.linalg.HermitianFunction`, which takes products alone.

    Args:
        A: A square operator or matrix.
        f: A function of arrays of A's framework (NumPy's of an operator without arrays), number by number: of real ones
            for Hermitian A, else of complex ones.

    Returns:
        An operator; of real A real, if f has real values of real numbers.

    Raises:
        ValueError: If A is not square, if it is not known to be Hermitian and its eigenvectors are nearly dependent
            (condition above 1e8 in double precision), or if A and f are real and f(A) is not.
        TypeError: If f cannot be called.

    Example:
        >>> import linops as lo, numpy as np
        >>> lo.linalg.funm(np.array([[0., 1.], [0., 1.]]), np.exp).to_dense().round(6)
        array([[1.      , 1.718282],
               [0.      , 2.718282]])
    """
    if not callable(f):
        raise TypeError(f"linalg.funm: f must be a function of arrays, got {f!r}")
    home = operator_of("funm", A, square=True).backend

    def numbers(x: Any) -> Any:
        if home is None or backends.backend_of(x) == home:
            return f(x)
        return backends.to_numpy(f(backends.asarray(x, home)))  # parts without arrays give NumPy's, and take them

    return _of(funm_, Scalar("funm", numbers), A)


@asked
def matrix_power(A: Any, p: float) -> LinearOperator:
    """The power A^p: of an integer as A ** p, with the inverse for negative ones; else the principal one, e^(p log A).

    Args:
        A: A square operator or matrix; for a fractional p, a real one without negative eigenvalues.
        p: An integer or a fraction.

    Returns:
        An operator, real if A is.

    Raises:
        ValueError: If A is not square, or real and its power not; where numbers cannot be looked at it is NaN.
        SingularError: If p is negative and A singular.
        TypeError: If p is no real number.

    Example:
        >>> import linops as lo, numpy as np
        >>> lo.linalg.matrix_power(lo.Diagonal(np.array([4., 9.])), -0.5).diagonal
        array([0.5       , 0.33333333])
    """
    if isinstance(p, bool) or not isinstance(p, Real):
        raise TypeError(f"linalg.matrix_power: the exponent must be an integer or a fraction, got {p!r}")
    if isinstance(p, Integral) or float(p).is_integer():
        return operator_of("matrix_power", A, square=True, symbolic=True) ** int(p)
    return _of(sqrtm_, SQRT, A) if p == 0.5 else _of(power_, power_of(float(p)), A)


@inverse_.rule("e^−A", cost="that of e^A")
def _inverse_exponential(a: Exponential, kept: bool):
    return Exponential(-a.base, a.limit)
