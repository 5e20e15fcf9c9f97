"""c I + s X in the structure of X: with a multiple of the identity a Toeplitz operator is one, a Kronecker sum one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from linops import backends
from linops.dispatch import generic
from linops.linalg.spectra import scalar_of, split_shift
from linops.operator import LinearOperator, assume
from linops.operators.block_diag import BlockDiag
from linops.operators.circulant import Circulant
from linops.operators.dense import Dense
from linops.operators.diagonal import Diagonal
from linops.operators.direct_sum import DirectSum
from linops.operators.identity import Identity
from linops.operators.kronecker_sum import KroneckerSum
from linops.operators.scaled import Scaled
from linops.operators.sum import Sum
from linops.operators.toeplitz import Toeplitz
from linops.operators.tridiagonal import Tridiagonal
from linops.tags import Tag

#: (s, c) ↦ s X + c I
Shift = Callable[[Any, Any], LinearOperator]


@generic
def shifting(a):
    """The function (s, c) ↦ s A + c I of a square operator in its structure; None where there is none.

    Args:
        a: A square operator.

    Returns:
        A function of two numbers, or 0-d arrays of the operator's backend, that gives an operator; or None.
    """


@shifting.dispatch
def _shifting_any(a: LinearOperator):
    return None


def is_shifted(a: Sum) -> bool:
    """Whether a sum is c I + X with an X that keeps its structure."""
    found = split_shift(a)
    return found is not None and shifting(found[1]) is not None


def shifted(a: Sum) -> LinearOperator:
    """A sum c I + X in the structure of X, of which `is_shifted` holds, with what is known of it."""
    shifts, rest = split_shift(a)  # type: ignore[misc]
    found = combined(rest, 1, sum(_number(shift) for shift in shifts))
    tags = a.tags.yes & ~found.tags.yes
    return assume(found, tags) if tags else found


def combined(a: LinearOperator, s: Any, c: Any) -> LinearOperator:
    """S A + c I, in the structure of A where there is one."""
    if a.backend == "torch" and not a._is_complex and (_is_complex(s) or _is_complex(c)):  # which mixes no leaves
        a = a.to(dtype=backends.result_type("torch", a.dtype, 1j))
    make = shifting(a)
    if make is None:
        multiple = a if _is(s, 1) else _multiple(a, s)
        return multiple if _is(c, 0) else Sum((multiple, _multiple(Identity(a.shape[0]), c)))
    found, real = make(s, c), not (_is_complex(s) or _is_complex(c))
    kept = Tag.SYMMETRIC | Tag.LOWER_TRIANGULAR | Tag.UPPER_TRIANGULAR | (Tag.HERMITIAN if real else Tag.NONE)
    if real and not backends.is_array(s) and not backends.is_array(c) and s > 0 and c >= 0:
        kept |= Tag.POSITIVE_SEMIDEFINITE | Tag.POSITIVE_DEFINITE
    tags = a.tags.yes & kept & ~found.tags.yes
    return assume(found, tags) if tags else found


def _multiple(a: LinearOperator, c: Any) -> LinearOperator:
    return Scaled(a, gain=c) if backends.is_array(c) else Scaled(a, c)


def _number(a: LinearOperator) -> Any:
    """`scalar_of`, without what a spec stands for."""
    is_spec = isinstance(a, Scaled) and backends.backend_of(a.gain) == "spec"
    return a.number if is_spec else scalar_of(a)  # type: ignore[attr-defined]


def _is(number: Any, value: int) -> bool:
    """Whether a number is this one, and no parameter."""
    return not backends.is_array(number) and number == value


def _is_complex(number: Any) -> bool:
    return backends.is_complex(number.dtype) if backends.is_array(number) else isinstance(number, complex)


def _times(array: Any, s: Any) -> Any:
    """A multiple of an array; a spec as it is."""
    return array if backends.backend_of(array) == "spec" or _is(s, 1) else array * s


def _plus(array: Any, s: Any, c: Any) -> Any:
    """A multiple of an array, plus a number."""
    return array if backends.backend_of(array) == "spec" else _times(array, s) + c


def _plus_identity(matrix: Any, s: Any, c: Any) -> Any:
    """A multiple of a matrix or a stack of them, plus one of the identity."""
    if backends.backend_of(matrix) == "spec":
        return matrix
    return _times(matrix, s) + c * backends.eye(matrix, matrix.shape[-1], matrix.dtype)


def _plus_at_first(array: Any, s: Any, c: Any) -> Any:
    """A multiple of an array, plus a number at the first place."""
    if backends.backend_of(array) == "spec":
        return array
    array = _times(array, s)
    return backends.concatenate(array[:1] + c, [array[1:]])


@shifting.dispatch
def _shifting_scaled(a: Scaled):
    make = shifting(a.base)
    return None if make is None else lambda s, c: make(s * _number(a), c)


@shifting.dispatch
def _shifting_dense(a: Dense):
    return lambda s, c: Dense(_plus_identity(a.matrix, s, c))


@shifting.dispatch
def _shifting_diagonal(a: Diagonal):
    return lambda s, c: Diagonal(_plus(a.diagonal, s, c))


@shifting.dispatch
def _shifting_tridiagonal(a: Tridiagonal):
    return lambda s, c: Tridiagonal(_times(a.lower, s), _plus(a.diag, s, c), _times(a.upper, s))


@shifting.dispatch
def _shifting_toeplitz(a: Toeplitz):
    return lambda s, c: Toeplitz(_plus_at_first(a.c, s, c), _times(a.r, s), a.transposed)


@shifting.dispatch
def _shifting_circulant(a: Circulant):
    return lambda s, c: Circulant(_plus_at_first(a.c, s, c), a.rows, a.columns, a.transposed)


@shifting.dispatch
def _shifting_blocks(a: BlockDiag):
    if a.blocks.shape[1] != a.blocks.shape[2]:
        return None
    return lambda s, c: BlockDiag(_plus_identity(a.blocks, s, c))


@shifting.dispatch
def _shifting_direct_sum(a: DirectSum):
    if any(block.shape[0] != block.shape[1] for block in a.blocks):
        return None
    return lambda s, c: DirectSum([combined(block, s, c) for block in a.blocks])


@shifting.dispatch
def _shifting_kronecker_sum(a: KroneckerSum):
    first, *rest = a.factors
    return lambda s, c: KroneckerSum(combined(first, s, c), *[combined(one, s, 0) for one in rest])
