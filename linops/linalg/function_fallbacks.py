"""Functions of operators whose structure no rule keeps: by eigenvectors, of the matrix, or by products alone."""

from __future__ import annotations

from linops.linalg.chebyshev import HermitianFunction
from linops.linalg.dense_functions import block_steps, by_decomposition, dense_steps, of_matrix
from linops.linalg.exponential import Exponential
from linops.linalg.function import Function
from linops.linalg.function_rules import by_eigenvectors, expm_, funm_, logm_, power_, sqrtm_, widest
from linops.linalg.inputs import fits, matrix_of
from linops.linalg.parts import space_of
from linops.linalg.recomposition import recomposed
from linops.linalg.scalars import EXP, Scalar, known, values
from linops.linalg.spectra import eigh_, is_hermitian
from linops.linalg.traces import diagonal_
from linops.operator import LinearOperator
from linops.operators.block_diag import BlockDiag
from linops.operators.dense import Dense
from linops.operators.diagonal import Diagonal
from linops.plan.step import Step
from linops.tags import Tag

#: of n up to this a matrix that is not there yet is written out for a function that also has products alone
SMALL = 1024


# ---------------------------------------------------------------- any operator


def _any(function: Function) -> None:
    """The rules that hold for every operator, for one function."""

    @function.rule(
        "f of its diagonal",
        of="diagonal",
        when=lambda a: Tag.DIAGONAL in a.tags.yes,
        parts=lambda a: [(diagonal_, a)],
        cost="n",
    )
    def _diagonal(a: LinearOperator, f: Scalar):
        return known(f, a, Diagonal(values(f, a, diagonal_(a))))

    @function.rule(
        "V f(w) Vᴴ of eigenvectors",
        of="Hermitian",
        when=lambda a: by_eigenvectors(a) and (function not in _MATRIX_FREE or widest(eigh_, a) <= SMALL),
        parts=lambda a: [(eigh_, a)],
        cost="that of eigh",
    )
    def _hermitian(a: LinearOperator, f: Scalar):
        return recomposed(f, a, *eigh_(a))


_MATRIX_FREE = (expm_, funm_)


def _batched(function: Function) -> None:
    @function.rule(
        "those of the blocks, batched",
        of="square blocks",
        when=lambda a: a.blocks.shape[1] == a.blocks.shape[2] and not is_hermitian(a),
        steps=block_steps,
        cost="b n³",
    )
    def _blocks(a: BlockDiag, f: Scalar):
        return BlockDiag(of_matrix(f, a, a.blocks))


def _written(function: Function) -> None:
    @function.rule("dense, of the matrix written out", steps=dense_steps, cost="n³")
    def _dense(a: LinearOperator, f: Scalar):
        found = of_matrix(f, a, matrix_of(a))
        space = space_of(found)
        if Tag.LOWER_TRIANGULAR in a.tags.yes:
            found = space.tril(found)
        elif Tag.UPPER_TRIANGULAR in a.tags.yes:
            found = space.triu(found)
        return known(f, a, Dense(found), real=f is EXP)


for _function in (expm_, logm_, sqrtm_, power_, funm_):
    _any(_function)
for _function in (expm_, logm_, sqrtm_, power_):
    _batched(_function)


def _large(a: LinearOperator) -> bool:
    return not fits(a) or (a.shape[0] > SMALL and type(a) is not Dense)


def _product_step(a: LinearOperator) -> tuple[Step, ...]:
    """One of the products with A; how many there are is not known before."""
    n, cost = a.shape[0], a.cost(1)
    operands = f"({n}, {n}) @ ({n}, 1)"
    return (Step("product, each", operands, macs=cost.macs, inputs=a.num_params + n, outputs=n),)


@expm_.rule(
    "products alone, by Taylor polynomials",
    of="large, no array",
    when=_large,
    steps=_product_step,
    cost="9 ‖A‖ products a product",
)
def _expm_large(a: LinearOperator, f: Scalar):
    return Exponential(a)


@funm_.rule(
    "products alone, by a Chebyshev series",
    of="Hermitian, large, no array",
    when=lambda a: is_hermitian(a) and _large(a),
    steps=_product_step,
    cost="products a product",
)
def _funm_large(a: LinearOperator, f: Scalar):
    return HermitianFunction(a, f.numbers)


for _function in (expm_, logm_, sqrtm_, power_):
    _written(_function)


@funm_.rule("V f(w) V⁻¹ of eigenvectors, of the matrix written out", steps=dense_steps, cost="n³")
def _funm_eig(a: LinearOperator, f: Scalar):
    return Dense(by_decomposition(f, a, matrix_of(a))) if a.shape[0] else a


@funm_.rule(
    "V f(w) V⁻¹ of eigenvectors, batched",
    of="square blocks",
    when=lambda a: a.blocks.shape[1] == a.blocks.shape[2] and not is_hermitian(a),
    steps=block_steps,
    cost="b n³",
)
def _funm_blocks(a: BlockDiag, f: Scalar):
    return BlockDiag(by_decomposition(f, a, a.blocks)) if a.shape[0] else a
