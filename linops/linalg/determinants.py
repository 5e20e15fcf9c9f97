"""Determinants: (sign, log |det|), structure by structure."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.chains import as_product, has_square_factors, is_narrow
from linops.linalg.function import Function
from linops.linalg.grids import grid_parts, has_schur_complement, is_triangular_grid, schur_complement
from linops.linalg.inputs import floating, matrix_of, ones
from linops.linalg.inverse import Inverse
from linops.linalg.inversion import inverse_
from linops.linalg.parity import axes_parity, parity
from linops.linalg.parts import is_deficient, parts_of, space_of, square_parts
from linops.linalg.spectra import scalar_of, spectrum_of
from linops.linalg.traces import diagonal_
from linops.operator import LinearOperator
from linops.operators.block import Block
from linops.operators.block_diag import BlockDiag
from linops.operators.block_tensor_train import BlockTensorTrain
from linops.operators.butterfly import Butterfly
from linops.operators.circulant import Circulant
from linops.operators.dft import DFT
from linops.operators.direct_sum import DirectSum
from linops.operators.hadamard import Hadamard
from linops.operators.householder import Householder
from linops.operators.identity import Identity
from linops.operators.kronecker import Kronecker
from linops.operators.low_rank import LowRank
from linops.operators.permute import Permute
from linops.operators.permute_axes import PermuteAxes
from linops.operators.power import Power
from linops.operators.product import Product
from linops.operators.scaled import Scaled
from linops.operators.zero import Zero
from linops.plan.step import Step
from linops.tags import Tag

#: (sign, log |det|) of a square operator; of a complex one the sign is a phase
slogdet_: Function = Function("slogdet", "slogdet", "det", "logdet")

SlogDet = tuple[Any, Any]


def _constant(a: LinearOperator, sign: Any, logarithm: float) -> SlogDet:
    """Numbers that no array decides, of the operator's dtype."""
    one = ones(a, 1).sum()
    if isinstance(sign, complex):
        one = one * (1 + 0j)
    real = one.real if backends.is_complex(one.dtype) else one
    return one * sign, real * 0 + logarithm


def zero_of(a: LinearOperator) -> SlogDet:
    """0 and −inf."""
    return _constant(a, 0, -np.inf)


def product_of(found: list[SlogDet], exponents: list[int] | None = None) -> SlogDet:
    """The product of determinants, each to a power."""
    exponents = exponents or [1] * len(found)
    signs = [to_power(sign, exponent) for (sign, _), exponent in zip(found, exponents)]
    logs = [
        exponent * logarithm if exponent else 0 * _finite(logarithm)
        for (_, logarithm), exponent in zip(found, exponents)
    ]
    return reduce(lambda one, other: one * other, signs), reduce(lambda one, other: one + other, logs)


def _finite(logarithm: Any) -> Any:
    return (
        space_of(logarithm).where(space_of(logarithm).isfinite(logarithm), logarithm, 0 * logarithm)
        if backends.is_array(logarithm)
        else 0.0
    )


def to_power(sign: Any, exponent: int) -> Any:
    """A sign or phase to a natural power, which may be huge."""
    if isinstance(sign, complex) or backends.is_complex(getattr(sign, "dtype", np.dtype(int))):
        return sign**exponent
    return sign * sign if exponent % 2 == 0 else sign


@slogdet_.of_nothing
def _slogdet_of_nothing(a: LinearOperator):
    return _constant(a, 1, 0.0)


@slogdet_.rule("1", cost="1")
def _slogdet_identity(a: Identity):
    return _constant(a, 1, 0.0)


@slogdet_.rule("0", cost="1")
def _slogdet_zero(a: Zero):
    return zero_of(a)


@slogdet_.rule("c^n times the base's", parts=lambda a: [(slogdet_, a.base)], cost="that of the base")
def _slogdet_scaled(a: Scaled):
    n = a.shape[0]
    sign, logarithm = slogdet_(a.base)
    number: Any = scalar_of(a)
    if not backends.is_array(number):
        size = abs(number)
        phase: Any = number / size if size else 0
        if not isinstance(phase, complex):
            phase = int(phase)
        return sign * phase**n, logarithm + (n * float(np.log(size)) if size else -np.inf)
    one, log = lapack.log_product(number[None])
    return sign * to_power(one, n), logarithm + n * log


