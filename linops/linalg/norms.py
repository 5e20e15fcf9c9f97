"""Norms, structure by structure.

Rules of `norm_` take an operator and an order: a name, 1, 2, inf or their negatives.
"""

from __future__ import annotations

from functools import reduce
from math import prod
from typing import Any

import numpy as np

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.function import Function
from linops.linalg.inputs import fits, matrix_of, ones, widened
from linops.linalg.partial import is_closed
from linops.linalg.partial_svd import svds
from linops.linalg.parts import alike_numbers, joined, parts_of, space_of
from linops.linalg.singular import svd_
from linops.linalg.spectra import DENSELY, real_part, scalar_of
from linops.linalg.traces import diagonal_
from linops.operator import LinearOperator
from linops.operators.block_diag import BlockDiag
from linops.operators.block_tensor_train import BlockTensorTrain
from linops.operators.circulant import Circulant
from linops.operators.dense import Dense
from linops.operators.direct_sum import DirectSum
from linops.operators.kronecker import Kronecker
from linops.operators.low_rank import LowRank
from linops.operators.permutation import Permutation
from linops.operators.scaled import Scaled
from linops.operators.sparse import Sparse
from linops.operators.tensor_train import TensorTrain
from linops.plan.step import Step
from linops.tags import Tag

#: the norm of an operator, of an order
norm_: Function = Function("norm")

