"""Triangular factors, structure by structure: Cholesky, LU with pivoting, and QR, their factors operators."""

from __future__ import annotations

from typing import Any

import numpy as np

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.errors import SingularError
from linops.linalg.function import Function
from linops.linalg.inputs import matrix_of, of_whole, widened
from linops.linalg.parts import parts_of, space_of, square_parts
from linops.linalg.spectra import hermitian_part, is_hermitian, real_part, scalar_of
from linops.linalg.traces import diagonal_
from linops.operator import LinearOperator, assume
from linops.operators.block_diag import BlockDiag
from linops.operators.dense import Dense
from linops.operators.diagonal import Diagonal
from linops.operators.direct_sum import DirectSum
from linops.operators.identity import Identity
from linops.operators.kronecker import Kronecker
from linops.operators.permutation import Permutation
from linops.operators.permute import Permute
from linops.operators.scaled import Scaled
from linops.operators.triangular import Triangular
from linops.plan.step import Step
from linops.tags import Tag

#: the lower L of A = L Lᴴ
cholesky_: Function = Function("cholesky")
#: (P, L, U) of A = P L U
lu_: Function = Function("lu")
#: thin (Q, R) of A = Q R
qr_: Function = Function("qr")


_INSTEAD = "lo.linalg.solve and lstsq need no factors, and go on by products alone"


