"""Diagonals scale the rows or columns of what stands beside them, and add up."""

from __future__ import annotations

from typing import Any

from linops import backends
from linops.operator import LinearOperator
from linops.operators.block_diag import BlockDiag
from linops.operators.block_tensor_train import BlockTensorTrain
from linops.operators.diagonal import Diagonal
from linops.operators.direct_sum import DirectSum
from linops.operators.identity import Identity
from linops.operators.scaled import Scaled
from linops.rules.functions import absorb, join, merge
from linops.rules.pairs import multiplied


@merge.dispatch
def _merge_diagonals(a: Diagonal, b: Diagonal):
    return Diagonal(a.diagonal * b.diagonal)


@merge.dispatch
def _merge_diagonal_blocks(a: Diagonal, b: BlockDiag):
    blocks, rows, _ = b.blocks.shape
    return BlockDiag(a.diagonal.reshape(blocks, rows, 1) * b.blocks)


@merge.dispatch
def _merge_blocks_diagonal(a: BlockDiag, b: Diagonal):
    blocks, _, columns = a.blocks.shape
    return BlockDiag(a.blocks * b.diagonal.reshape(blocks, 1, columns))


@merge.dispatch
def _merge_diagonal_direct_sum(a: Diagonal, b: DirectSum):
    parts, start = [], 0
    for block in b.blocks:
        stop = start + block.shape[0]
        parts.append(multiplied(Diagonal(a.diagonal[start:stop]), block))
        start = stop
    return _direct_sum(parts)


@merge.dispatch
def _merge_direct_sum_diagonal(a: DirectSum, b: Diagonal):
    parts, start = [], 0
    for block in a.blocks:
        stop = start + block.shape[1]
        parts.append(multiplied(block, Diagonal(b.diagonal[start:stop])))
        start = stop
    return _direct_sum(parts)


def _direct_sum(parts: list[Any]) -> DirectSum | None:
    """The blocks, if every one took in its part of the diagonal."""
    return None if None in parts else DirectSum([part.after for part in parts])


@merge.dispatch
def _merge_diagonal_train(a: Diagonal, b: BlockTensorTrain):
    blocks, rows, _ = b.cores[-1].shape  # the last core's blocks and rows are the output's axes
    return BlockTensorTrain((*b.cores[:-1], a.diagonal.reshape(blocks, rows, 1) * b.cores[-1]), b.out_dims, b.in_dims)


@merge.dispatch
def _merge_train_diagonal(a: BlockTensorTrain, b: Diagonal):
    blocks, _, columns = a.cores[0].shape  # the first core's blocks and columns are the input's axes
    return BlockTensorTrain((a.cores[0] * b.diagonal.reshape(blocks, 1, columns), *a.cores[1:]), a.out_dims, a.in_dims)


# ---------------------------------------------------------------- sums


@join.dispatch
def _join_diagonals(a: Diagonal, b: Diagonal):
    return Diagonal(a.diagonal + b.diagonal)


@join.dispatch
def _join_diagonal_identity(a: Diagonal, b: Identity):
    return Diagonal(a.diagonal + 1)


@join.dispatch
def _join_identity_diagonal(a: Identity, b: Diagonal):
    return Diagonal(1 + b.diagonal)


@join.dispatch
def _join_diagonal_scaled(a: Diagonal, b: Scaled):
    return Diagonal(a.diagonal + multiple(b)) if isinstance(b.base, Identity) else None


@join.dispatch
def _join_scaled_diagonal(a: Scaled, b: Diagonal):
    return Diagonal(multiple(a) + b.diagonal) if isinstance(a.base, Identity) else None


@join.dispatch
def _join_diagonal_blocks(a: Diagonal, b: BlockDiag):
    return _add_to_blocks(b, a.diagonal)


@join.dispatch
def _join_blocks_diagonal(a: BlockDiag, b: Diagonal):
    return _add_to_blocks(a, b.diagonal)


@join.dispatch
def _join_blocks_identity(a: BlockDiag, b: Identity):
    return _add_to_blocks(a, 1)


@join.dispatch
def _join_identity_blocks(a: Identity, b: BlockDiag):
    return _add_to_blocks(b, 1)


@join.dispatch
def _join_blocks_scaled(a: BlockDiag, b: Scaled):
    return _add_to_blocks(a, multiple(b)) if isinstance(b.base, Identity) else None


@join.dispatch
def _join_scaled_blocks(a: Scaled, b: BlockDiag):
    return _add_to_blocks(b, multiple(a)) if isinstance(a.base, Identity) else None


def multiple(a: LinearOperator) -> Any:
    """The number x of x I, or None.

    Args:
        a: An operator.

    Returns:
        A number or a 0-d array; None if the operator is no multiple of the identity.
    """
    if isinstance(a, Scaled) and isinstance(a.base, Identity):
        return a.number if a.gain is None else a.number * a.gain
    return 1 if isinstance(a, Identity) else None


def _add_to_blocks(a: BlockDiag, diagonal: Any) -> BlockDiag | None:
    """Equal square blocks with a number or a vector added on their diagonal."""
    if a.blocks.shape[1] != a.blocks.shape[2]:
        return None
    blocks, rows, _ = a.blocks.shape
    if backends.is_array(diagonal) and len(diagonal.shape) == 1:
        diagonal = diagonal.reshape(blocks, rows, 1)
    return BlockDiag(a.blocks + diagonal * backends.eye(a.blocks, rows, a.blocks.dtype))


# ---------------------------------------------------------------- scalars


@absorb.dispatch
def _absorb_diagonal(a: Diagonal, scalar: Any):
    return Diagonal(scalar * a.diagonal)
