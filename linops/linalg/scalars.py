"""`Scalar`: a function of numbers, and of matrices, such as the exponential; and what is known of what it makes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from linops import backends
from linops.backends import factorizations as lapack
from linops.backends import matrix_functions
from linops.linalg.inputs import singular
from linops.linalg.parts import space_of
from linops.operator import LinearOperator, assume
from linops.tags import Tag


@dataclass(frozen=True)
class Scalar:
    """A function of numbers and of matrices.

    Attributes:
        name: What `lo.linalg` calls it.
        numbers: Of the numbers of an array, real or complex.
        matrix: Of a stack of matrices; None where only the function of numbers is known.
        floor: Whether negative numbers have complex values.
        pole: Whether zero has no value.
    """

    name: str
    numbers: Callable[[Any], Any]
    matrix: Callable[[Any], Any] | None = None
    floor: bool = False
    pole: bool = False


EXP = Scalar("expm", lambda x: space_of(x).exp(x), lambda a: matrix_functions.expm(a))
LOG = Scalar("logm", lambda x: space_of(x).log(x), lambda a: matrix_functions.logm(a), floor=True, pole=True)
SQRT = Scalar("sqrtm", lambda x: space_of(x).sqrt(x), lambda a: matrix_functions.sqrtm(a), floor=True)


def power_of(exponent: float) -> Scalar:
    """The power to a fraction."""
    return Scalar(
        "matrix_power",
        lambda x: x**exponent,
        lambda a: matrix_functions.fractional_power(a, exponent),
        floor=True,
        pole=exponent < 0,
    )


def no_real(f: Scalar, a: LinearOperator) -> ValueError:
    """The error that a function of a real operator would be complex."""
    return ValueError(
        f"linalg.{f.name}({a._short()}): an eigenvalue is negative, and the result is not real; "
        "the complex one is that of A.to(dtype='complex128')"
    )


def values(f: Scalar, a: LinearOperator, numbers: Any) -> Any:
    """The function of eigenvalues of an operator.

    Args:
        f: The function.
        a: The operator.
        numbers: Eigenvalues, real or complex.

    Returns:
        An array; of real numbers of a real operator real.

    Raises:
        ValueError: If numbers of a real operator have complex values.
        SingularError: If a number is zero, and the function has no value there.
    """
    return evaluated(f, admitted(f, a, numbers))


def evaluated(f: Scalar, numbers: Any) -> Any:
    """F of numbers, without warnings of what becomes NaN or infinite."""
    with np.errstate(all="ignore") if space_of(numbers) is np else nullcontext():
        return f.numbers(numbers)


def admitted(f: Scalar, a: LinearOperator, numbers: Any) -> Any:
    """Eigenvalues of an operator of which the function is taken: zeros are not negative by rounding; see `values`."""
    space = space_of(numbers)
    known = lapack.is_known(numbers)
    if f.floor and not backends.is_complex(numbers.dtype):
        size = space.abs(lapack.stop_gradient(numbers))
        rounding = numbers.shape[0] * space.finfo(numbers.dtype).eps * (space.amax(size) if numbers.shape[0] else 0)
        if a._is_complex and Tag.POSITIVE_SEMIDEFINITE not in a.tags.yes:
            numbers = space.astype(numbers, backends.result_type(backends.backend_of(numbers), numbers.dtype, 1j))
        else:
            if known and bool((numbers < -rounding).any()):
                raise no_real(f, a)
            numbers = space.where((numbers < 0) & (numbers >= -rounding), 0 * numbers, numbers)
    if f.pole and known and lapack.has_zero(numbers):
        raise singular(a, "an eigenvalue is zero")
    return numbers


def known(f: Scalar, a: LinearOperator, result: LinearOperator, real: bool | None = None) -> LinearOperator:
    """A function of an operator, with what is known of it.

    Args:
        f: The function.
        a: The operator.
        result: The function of it.
        real: Whether the function of a Hermitian operator has real values; None where that follows from its tags.

    Returns:
        The result with tags.
    """
    tags = a.tags.yes & (Tag.SYMMETRIC | Tag.LOWER_TRIANGULAR | Tag.UPPER_TRIANGULAR | Tag.DIAGONAL)
    if real is None:
        real = f is EXP or (f.floor and (not a._is_complex or Tag.POSITIVE_SEMIDEFINITE in a.tags.yes))
    if real and Tag.HERMITIAN in a.tags.yes:
        tags |= Tag.HERMITIAN
        if f is EXP:
            tags |= Tag.POSITIVE_DEFINITE
        elif f.floor and f is not LOG:
            definite = f.pole or Tag.POSITIVE_DEFINITE in a.tags.yes
            tags |= Tag.POSITIVE_DEFINITE if definite else Tag.POSITIVE_SEMIDEFINITE
    tags &= ~result.tags.yes
    return assume(result, tags) if tags else result