@slogdet_.rule("parity by cycles", cost="n log n")
def _slogdet_permute(a: Permute):
    return _constant(a, parity(backends.to_numpy(a.indices)), 0.0)


@slogdet_.rule("parity by the sizes of its axes", cost="1")
def _slogdet_axes(a: PermuteAxes):
    return _constant(a, axes_parity(a.dims, a.order), 0.0)


@slogdet_.rule("−1 a reflection", cost="k")
def _slogdet_householder(a: Householder):
    # a vector of zeros reflects nothing
    vectors = a.v if a.v.ndim == 2 else a.v[None]
    space = space_of(vectors)
    some = (vectors != 0).any(-1)
    return space.prod(space.where(some, -ones(a, vectors.shape[0]), ones(a, vectors.shape[0]))), (
        vectors[:0].real if backends.is_complex(vectors.dtype) else vectors[:0]
    ).sum()


@slogdet_.rule("powers of i, and n/2 log n", cost="1")
def _slogdet_dft(a: DFT):
    # the eigenvalues of the unitary transform are 1, −1, −i, i, so many times each
    n = a.shape[0]
    negative, minus_i, plus_i = (n + 2) // 4, (n + 1) // 4, (n - 1) // 4
    phase: complex = (1, -1)[negative % 2] * (1, -1j, -1, 1j)[minus_i % 4] * (1, 1j, -1, -1j)[plus_i % 4]
    phase = complex(phase).conjugate() if a.conjugate else complex(phase)
    return _constant(a, phase, 0.0 if a.norm == "ortho" else n / 2 * np.log(n))


@slogdet_.rule("by its size", cost="1")
def _slogdet_hadamard(a: Hadamard):
    n = a.shape[0]
    return _constant(a, -1 if n == 2 else 1, n / 2 * np.log(n))


@slogdet_.rule("0: blocks that are not square", when=lambda a: not square_parts("blocks")(a), cost="1")
def _slogdet_uneven_blocks(a: DirectSum):
    return zero_of(a)


@slogdet_.rule("the product of the blocks'", parts=parts_of(slogdet_, "blocks"), cost="Σ that of a block")
def _slogdet_direct_sum(a: DirectSum):
    return product_of([slogdet_(block) for block in a.blocks])


