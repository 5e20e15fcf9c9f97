"""Trace and diagonal, exactly, structure by structure."""

from __future__ import annotations

from functools import reduce
from typing import Any, cast

from linops import backends
from linops.linalg.function import Function
from linops.linalg.inputs import ones
from linops.linalg.parts import alike, alike_numbers, joined, outer, parts_of, space_of, square_parts
from linops.operator import LinearOperator, flat
from linops.operators.block_diag import BlockDiag
from linops.operators.circulant import Circulant
from linops.operators.dense import Dense
from linops.operators.diagonal import Diagonal
from linops.operators.direct_sum import DirectSum
from linops.operators.identity import Identity
from linops.operators.kronecker import Kronecker
from linops.operators.kronecker_sum import KroneckerSum
from linops.operators.low_rank import LowRank
from linops.operators.product import Product
from linops.operators.scaled import Scaled
from linops.operators.sum import Sum
from linops.operators.tensor_train import TensorTrain
from linops.operators.toeplitz import Toeplitz
from linops.operators.triangular import Triangular
from linops.operators.tridiagonal import Tridiagonal
from linops.operators.zero import Zero
from linops.plan.step import Step
from linops.tags import Tag

#: the main diagonal, as an array
diagonal_: Function = Function("diagonal")
#: the sum of the main diagonal
trace_: Function = Function("trace")


def _square_cores(a: TensorTrain) -> bool:
    return all(core.shape[1] == core.shape[2] for core in a.cores)


# ---------------------------------------------------------------- diagonal


@diagonal_.of_nothing
def _diagonal_of_nothing(a: LinearOperator):
    return ones(a, 0)


@trace_.of_nothing
def _trace_of_nothing(a: LinearOperator):
    return ones(a, 0).sum()


@diagonal_.rule("ones", cost="n")
def _diagonal_identity(a: Identity):
    return ones(a, a.shape[0])


@diagonal_.rule("zeros", cost="n")
def _diagonal_zero(a: Zero):
    return ones(a, min(a.shape)) * 0


@diagonal_.rule("its array", cost="n")
def _diagonal_diagonal(a: Diagonal):
    return a.diagonal


@diagonal_.rule("of its array", cost="n")
def _diagonal_dense(a: Dense | Triangular):
    return space_of(a.matrix).diagonal(a.matrix)


@diagonal_.rule("its middle array", cost="n")
def _diagonal_tridiagonal(a: Tridiagonal):
    return a.diag


@diagonal_.rule("rows of U times columns of V", cost="n r")
def _diagonal_low_rank(a: LowRank):
    k = min(a.shape)
    return (a.U[:k] * backends.permute(a.V, (1, 0))[:k]).sum(1)


@diagonal_.rule(
    "of the blocks, batched", of="square blocks", when=lambda a: a.blocks.shape[1] == a.blocks.shape[2], cost="n"
)
def _diagonal_blocks(a: BlockDiag):
    n = a.blocks.shape[1]
    entries = a.blocks.reshape(a.blocks.shape[0], n * n)[:, :: n + 1] if n else a.blocks.reshape(-1)
    return entries.reshape(-1)


@diagonal_.rule(
    "of the blocks", of="square blocks", when=square_parts("blocks"), parts=parts_of(diagonal_, "blocks"), cost="n"
)
def _diagonal_direct_sum(a: DirectSum):
    return joined(a, [diagonal_(block) for block in a.blocks])


@diagonal_.rule(
    "the Kronecker product of the factors'",
    of="square factors",
    when=square_parts("factors"),
    parts=parts_of(diagonal_, "factors"),
    cost="N",
)
def _diagonal_kronecker(a: Kronecker):
    return outer(a, [diagonal_(factor) for factor in a.factors], lambda one, other: one * other)


@diagonal_.rule("sums of the factors'", parts=parts_of(diagonal_, "factors"), cost="N")
def _diagonal_kronecker_sum(a: KroneckerSum):
    return outer(a, [diagonal_(factor) for factor in a.factors], lambda one, other: one + other)


@diagonal_.rule("the sum of the terms'", parts=parts_of(diagonal_, "terms"), cost="that of the terms")
def _diagonal_sum(a: Sum):
    return reduce(lambda one, other: one + other, alike(a, [diagonal_(term) for term in a.terms]))


@diagonal_.rule("a multiple of the base's", parts=lambda a: [(diagonal_, a.base)])
def _diagonal_scaled(a: Scaled):
    return a._scale(alike(a, [diagonal_(a.base)])[0])


