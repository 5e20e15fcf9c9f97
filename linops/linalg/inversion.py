"""Inverses, structure by structure: an operator of the algebra where there is one, else an `Inverse` by a method.

Rules of `inverse_` take an operator and whether what they find is kept for more right-hand sides.
"""

from __future__ import annotations

from typing import Any

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.chains import as_product, has_square_factors, is_narrow
from linops.linalg.function import Function
from linops.linalg.grids import (
    grid_parts,
    has_schur_complement,
    inverse_by_schur,
    inverse_of_triangular,
    is_triangular_grid,
)
from linops.linalg.inputs import fits, require_no_zero, singular
from linops.linalg.inverse import Inverse
from linops.linalg.methods.blockwise import Blockwise
from linops.linalg.methods.cholesky import Cholesky
from linops.linalg.methods.division import Division
from linops.linalg.methods.levinson import Levinson
from linops.linalg.methods.lu import LU
from linops.linalg.methods.substitution import Substitution, Thomas
from linops.linalg.methods.super_lu import SuperLU
from linops.linalg.parts import is_deficient, parts_of, square_parts
from linops.linalg.traces import diagonal_
from linops.operator import LinearOperator, assume
from linops.operators.block import Block
from linops.operators.block_diag import BlockDiag
from linops.operators.block_tensor_train import BlockTensorTrain
from linops.operators.butterfly import Butterfly
from linops.operators.circulant import Circulant
from linops.operators.dft import DFT
from linops.operators.diagonal import Diagonal
from linops.operators.direct_sum import DirectSum
from linops.operators.hadamard import Hadamard
from linops.operators.identity import Identity
from linops.operators.kronecker import Kronecker
from linops.operators.low_rank import LowRank
from linops.operators.permutation import Permutation
from linops.operators.power import Power
from linops.operators.product import Product
from linops.operators.scaled import Scaled
from linops.operators.sparse import Sparse
from linops.operators.toeplitz import Toeplitz
from linops.operators.tridiagonal import Tridiagonal
from linops.operators.zero import Zero
from linops.specs import Spec
from linops.tags import Tag

#: A⁻¹ of a square operator, and whether it is kept for more right-hand sides
inverse_: Function = Function("inverse", "solve", "inv")

_TAGS = Tag.SYMMETRIC | Tag.HERMITIAN | Tag.POSITIVE_DEFINITE


def _known(inverse: LinearOperator, a: LinearOperator) -> LinearOperator:
    """An inverse with what it has of the operator."""
    tags = a.tags.yes & _TAGS & ~inverse.tags.yes
    return assume(inverse, tags) if tags else inverse


@inverse_.of_nothing
def _inverse_of_nothing(a: LinearOperator, kept: bool):
    return a


@inverse_.rule("itself", cost="0")
def _inverse_identity(a: Identity, kept: bool):
    return a


@inverse_.rule("none: it is singular", cost="0")
def _inverse_zero(a: Zero, kept: bool):
    raise singular(a)


@inverse_.rule("1/c times the base's", parts=lambda a: [(inverse_, a.base)], cost="that of the base")
def _inverse_scaled(a: Scaled, kept: bool):
    number, gain = a.number, a.gain
    if number == 0 and a.shape[0]:
        raise singular(a, "a multiple by zero")
    if gain is not None and backends.backend_of(gain) != "spec":
        require_no_zero(a, gain[None], "a multiple by zero")
    inverse = inverse_(a.base, kept)
    if a.divisor is not None:
        inverse = a.divisor * inverse
    elif type(number) is not int or number != 1:
        inverse = inverse / number
    if gain is None:
        return inverse
    return Scaled(inverse, gain=gain if backends.backend_of(gain) == "spec" else (1 / gain[None]).reshape(()))


@inverse_.rule("Aᵀ", cost="0")
def _inverse_permutation(a: Permutation, kept: bool):
    return a.T


@inverse_.rule("the conjugate transform, over n", cost="n log n")
def _inverse_dft(a: DFT, kept: bool):
    return a.H if a.norm == "ortho" or not a.shape[0] else a.H / a.shape[0]


@inverse_.rule("itself over n", cost="n log n")
def _inverse_hadamard(a: Hadamard, kept: bool):
    return a / a.shape[0]


@inverse_.rule("one over its spectrum", of="square", when=lambda a: a.shape[0] == a._length, cost="n log n")
def _inverse_circulant(a: Circulant, kept: bool):
    if a.is_symbolic:
        return Circulant(a.c, transposed=a.transposed)
    n = a.shape[0]
    spectrum = backends.fourier(a.c, "fft", n, -1, None)
    space: Any = backends.namespace(backends.backend_of(spectrum))
    size = space.abs(spectrum)
    if n and lapack.is_constant(size) and bool((size <= 4 * space.finfo(spectrum.dtype).eps * size.max()).any()):
        raise singular(a, "its spectrum has a zero")
    kernel = backends.fourier(1 / spectrum, "ifft", n, -1, None)
    kernel = kernel if backends.is_complex(a.c.dtype) else kernel.real
    return _known(Circulant(backends.namespace(a.backend).astype(kernel, a.c.dtype), transposed=a.transposed), a)


@inverse_.rule("none: blocks that are not square", when=lambda a: not square_parts("blocks")(a), cost="0")
def _inverse_uneven(a: DirectSum, kept: bool):
    raise singular(a, "some of its blocks are not square")


@inverse_.rule("those of the blocks", parts=parts_of(inverse_, "blocks"), cost="Σ that of a block")
def _inverse_direct_sum(a: DirectSum, kept: bool):
    return DirectSum([inverse_(block, kept) for block in a.blocks])