def _block_steps(a: Any) -> Any:
    count, n, _ = a.blocks.shape
    return (Step("batched lu", f"({count}, {n}, {n})", macs=count * n**3 // 3, inputs=count * n * n),)


@slogdet_.rule("the product of the blocks', batched", steps=_block_steps, cost="b n³")
def _slogdet_blocks(a: BlockDiag):
    signs, logs = lapack.slogdet(a.blocks)
    return space_of(signs).prod(signs), space_of(logs).sum(logs)


@slogdet_.rule("0: factors that are not square", when=lambda a: not square_parts("factors")(a), cost="1")
def _slogdet_rectangular_factors(a: Kronecker):
    return zero_of(a)


@slogdet_.rule("the product of the factors', to the powers N / n_k", parts=parts_of(slogdet_, "factors"), cost="Σ n_k³")
def _slogdet_kronecker(a: Kronecker):
    n = a.shape[0]
    found = [slogdet_(factor) for factor in a.factors]
    return product_of(found, [n // factor.shape[0] for factor in a.factors])


@slogdet_.rule("0: factors of fewer rows than the whole", when=is_deficient, cost="1")
def _slogdet_narrow(a: Product):
    return zero_of(a)


@slogdet_.rule(
    "the product of the factors'",
    of="square factors",
    when=square_parts("factors"),
    parts=parts_of(slogdet_, "factors"),
    cost="Σ that of a factor",
)
def _slogdet_product(a: Product):
    return product_of([slogdet_(factor) for factor in a.factors])


@slogdet_.rule("the base's, to the power", parts=lambda a: [(slogdet_, a.base)], cost="that of the base")
def _slogdet_power(a: Power):
    return product_of([slogdet_(a.base)], [a.exponent])


@slogdet_.rule("the product of its spectrum", of="square", when=lambda a: a.shape[0] == a._length, cost="n log n")
def _slogdet_circulant(a: Circulant):
    sign, logarithm = lapack.log_product(spectrum_of(a))
    return (sign if backends.is_complex(a.c.dtype) else space_of(sign).sign(sign.real)), logarithm


def real_of(a: LinearOperator, found: SlogDet) -> SlogDet:
    """A sign without the imaginary part that rounding left, of a real operator."""
    sign, logarithm = found
    return (sign if a._is_complex else space_of(sign).sign(sign.real)), logarithm


@slogdet_.rule("0: of lower rank", when=lambda a: a.U.shape[1] < a.shape[0], cost="1")
def _slogdet_low_rank(a: LowRank):
    return zero_of(a)


@slogdet_.rule("0: a factor has fewer rows than the whole", when=is_narrow, cost="1")
def _slogdet_narrow_chain(a: Butterfly | BlockTensorTrain):
    return zero_of(a)


@slogdet_.rule(
    "the product of its factors'",
    of="square blocks",
    when=has_square_factors,
    parts=lambda a: [(slogdet_, as_product(a))],
    cost="Σ that of a factor",
)
def _slogdet_chain(a: Butterfly | BlockTensorTrain):
    return slogdet_(as_product(a))


@slogdet_.rule(
    "the product of the blocks' on the diagonal",
    of="triangular grids of square blocks",
    when=is_triangular_grid,
    parts=lambda a: grid_parts(slogdet_, a),
    cost="Σ that of a block",
)
def _slogdet_grid(a: Block):
    return product_of([slogdet_(block) for _, block in grid_parts(slogdet_, a)])


@slogdet_.rule(
    "the first block's, times that of its Schur complement",
    of="2×2, of an invertible first block",
    when=has_schur_complement,
    parts=lambda a: [(slogdet_, a.blocks[0][0])],
    cost="that of the blocks",
)
def _slogdet_schur(a: Block):
    return product_of([slogdet_(a.blocks[0][0]), slogdet_(floating(schur_complement(inverse_, a, False)[1]))])


@slogdet_.rule("one over the base's", parts=lambda a: [(slogdet_, a.base)], cost="that of the base")
def _slogdet_inverse(a: Inverse):
    sign, logarithm = slogdet_(a.base)
    if a._is_complex and not a.conjugated:  # a phase's inverse is its conjugate
        sign = np.conj(sign) if isinstance(sign, np.generic) else backends.conj(sign)
    return sign, -logarithm


@slogdet_.rule(
    "the product of its diagonal",
    of="triangular",
    when=lambda a: bool((Tag.LOWER_TRIANGULAR | Tag.UPPER_TRIANGULAR) & a.tags.yes),
    parts=lambda a: [(diagonal_, a)],
    cost="n",
)
def _slogdet_triangular(a: LinearOperator):
    return lapack.log_product(diagonal_(a))


def _dense_steps(a: LinearOperator) -> Any:
    n = a.shape[0]
    return (Step("lu", f"({n}, {n})", macs=n**3 // 3, inputs=n * n),)


@slogdet_.rule(
    "Cholesky, of the matrix written out",
    of="positive definite",
    when=lambda a: Tag.POSITIVE_DEFINITE in a.tags.yes,
    steps=_dense_steps,
    cost="n³",
)
def _slogdet_definite(a: LinearOperator):
    matrix = matrix_of(a)
    lower = lapack.cholesky(matrix)
    if backends.all_finite(lower[-1:]) is False:  # what was declared does not hold: the determinant may be known still
        return lapack.slogdet(matrix)
    space = space_of(lower)
    diagonal = space.real(space.diagonal(lower)) if backends.is_complex(lower.dtype) else space.diagonal(lower)
    return (diagonal[:1] * 0).sum() + 1, 2 * space.sum(space.log(diagonal))


@slogdet_.rule("LU, of the matrix written out", steps=_dense_steps, cost="n³")
def _slogdet_any(a: LinearOperator):
    return lapack.slogdet(matrix_of(a))
