"""Whether an operator is Hermitian, where nobody said so: checked where there are numbers, else made so."""

from __future__ import annotations

from typing import Any

import numpy as np

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.inputs import fits, matrix_of
from linops.linalg.spectra import hermitian_part, is_hermitian, scalar_of
from linops.operator import LinearOperator, assume, flat
from linops.operators.block_diag import BlockDiag
from linops.operators.dense import Dense
from linops.operators.direct_sum import DirectSum
from linops.operators.kronecker import Kronecker
from linops.operators.kronecker_sum import KroneckerSum
from linops.operators.power import Power
from linops.operators.scaled import Scaled
from linops.operators.sum import Sum
from linops.operators.tridiagonal import Tridiagonal
from linops.tags import Tag


def hermitian(function: str, A: LinearOperator) -> LinearOperator:
    """An operator with the knowledge that it is Hermitian, parts and all.

    Args:
        function: Who asks.
        A: A concrete square operator.

    Returns:
        The operator, its dense parts replaced by their Hermitian parts.

    Raises:
        ValueError: If its numbers say that it is not Hermitian.
    """
    if is_hermitian(A):
        return A
    found = _by_parts(A)
    if found is None and isinstance(A, (Kronecker, Scaled, Sum, Power)):  # which may be so and their parts not
        found = _by_products(A)
    if found is None:
        raise ValueError(
            f"linalg.{function}({A._short()}): it is not Hermitian. lo.linalg.eig and eigvals take any square "
            "operator; one that is Hermitian but for rounding is declared by lo.assume(A, lo.Tag.HERMITIAN)"
        )
    return found


def _by_parts(A: LinearOperator) -> LinearOperator | None:
    """The operator of Hermitian parts; None where they are not."""
    if is_hermitian(A):
        return A
    if isinstance(A, Dense):
        return _dense(A)
    made: LinearOperator | None = None
    if isinstance(A, (Kronecker, KroneckerSum)):
        parts = _all(A.factors)
        made = None if parts is None else type(A)(*parts)
    elif isinstance(A, DirectSum):
        parts = _all(A.blocks)
        made = None if parts is None else DirectSum(parts)
    elif isinstance(A, Sum):
        parts = _all(A.terms)
        made = None if parts is None else Sum(tuple(parts))
    elif isinstance(A, (Scaled, Power)):
        if isinstance(A, Scaled) and not _is_real(scalar_of(A)):
            return None
        base = _by_parts(A.base)
        if base is None:
            return None
        made = Power(base, A.exponent) if isinstance(A, Power) else Scaled(base, A.number, A.gain, A.divisor)
    elif isinstance(A, BlockDiag):
        return _blocks(A)
    elif isinstance(A, Tridiagonal):
        return _tridiagonal(A)
    else:
        return _by_products(A)
    return made if made is None or is_hermitian(made) else assume(made, Tag.HERMITIAN)


def _all(parts: Any) -> list[LinearOperator] | None:
    found = []
    for part in parts:
        one = _by_parts(part) if part.shape[0] == part.shape[1] else None
        if one is None:
            return None
        found.append(one)
    return found


def _is_real(number: Any) -> bool:
    return not (backends.is_complex(number.dtype) if backends.is_array(number) else isinstance(number, complex))


def _close(one: Any, other: Any) -> bool:
    """Whether two arrays are equal but for rounding; True where there are no numbers."""
    if not lapack.is_known(one):
        return True
    space: Any = backends.namespace(backends.backend_of(one))
    if not one.shape[0]:
        return True
    limit = 100 * float(space.finfo(one.dtype).eps) * max(1.0, one.shape[0] ** 0.5)
    with np.errstate(invalid="ignore"):  # of infinities
        return bool(space.max(space.abs(one - other)) <= limit * space.max(space.abs(one)))


def _dense(A: Dense) -> LinearOperator | None:
    m, n = A.shape
    if m != n or not fits(A):
        return None
    matrix = matrix_of(A)
    half = hermitian_part(matrix)
    return assume(Dense(half), Tag.HERMITIAN) if _close(matrix, half) else None


def _blocks(A: BlockDiag) -> LinearOperator | None:
    if A.blocks.shape[1] != A.blocks.shape[2]:
        return None
    half = hermitian_part(A.blocks)
    return assume(BlockDiag(half), Tag.HERMITIAN) if _close(A.blocks, half) else None


def _tridiagonal(A: Tridiagonal) -> LinearOperator | None:
    beside, diag = (A.lower + backends.conj(A.upper)) / 2, (A.diag + backends.conj(A.diag)) / 2
    close = _close(A.diag, diag) and _close(A.lower, beside) and _close(A.upper, backends.conj(beside))
    return assume(Tridiagonal(beside, diag, backends.conj(beside)), Tag.HERMITIAN) if close else None


def _by_products(A: LinearOperator) -> LinearOperator | None:
    """The operator, if A x = Aᴴ x of two vectors of noise; its Hermitian part where there are no numbers."""
    leaves = [leaf for _, leaf in A.named_leaves()]
    if not all(map(lapack.is_known, leaves)):
        return assume(Dense(hermitian_part(matrix_of(A))), Tag.HERMITIAN)
    like, n = A._like, A.shape[0]
    noise = np.random.default_rng(0).standard_normal((n, 2))
    x = backends.constant(like, noise, like.dtype if A._own_dtype is None else A._own_dtype)
    one, other = flat(A @ x), flat(A.H @ x)
    return assume(A, Tag.HERMITIAN) if _close(one, other) else None