def _steps(name: str, share: int) -> Any:
    def steps(a: LinearOperator) -> Any:
        m, n = a.shape
        return (Step(name, f"({m}, {n})", macs=m * n * min(m, n) // share, inputs=m * n, outputs=m * n),)

    return steps


def indefinite(a: LinearOperator) -> SingularError:
    """The error that an operator has no Cholesky factor."""
    return SingularError(
        f"linalg.cholesky({a._short()}): it is not positive definite. lo.linalg.lu takes any square operator, "
        "lo.linalg.eigh any Hermitian one; adding c * lo.Identity(n) shifts its eigenvalues by c"
    )


# ---------------------------------------------------------------- Cholesky


def _hermitian_parts(name: str) -> Any:
    return lambda a: all(map(is_hermitian, getattr(a, name)))


def _is_negative(a: LinearOperator) -> bool:
    """Whether a Hermitian operator, if definite, is negative definite; False where its numbers cannot be looked at."""
    numbers = diagonal_(a)[:1]
    return bool(numbers.shape[0]) and lapack.is_known(numbers) and bool((real_part(numbers) < 0).all())


@cholesky_.rule("itself", cost="0")
def _cholesky_identity(a: Identity):
    return a


@cholesky_.rule(
    "the Kronecker product of the factors'",
    of="Hermitian factors",
    when=_hermitian_parts("factors"),
    parts=parts_of(cholesky_, "factors"),
    cost="Σ n_k³",
)
def _cholesky_kronecker(a: Kronecker):
    negative = [_is_negative(factor) for factor in a.factors]
    if sum(negative) % 2:
        raise indefinite(a)
    return Kronecker(
        *of_whole(a, [cholesky_(-factor if flip else factor) for factor, flip in zip(a.factors, negative)])
    )


@cholesky_.rule(
    "those of the blocks",
    of="square blocks",
    when=square_parts("blocks"),
    parts=parts_of(cholesky_, "blocks"),
    cost="Σ n_k³",
)
def _cholesky_direct_sum(a: DirectSum):
    return DirectSum(of_whole(a, [cholesky_(block) for block in a.blocks]))


@cholesky_.rule(
    "those of the blocks, batched",
    of="square blocks",
    when=lambda a: a.blocks.shape[1] == a.blocks.shape[2],
    cost="b n³",
)
def _cholesky_blocks(a: BlockDiag):
    blocks = lapack.cholesky(hermitian_part(widened(a, a.blocks)))
    if _fails(blocks):
        raise indefinite(a)
    return assume(BlockDiag(blocks), Tag.LOWER_TRIANGULAR)


@cholesky_.rule(
    "√c times the base's", of="c > 0", when=lambda a: _is_positive(a), parts=lambda a: [(cholesky_, a.base)]
)
def _cholesky_scaled(a: Scaled):
    number = scalar_of(a)
    number = number.real if isinstance(number, complex) else number
    return float(np.sqrt(number)) * cholesky_(a.base)


def _is_positive(a: Scaled) -> bool:
    number = scalar_of(a)
    return not backends.is_array(number) and number.imag == 0 and number.real > 0


@cholesky_.rule(
    "roots of its diagonal", of="diagonal", when=lambda a: Tag.DIAGONAL in a.tags.yes, parts=lambda a: [(diagonal_, a)]
)
def _cholesky_diagonal(a: LinearOperator):
    numbers = diagonal_(a)
    space: Any = space_of(numbers)
    is_complex = backends.is_complex(numbers.dtype)
    real = space.real(numbers) if is_complex else numbers
    if lapack.is_known(real) and not bool((real > 0).all() and (not is_complex or bool((numbers == real).all()))):
        raise indefinite(a)
    positive = real > 0
    return Diagonal(space.where(positive, space.sqrt(space.where(positive, real, 1 + 0 * real)), space.nan))


@cholesky_.rule("LAPACK, of the matrix written out", steps=_steps("cholesky", 6), cost="n³")
def _cholesky_any(a: LinearOperator):
    lower = lapack.cholesky(hermitian_part(matrix_of(a, _INSTEAD)))
    if _fails(lower):
        raise indefinite(a)
    return Triangular(lower, lower=True)


def _fails(lower: Any) -> bool:
    return lapack.is_known(lower) and not bool(space_of(lower).isfinite(lower).all())


# ---------------------------------------------------------------- LU


@lu_.rule("the identity, and itself", cost="0")
def _lu_identity(a: Identity):
    return a, a, a


@lu_.rule("itself", cost="0")
def _lu_permutation(a: Permutation):
    one = Identity(a.shape[0])
    return a, one, one


@lu_.rule(
    "Kronecker products of the factors'",
    of="square factors",
    when=square_parts("factors"),
    parts=parts_of(lu_, "factors"),
    cost="Σ n_k³",
)
def _lu_kronecker(a: Kronecker):
    P, L, U = zip(*[lu_(factor) for factor in a.factors])
    return Kronecker(*of_whole(a, P)), Kronecker(*of_whole(a, L)), Kronecker(*of_whole(a, U))


@lu_.rule(
    "those of the blocks", of="square blocks", when=square_parts("blocks"), parts=parts_of(lu_, "blocks"), cost="Σ n_k³"
)
def _lu_direct_sum(a: DirectSum):
    P, L, U = zip(*[lu_(block) for block in a.blocks])
    return DirectSum(of_whole(a, P)), DirectSum(of_whole(a, L)), DirectSum(of_whole(a, U))


@lu_.rule(
    "itself, times the identity", of="upper triangular", when=lambda a: Tag.UPPER_TRIANGULAR in a.tags.yes, cost="0"
)
def _lu_upper(a: LinearOperator):
    one = Identity(a.shape[0])
    return one, one, a


@lu_.rule("LAPACK, of the matrix written out", steps=_steps("lu", 3), cost="n³")
def _lu_any(a: LinearOperator):
    packed, pivots = lapack.lu_factor(matrix_of(a, _INSTEAD))
    order = lapack.lu_order(pivots)
    space: Any = space_of(packed)
    one = backends.eye(packed, packed.shape[0], packed.dtype)
    traced = not lapack.is_known(order)  # which is no structure
    P = Dense(backends.permute(space.take(one, order, axis=0), (1, 0))) if traced else Permute(order).T
    return P, Triangular(space.tril(packed, k=-1) + one), Triangular(packed, lower=False)


# ---------------------------------------------------------------- QR


def _tall_parts(name: str) -> Any:
    return lambda a: all(part.shape[0] >= part.shape[1] for part in getattr(a, name))


@qr_.rule(
    "Kronecker products of the factors'",
    of="tall factors",
    when=_tall_parts("factors"),
    parts=parts_of(qr_, "factors"),
    cost="Σ n_k³",
)
def _qr_kronecker(a: Kronecker):
    Q, R = zip(*[qr_(factor) for factor in a.factors])
    return Kronecker(*of_whole(a, Q)), Kronecker(*of_whole(a, R))


@qr_.rule(
    "those of the blocks", of="tall blocks", when=_tall_parts("blocks"), parts=parts_of(qr_, "blocks"), cost="Σ n_k³"
)
def _qr_direct_sum(a: DirectSum):
    Q, R = zip(*[qr_(block) for block in a.blocks])
    return DirectSum(of_whole(a, Q)), DirectSum(of_whole(a, R))


@qr_.rule(
    "those of the blocks, batched", of="tall blocks", when=lambda a: a.blocks.shape[1] >= a.blocks.shape[2], cost="b n³"
)
def _qr_blocks(a: BlockDiag):
    Q, R = lapack.qr(widened(a, a.blocks))
    return BlockDiag(Q), assume(BlockDiag(R), Tag.UPPER_TRIANGULAR)


@qr_.rule("itself, and the identity", of="orthogonal", when=lambda a: Tag.ORTHOGONAL in a.tags.yes, cost="0")
def _qr_orthogonal(a: LinearOperator):
    return a, Identity(a.shape[1])


@qr_.rule(
    "the identity, and itself",
    of="upper triangular",
    when=lambda a: Tag.UPPER_TRIANGULAR in a.tags.yes and _square(a),
    cost="0",
)
def _qr_upper(a: LinearOperator):
    return Identity(a.shape[0]), a


def _square(a: LinearOperator) -> bool:
    return a.shape[0] == a.shape[1]


@qr_.rule("LAPACK, of the matrix written out", steps=_steps("qr", 1), cost="n³")
def _qr_any(a: LinearOperator):
    Q, R = lapack.qr(matrix_of(a, _INSTEAD))
    return Dense(Q), Triangular(R, lower=False) if R.shape[0] == R.shape[1] else Dense(R)