ORDERS = ("fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf)


def entry_steps(count: Any) -> Any:
    """Two operations for each of so many numbers of an operator."""
    return lambda a: (Step("norm", f"({count(a)},)", other_flops=2 * count(a), inputs=count(a)),)


def root_of_squares(x: Any) -> Any:
    """√Σ|x|², without overflow, and with a derivative of zero at zero."""
    space = space_of(x)
    x = x.reshape(-1)
    if backends.is_complex(x.dtype):
        x = space.concat([space.real(x), space.imag(x)])
    if not x.shape[0]:
        return space.sum(x)
    scale = lapack.stop_gradient(space.max(space.abs(x)))
    scale = space.where((scale > 0) & space.isfinite(scale), scale, 1 + 0 * scale)
    squares = space.sum((x / scale) ** 2)
    zero = squares == 0
    return scale * space.where(zero, 0 * squares, space.sqrt(space.where(zero, 1 + 0 * squares, squares)))


def of_singular_values(values: Any, order: Any, full: int) -> Any:
    """A norm by singular values, of which there are `full` in all, the rest zero."""
    space = space_of(values)
    if order == "fro":
        return root_of_squares(values)
    if order == "nuc":
        return space.sum(values)
    if order == 2:
        return space.max(values) if values.shape[0] else space.sum(values)
    return space.min(backends.pad_rows(values, full)) if full else space.sum(values)


def of_matrix(matrix: Any, order: Any) -> Any:
    """A norm by the entries of a matrix: of `"fro"`, 1, −1, inf or −inf."""
    space = space_of(matrix)
    if order == "fro":
        return root_of_squares(matrix)
    sums = space.sum(space.abs(matrix), axis=0 if abs(order) == 1 else 1)
    return space.max(sums) if order > 0 else space.min(sums)


@norm_.rule("the product of the factors'", parts=parts_of(norm_, "factors"), cost="Σ that of a factor")
def _norm_kronecker(a: Kronecker, order: Any):
    if order == -2 and not _full_rank(a):
        return of_singular_values(svd_(a, False)[1], order, min(a.shape))
    found = alike_numbers(a, [norm_(factor, order) for factor in a.factors])
    return reduce(lambda one, other: one * other, found)


def _full_rank(a: Kronecker) -> bool:
    """Whether the product has as many singular values as the factors give; the least is theirs then, else zero."""
    return min(a.shape) == int(np.prod([min(factor.shape) for factor in a.factors]))


@norm_.rule("the largest, smallest or sum of the blocks'", parts=parts_of(norm_, "blocks"), cost="Σ that of a block")
def _norm_direct_sum(a: DirectSum, order: Any):
    if order == -2:
        return of_singular_values(svd_(a, False)[1], order, min(a.shape))
    found = [number.reshape(1) for number in alike_numbers(a, [norm_(block, order) for block in _counted(a, order)])]
    numbers = backends.concatenate(found[0], found[1:])
    space = space_of(numbers)
    if order in ("fro", "nuc"):
        return root_of_squares(numbers) if order == "fro" else space.sum(numbers)
    return space.max(numbers) if order > 0 else space.min(numbers)


def _counted(a: DirectSum, order: Any) -> list[LinearOperator]:
    """The blocks that have columns to sum, or rows."""
    if order in ("fro", "nuc"):
        return list(a.blocks)
    return [block for block in a.blocks if min(block.shape) or (order != 2 and block.shape[abs(order) == 1])] or [
        a.blocks[0]
    ]


@norm_.rule(
    "those of its entries, or of the blocks' singular values",
    steps=entry_steps(lambda a: a.num_params),
    cost="b n², b n³",
)
def _norm_blocks(a: BlockDiag, order: Any):
    blocks = widened(a, a.blocks)
    if order in ("nuc", 2, -2):
        return of_singular_values(svd_(a, False)[1], order, min(a.shape))
    if order == "fro":
        return root_of_squares(blocks)
    space = space_of(blocks)
    sums = space.sum(space.abs(blocks), axis=1 if abs(order) == 1 else 2)
    return space.max(sums) if order > 0 else space.min(sums)


@norm_.rule("|c| times the base's", parts=lambda a: [(norm_, a.base)])
def _norm_scaled(a: Scaled, order: Any):
    number = scalar_of(a)
    size = space_of(number).abs(number) if backends.is_array(number) else abs(number)
    return size * norm_(a.base, order)


@norm_.rule("1, √n or n", cost="1")
def _norm_permutation(a: Permutation, order: Any):
    return _of_isometry(a, order) if order in ("fro", "nuc", 2, -2) else _one(a)


def _one(a: LinearOperator) -> Any:
    return real_part(ones(a, 1).sum())


def _of_isometry(a: LinearOperator, order: Any) -> Any:
    n = a.shape[0]
    return _one(a) * {"fro": n**0.5, "nuc": n}.get(order, 1)


@norm_.rule(
    "of its kernel, or its spectrum",
    of="square",
    when=lambda a: a.shape[0] == a._length,
    steps=entry_steps(lambda a: a.num_params),
    cost="n log n",
)
def _norm_circulant(a: Circulant, order: Any):
    if order in ("nuc", 2, -2):
        return of_singular_values(svd_(a, False)[1], order, a.shape[0])
    kernel = widened(a, a.c)
    space = space_of(kernel)
    return a.shape[0] ** 0.5 * root_of_squares(kernel) if order == "fro" else space.sum(space.abs(kernel))


def _factor_steps(a: Any) -> Any:
    (m, n), r = a.shape, a.U.shape[1]
    return (Step("qr", f"({m}, {r}), ({n}, {r})", macs=2 * (m + n) * r * r, inputs=(m + n) * r),)


@norm_.rule("of Gram matrices, or small singular values", steps=_factor_steps, cost="n r²")
def _norm_low_rank(a: LowRank, order: Any):
    if order == "fro" and _is_thin(a):  # ‖R Sᴴ‖, which no square of a number enters
        return root_of_squares(svd_(a, False)[1])
    return norm_of_any(a, order)


def _is_thin(a: LowRank) -> bool:
    return a.U.shape[1] < min(a.shape)


@norm_.rule("of its entries", steps=entry_steps(lambda a: a.values.shape[0]), cost="nnz")
def _norm_sparse(a: Sparse, order: Any):
    return norm_of_any(a, order)


def _core_steps(a: Any) -> Any:
    """QR of each core, of rank r and size m n."""
    return [
        Step(
            "qr",
            f"({core.shape[0]} · {core.shape[1]} · {core.shape[2]}, {core.shape[3]})",
            macs=2 * prod(core.shape) * core.shape[3],
            inputs=prod(core.shape),
        )
        for core in a.cores
    ]


@norm_.rule("by contraction of the cores with themselves", steps=_core_steps, cost="Σ r³ m n")
def _norm_train(a: TensorTrain, order: Any):
    if order != "fro":
        return norm_of_any(a, order)
    rest = None
    for core in a.cores:  # R of QR's from the left: Aᴴ A without squares
        core = widened(a, core)
        before, m, n, after = core.shape
        matrix = core.reshape(before, m * n * after)
        matrix = matrix if rest is None else rest @ matrix
        matrix = matrix.reshape(matrix.shape[0] * m * n, after)
        rest = lapack.qr(matrix)[1] if matrix.shape[0] > after else matrix
    return root_of_squares(rest)


@norm_.rule("by contraction of the cores with themselves", steps=entry_steps(lambda a: a.num_params), cost="Σ r³ m n B")
def _norm_block_train(a: BlockTensorTrain, order: Any):
    if order != "fro" or len(a.cores) != 2:
        return norm_of_any(a, order)
    # A[(i1 i2), (j2 j1)] = Σ_ρ second[i1; i2, (j2 ρ)] first[j2; (ρ i1), j1]: for each (i1, j2) a product of rank r
    first, second = (widened(a, core) for core in a.cores)
    (m1, m2), (n2, n1), (r,) = a.out_dims, a.in_dims, a.ranks
    left = backends.permute(second.reshape(m1, m2, n2, r), (0, 2, 1, 3)).reshape(m1 * n2, m2, r)
    right = backends.permute(first.reshape(n2, r, m1, n1), (2, 0, 1, 3)).reshape(m1 * n2, r, n1)
    space = space_of(left)
    one = backends.permute(backends.conj(left), (0, 2, 1)) @ left
    other = right @ backends.permute(backends.conj(right), (0, 2, 1))
    square = space.sum(one * backends.permute(other, (0, 2, 1)))
    square = real_part(square)
    zero = square <= 0
    return space.where(zero, 0 * square, space.sqrt(space.where(zero, 1 + 0 * square, square)))


@norm_.rule(
    "of its diagonal",
    of="diagonal",
    when=lambda a: Tag.DIAGONAL in a.tags.yes,
    steps=entry_steps(lambda a: min(a.shape)),
    parts=lambda a: [(diagonal_, a)],
    cost="n",
)
def _norm_diagonal(a: LinearOperator, order: Any):
    numbers = widened(a, diagonal_(a))
    if order == "fro":
        return root_of_squares(numbers)
    sizes = space_of(numbers).abs(numbers)
    if order == "nuc":
        return space_of(sizes).sum(sizes)
    rows = {1: a.shape[1], np.inf: a.shape[0]}.get(abs(order), min(a.shape))
    return extreme(backends.pad_rows(sizes, rows), order)


@norm_.rule("1, √n, n, or of the matrix", of="orthogonal", when=lambda a: Tag.ORTHOGONAL in a.tags.yes, cost="1, or n²")
def _norm_orthogonal(a: LinearOperator, order: Any):
    return _of_isometry(a, order) if order in ("fro", "nuc", 2, -2) else norm_of_any(a, order)


def _column_steps(a: LinearOperator) -> Any:
    m, n = a.shape
    if isinstance(a, Dense):
        return entry_steps(lambda a: m * n)(a)
    cost = a.cost(n)
    return (
        Step("entries", f"({m}, {n})", macs=cost.macs, inputs=n * n, outputs=m * n),
        *entry_steps(lambda a: m * n)(a),
    )


@norm_.rule("of entries, singular values, or for 2 of what does not fit by Lanczos", steps=_column_steps, cost="n², n³")
def norm_of_any(a: LinearOperator, order: Any):
    """By the rule for any operator."""
    if order in ("fro", 1, -1, np.inf, -np.inf):
        if isinstance(a, Dense):
            return of_matrix(widened(a, a.matrix), order)  # an array already, of any size
        return _by_columns(a, order)
    if svd_.find(a).says != DENSELY and is_closed(svd_, a):
        return of_singular_values(svd_(a, False)[1], order, min(a.shape))
    if order == 2 and _is_large(a):
        return svds(a, 1)[1][0]
    return of_singular_values(svd_(a, False)[1], order, min(a.shape))


def _is_large(a: LinearOperator) -> bool:
    """Whether products find the largest singular value faster than all of them are found."""
    known = all(lapack.is_known(leaf) for _, leaf in a.named_leaves())
    return not fits(a) or (known and min(a.shape) > 512)


def _by_columns(a: LinearOperator, order: Any) -> Any:
    """A norm by entries; of what does not fit, some columns at a time."""
    if fits(a):
        return of_matrix(matrix_of(a), order)
    if order in (np.inf, -np.inf):
        return _by_columns(a.T, 1 if order > 0 else -1)
    m, n = a.shape
    width = max(1, 2**22 // max(m, 1))
    found = []
    for start in range(0, n, width):
        columns = a._matmul(a._unit_columns(start, min(width, n - start))).reshape(m, -1)
        found.append(of_matrix(widened(a, columns), order).reshape(1))
    return of_matrix(joined(a, found)[None], "fro") if order == "fro" else extreme(joined(a, found), order)


def extreme(numbers: Any, order: Any) -> Any:
    """The largest number, or the smallest for a negative order."""
    return space_of(numbers).max(numbers) if order > 0 else space_of(numbers).min(numbers)
