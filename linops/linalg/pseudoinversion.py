"""Pseudoinverses, structure by structure.

Singular values of at most ε max(m, n) times the largest count as zero, as in `numpy.linalg.lstsq`; of a structure in
parts each part has its own largest. Rules of `pinv_` take an operator.
"""

from __future__ import annotations

from typing import Any

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.function import Function
from linops.linalg.inputs import fits, matrix_of, of_whole, wide_dtype
from linops.linalg.inversion import inverse_
from linops.linalg.least_squares import LeastSquares
from linops.linalg.methods.lsmr import LSMR
from linops.linalg.parts import parts_of, space_of
from linops.linalg.spectra import eigh_, has_parts, is_hermitian, spectrum_of
from linops.linalg.traces import diagonal_
from linops.operator import LinearOperator, assume
from linops.operators.block_diag import BlockDiag
from linops.operators.circulant import Circulant
from linops.operators.dense import Dense
from linops.operators.dft import DFT
from linops.operators.diagonal import Diagonal
from linops.operators.direct_sum import DirectSum
from linops.operators.hadamard import Hadamard
from linops.operators.identity import Identity
from linops.operators.kronecker import Kronecker
from linops.operators.kronecker_sum import KroneckerSum
from linops.operators.low_rank import LowRank
from linops.operators.permutation import Permutation
from linops.operators.scaled import Scaled
from linops.operators.sum import Sum
from linops.operators.zero import Zero
from linops.plan.step import Step
from linops.tags import Tag

#: the pseudoinverse A⁺
pinv_: Function = Function("pinv", "pinv", "lstsq")

_TAGS = Tag.SYMMETRIC | Tag.HERMITIAN | Tag.POSITIVE_SEMIDEFINITE


def _known(pseudoinverse: LinearOperator, a: LinearOperator) -> LinearOperator:
    """A pseudoinverse with what it has of the operator."""
    tags = a.tags.yes & _TAGS & ~pseudoinverse.tags.yes
    return assume(pseudoinverse, tags) if tags else pseudoinverse


def cutoff(shape: Any, dtype: Any, space: Any) -> float:
    """Which share of the largest singular value counts as zero."""
    return float(space.finfo(dtype).eps) * max(1, *shape)


def _reciprocal(numbers: Any, shape: Any) -> Any:
    """One over numbers, and 0 where they are at most the cutoff, without a division by zero, or a gradient of one."""
    space = space_of(numbers)
    if not numbers.shape[0]:
        return numbers
    size = space.abs(lapack.stop_gradient(numbers))
    is_zero = size <= cutoff(shape, numbers.dtype, space) * size.max()
    return space.where(is_zero, 0 * numbers, 1 / space.where(is_zero, 1 + 0 * numbers, numbers))


@pinv_.rule("itself", cost="0")
def _pinv_identity(a: Identity):
    return a


@pinv_.rule("Aᵀ", cost="0")
def _pinv_permutation(a: Permutation):
    return a.T


@pinv_.rule("zero", cost="0")
def _pinv_zero(a: Zero):
    return a.T


@pinv_.rule(
    "the inverse",
    of="square",
    when=lambda a: a.shape[0] == a.shape[1],
    parts=lambda a: [(inverse_, a)],
    cost="that of the inverse",
)
def _pinv_transform(a: DFT | Hadamard):
    return inverse_(a, True)


@pinv_.rule(
    "1/c times the base's",
    when=lambda a: a.gain is None or backends.backend_of(a.gain) != "spec",
    parts=lambda a: [(pinv_, a.base)],
    cost="that of the base",
)
def _pinv_scaled(a: Scaled):
    base = pinv_(a.base)
    if a.number == 0:
        return a.H
    if a.divisor is not None:
        base = a.divisor * base
    elif type(a.number) is not int or a.number != 1:
        base = base / a.number
    return base if a.gain is None else Scaled(base, gain=_reciprocal(a.gain[None], (1,)).reshape(()))


@pinv_.rule(
    "one over its spectrum where that is not zero", of="square", when=lambda a: a.shape[0] == a._length, cost="n log n"
)
def _pinv_circulant(a: Circulant):
    n = a.shape[0]
    inverse = _reciprocal(spectrum_of(Circulant(a.c)), a.shape)
    kernel = backends.fourier(inverse, "ifft", n, -1, None)
    kernel = kernel if backends.is_complex(a.c.dtype) else kernel.real
    return _known(Circulant(space_of(kernel).astype(kernel, a.c.dtype), transposed=a.transposed), a)