@diagonal_.rule("one number of the kernel", cost="n")
def _diagonal_convolution(a: Circulant | Toeplitz):
    return a._kernel()[:1] + ones(a, min(a.shape)) * 0


@diagonal_.rule("the cores' diagonals, contracted", of="square cores", when=_square_cores, cost="N r")
def _diagonal_train(a: TensorTrain):
    found: Any = None
    rows = 1
    for core in a.cores:
        one = backends.permute(space_of(core).diagonal(core, 0, 1, 2), (0, 2, 1))  # (before, n, after)
        before, n, after = one.shape
        rows *= n
        one = one if found is None else found @ one.reshape(before, n * after)
        found = one.reshape(rows, after)
    return found.reshape(rows)


def _pieces(a: LinearOperator) -> Any:
    m, n = a.shape
    cost = a.cost(min(m, n))
    return (Step("entries", f"({m}, {n})", macs=cost.macs, inputs=n * min(m, n), outputs=m * min(m, n)),)


@diagonal_.rule(
    "a product with ones",
    of="diagonal",
    when=lambda a: Tag.DIAGONAL in a.tags.yes and a.dtype is not None,
    steps=lambda a: a._lower(1),
    cost="a product",
)
def _diagonal_of_diagonal(a: LinearOperator):
    return flat(a @ ones(a, a.shape[1])[:, None])[: min(a.shape), 0]


@diagonal_.rule("products with columns of the identity, a block at a time", steps=_pieces, cost="n products")
def _diagonal_any(a: LinearOperator):
    k = min(a.shape)
    width = max(1, min(k, 2**22 // max(a.shape[0], 1)))
    found = []
    for start in range(0, k, width):
        columns = flat(a._matmul(a._unit_columns(start, min(width, k - start))))
        found.append(space_of(columns).diagonal(columns[start : min(start + width, k)]))
    return backends.concatenate(found[0], found[1:])


# ---------------------------------------------------------------- trace


@trace_.rule(
    "the product of the factors'",
    of="square factors",
    when=square_parts("factors"),
    parts=parts_of(trace_, "factors"),
    cost="Σ n_k",
)
def _trace_kronecker(a: Kronecker):
    return reduce(lambda one, other: one * other, alike_numbers(a, [trace_(factor) for factor in a.factors]))


@trace_.rule("the sum of the factors', times N / n_k", parts=parts_of(trace_, "factors"), cost="Σ n_k")
def _trace_kronecker_sum(a: KroneckerSum):
    n = a.shape[0]
    found = alike_numbers(a, [trace_(factor) for factor in a.factors])
    return sum(number * (n // max(factor.shape[0], 1)) for number, factor in zip(found, a.factors))


@trace_.rule("the sum of the terms'", parts=parts_of(trace_, "terms"), cost="that of the terms")
def _trace_sum(a: Sum):
    return reduce(lambda one, other: one + other, alike_numbers(a, [trace_(term) for term in a.terms]))


@trace_.rule(
    "the sum of the blocks'",
    of="square blocks",
    when=square_parts("blocks"),
    parts=parts_of(trace_, "blocks"),
    cost="n",
)
def _trace_direct_sum(a: DirectSum):
    return reduce(lambda one, other: one + other, alike_numbers(a, [trace_(block) for block in a.blocks]))


@trace_.rule("a multiple of the base's", parts=lambda a: [(trace_, a.base)])
def _trace_scaled(a: Scaled):
    return a._scale(alike_numbers(a, [trace_(a.base)])[0])


@trace_.rule(
    "the sum of A's entries times Bᵀ's",
    of="two dense matrices",
    when=lambda a: len(a.factors) == 2 and all(isinstance(factor, Dense) for factor in a.factors),
    cost="m n",
)
def _trace_of_two(a: Product):
    one, other = cast(tuple[Dense, Dense], a.factors)
    return (one.matrix * backends.permute(other.matrix, (1, 0))).sum()


@trace_.rule("the cores' traces, contracted", of="square cores", when=_square_cores, cost="Σ r² n_k")
def _trace_train(a: TensorTrain):
    space = space_of(a.cores[0])
    found = None
    for core in a.cores:
        one = space.diagonal(core, 0, 1, 2).sum(-1)
        found = one if found is None else found @ one
    return cast(Any, found).reshape(())


@trace_.rule("the sum of its diagonal", parts=lambda a: [(diagonal_, a)])
def _trace_any(a: LinearOperator):
    return diagonal_(a).sum()
