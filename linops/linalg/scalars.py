"""`Scalar`: a function of numbers, and of matrices, such as the exponential; and what operators it makes of spectra."""

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
from linops.linalg.parts import adjoint, space_of
from linops.operator import LinearOperator, assume
from linops.operators.block_diag import BlockDiag
from linops.operators.dense import Dense
from linops.operators.diagonal import Diagonal
from linops.operators.identity import Identity
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
    with np.errstate(all="ignore") if space is np else nullcontext():
        return f.numbers(numbers)


def recomposed(f: Scalar, a: LinearOperator, found: Any, vectors: LinearOperator) -> LinearOperator:
    """V diag(f(w)) Vᴴ, written out where V is.

    Args:
        f: The function.
        a: The Hermitian operator.
        found: f(w).
        vectors: V.

    Returns:
        An operator.
    """
    if isinstance(vectors, Identity):
        return known(f, a, Diagonal(found))
    backend = backends.backend_of(found)
    if backends.is_complex(found.dtype) and not vectors._is_complex and vectors.dtype is not None:
        vectors = vectors.to(dtype=backends.result_type(backend, vectors.dtype, 1j))
    if isinstance(vectors, Dense):
        matrix = vectors.matrix
        result = Dense((matrix * found) @ adjoint(matrix))
    elif isinstance(vectors, BlockDiag):
        blocks = vectors.blocks
        scaled = blocks * found.reshape(blocks.shape[0], 1, blocks.shape[1])
        result = BlockDiag(backends.block_matmul(scaled, backends.permute(backends.conj(blocks), (0, 2, 1))))
    else:
        middle = found if vectors.dtype is None else backends.namespace(backend).astype(found, vectors.dtype)
        result = vectors @ Diagonal(middle) @ vectors.H
    return known(f, a, result, real=not backends.is_complex(found.dtype))


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