@pinv_.rule("the Kronecker product of the factors'", parts=parts_of(pinv_, "factors"), cost="Σ m_k n_k min(m_k, n_k)")
def _pinv_kronecker(a: Kronecker):
    return Kronecker(*of_whole(a, [pinv_(factor) for factor in a.factors]))


@pinv_.rule("those of the blocks", parts=parts_of(pinv_, "blocks"), cost="Σ that of a block")
def _pinv_direct_sum(a: DirectSum):
    return DirectSum(of_whole(a, [pinv_(block) for block in a.blocks]))


@pinv_.rule("those of the blocks, batched", cost="b p q min(p, q)")
def _pinv_blocks(a: BlockDiag):
    space, dtype = space_of(a.blocks), a.blocks.dtype
    blocks = space.astype(a.blocks, wide_dtype(dtype, a.backend))
    found = lapack.pinv(blocks, cutoff(a.blocks.shape[1:], blocks.dtype, space))
    return _known(BlockDiag(space.astype(found, dtype)), a)


@pinv_.rule("of the triangles of U and Vᴴ", when=lambda a: a.U.shape[1] <= min(a.shape), cost="(m + n) r²")
def _pinv_low_rank(a: LowRank):
    space, dtype = space_of(a.U), a.U.dtype
    wide = wide_dtype(dtype, a.backend)
    q, r = lapack.qr(space.astype(a.U, wide))
    other_q, other_r = lapack.qr(space.astype(backends.conj(a.V).T, wide))
    core = lapack.pinv(r @ backends.conj(other_r).T, cutoff(a.shape, wide, space))
    return _known(LowRank(space.astype(other_q @ core, dtype), space.astype(backends.conj(q).T, dtype)), a)


@pinv_.rule("Aᴴ", of="orthogonal", when=lambda a: Tag.ORTHOGONAL in a.tags.yes, cost="0")
def _pinv_orthogonal(a: LinearOperator):
    return a.H


@pinv_.rule(
    "one over its diagonal where that is not zero",
    of="diagonal",
    when=lambda a: Tag.DIAGONAL in a.tags.yes and a.shape[0] == a.shape[1],
    parts=lambda a: [(diagonal_, a)],
    cost="n",
)
def _pinv_diagonal(a: LinearOperator):
    return _known(Diagonal(_reciprocal(diagonal_(a), a.shape)), a)


@pinv_.rule(
    "one over the eigenvalues that are not zero",
    of="Hermitian, of smaller parts",
    when=lambda a: is_hermitian(a) and has_parts(a),
    parts=lambda a: [(eigh_, a)],
    cost="that of eigh",
)
def _pinv_hermitian(a: KroneckerSum | Sum):
    found, vectors = eigh_(a)
    values = _reciprocal(found, a.shape)
    values = space_of(values).astype(values, a.dtype) if not backends.promotes(a.backend) else values
    return _known(vectors @ Diagonal(values) @ vectors.H, a)


def _svd_steps(a: LinearOperator) -> tuple[Step, ...]:
    m, n = a.shape
    return (Step("svd", f"({m}, {n})", macs=5 * m * n * min(m, n), inputs=m * n, outputs=m * n),)


@pinv_.rule(
    "singular values of the matrix written out",
    of="of at most `DENSE_LIMIT` entries",
    when=fits,
    steps=_svd_steps,
    cost="m n min(m, n)",
)
def _pinv_any(a: LinearOperator):
    matrix = matrix_of(a)
    space = space_of(matrix)
    found = lapack.pinv(matrix, cutoff(a.shape, matrix.dtype, space))
    return _known(Dense(found if a.dtype is None else space.astype(found, a.dtype)), a)


@pinv_.rule("LSMR, to a tight tolerance", cost="products with A and Aᴴ, four times an iteration")
def _pinv_large(a: LinearOperator):
    return LeastSquares(a, LSMR(rtol=None))


def is_written_out(a: LinearOperator) -> bool:
    """Whether the rule is that of any matrix that fits."""
    return pinv_.find(a).run is _pinv_any