@inverse_.rule("those of the blocks, batched", cost="b n³ once, b n² a vector")
def _inverse_blocks(a: BlockDiag, kept: bool):
    return Inverse(a, Blockwise(), kept)


@inverse_.rule("none: factors that are not square", when=lambda a: not square_parts("factors")(a), cost="0")
def _inverse_rectangular(a: Kronecker, kept: bool):
    raise singular(a, "some of its factors are not square")


@inverse_.rule(
    "the Kronecker product of the factors'", parts=parts_of(inverse_, "factors"), cost="Σ n_k³ once, N Σ n_k a vector"
)
def _inverse_kronecker(a: Kronecker, kept: bool):
    return Kronecker(*[inverse_(factor, kept) for factor in a.factors])


@inverse_.rule("none: factors of fewer rows than the whole", when=is_deficient, cost="0")
def _inverse_narrow(a: Product, kept: bool):
    raise singular(a, "a factor has fewer rows or columns than the whole, so the rank is lower")


@inverse_.rule(
    "those of the factors, in reverse",
    of="square factors",
    when=square_parts("factors"),
    parts=parts_of(inverse_, "factors"),
    cost="Σ that of a factor",
)
def _inverse_product(a: Product, kept: bool):
    factors = [inverse_(factor, kept) for factor in a.factors]
    found = factors[-1]
    for factor in factors[-2::-1]:
        found = found @ factor
    return found


@inverse_.rule("the base's, to the power", parts=lambda a: [(inverse_, a.base)], cost="that of the base")
def _inverse_power(a: Power, kept: bool):
    return inverse_(a.base, kept) ** a.exponent


@inverse_.rule("what it is the inverse of", cost="0")
def _inverse_inverse(a: Inverse, kept: bool):
    base = a.base.T if a.transposed else a.base
    return base.conj() if a.conjugated else base


@inverse_.rule("none: of lower rank", when=lambda a: a.U.shape[1] < a.shape[0], cost="0")
def _inverse_low_rank(a: LowRank, kept: bool):
    raise singular(a, "its rank is lower than its size")


@inverse_.rule("none: a factor has fewer rows than the whole", when=is_narrow, cost="0")
def _inverse_narrow_chain(a: Butterfly | BlockTensorTrain, kept: bool):
    raise singular(a, "between its factors there are fewer numbers than outside")


@inverse_.rule(
    "those of its factors, in reverse",
    of="square blocks",
    when=has_square_factors,
    parts=lambda a: [(inverse_, as_product(a))],
    cost="Σ that of a factor",
)
def _inverse_chain(a: Butterfly | BlockTensorTrain, kept: bool):
    return inverse_(as_product(a), kept)


@inverse_.rule("SuperLU", cost="that of elimination with fill-in")
def _inverse_sparse(a: Sparse, kept: bool):
    return Inverse(a, SuperLU(), kept)


@inverse_.rule("circulant-preconditioned iteration, or Levinson's recursion", cost="n log n, or 4 n², a vector")
def _inverse_toeplitz(a: Toeplitz, kept: bool):
    return Inverse(a, Levinson(), kept)


@inverse_.rule(
    "block substitution",
    of="triangular grids of square blocks",
    when=is_triangular_grid,
    parts=lambda a: grid_parts(inverse_, a),
    cost="Σ that of a block",
)
def _inverse_grid(a: Block, kept: bool):
    return inverse_of_triangular(inverse_, a, kept)


@inverse_.rule(
    "Schur complement of the first block",
    of="2×2, of an invertible first block",
    when=has_schur_complement,
    parts=lambda a: [(inverse_, a.blocks[0][0])],
    cost="that of the blocks",
)
def _inverse_schur(a: Block, kept: bool):
    return inverse_by_schur(inverse_, a, kept)


@inverse_.rule("elimination with pivoting", cost="n")
def _inverse_tridiagonal(a: Tridiagonal, kept: bool):
    return Inverse(a, Thomas(), kept)


@inverse_.rule("Aᴴ", of="orthogonal", when=lambda a: Tag.ORTHOGONAL in a.tags.yes, cost="0")
def inverse_of_orthogonal(a: LinearOperator, kept: bool):
    """Aᴴ."""
    return a.H


@inverse_.rule(
    "one over its diagonal",
    of="diagonal",
    when=lambda a: Tag.DIAGONAL in a.tags.yes and a.dtype is not None,
    parts=lambda a: [(diagonal_, a)],
    cost="n",
)
def inverse_of_diagonal(a: LinearOperator, kept: bool):
    """Diagonal(1 / d)."""
    if not kept:
        return Inverse(a, Division(), False)
    if a.is_symbolic:
        return _known(Diagonal(Spec((a.shape[0],), a.dtype)), a)
    numbers = diagonal_(a)
    require_no_zero(a, numbers, "its diagonal has a zero")
    return _known(Diagonal(1 / numbers), a)


@inverse_.rule(
    "substitution",
    of="triangular",
    when=lambda a: bool((Tag.LOWER_TRIANGULAR | Tag.UPPER_TRIANGULAR) & a.tags.yes) and fits(a),
    cost="n²",
)
def _inverse_triangular(a: LinearOperator, kept: bool):
    return Inverse(a, Substitution(), kept)


@inverse_.rule(
    "Cholesky, of the matrix written out",
    of="positive definite",
    when=lambda a: Tag.POSITIVE_DEFINITE in a.tags.yes and fits(a),
    cost="n³ once, n² a vector",
)
def _inverse_definite(a: LinearOperator, kept: bool):
    return Inverse(a, Cholesky(), kept)


@inverse_.rule(
    "LU, of the matrix written out", of="of at most `DENSE_LIMIT` entries", when=fits, cost="n³ once, n² a vector"
)
def _inverse_any(a: LinearOperator, kept: bool):
    return Inverse(a, LU(), kept)
