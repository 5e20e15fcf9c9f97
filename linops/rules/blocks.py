"""Blocks: equal partitions multiply and add block by block; direct sums become arrays; grids of one block are it."""

from __future__ import annotations

from typing import Any

from linops import backends
from linops.operator import LinearOperator, add
from linops.operators.block import Block
from linops.operators.block_diag import BlockDiag
from linops.operators.dense import Dense
from linops.operators.diagonal import Diagonal
from linops.operators.direct_sum import DirectSum
from linops.operators.identity import Identity
from linops.operators.product import Product
from linops.operators.zero import Zero
from linops.rules.functions import absorb, join, merge, reduce
from linops.rules.guard import affordable
from linops.rules.pairs import absorbed, computable, multiplied, total
from linops.specs import spec


@merge.dispatch
def _merge_blocks(a: BlockDiag, b: BlockDiag):
    blocks, rows, _ = a.blocks.shape
    if blocks != b.blocks.shape[0] or not affordable(BlockDiag(spec(blocks, rows, b.blocks.shape[2])), Product((a, b))):
        return None
    return BlockDiag(a.blocks @ b.blocks)


@merge.dispatch
def _merge_direct_sums(a: DirectSum, b: DirectSum):
    if [block.shape[1] for block in a.blocks] != [block.shape[0] for block in b.blocks]:
        return None
    pairs = [(multiplied(one, other), one, other) for one, other in zip(a.blocks, b.blocks)]
    return DirectSum([Product((one, other)) if found is None else found.after for found, one, other in pairs])


@join.dispatch
def _join_blocks(a: BlockDiag, b: BlockDiag):
    return BlockDiag(a.blocks + b.blocks) if a.blocks.shape == b.blocks.shape else None


@join.dispatch
def _join_direct_sums(a: DirectSum, b: DirectSum):
    if [block.shape for block in a.blocks] != [block.shape for block in b.blocks]:
        return None
    return DirectSum([add(one, other) for one, other in zip(a.blocks, b.blocks)])


@absorb.dispatch
def _absorb_blocks(a: BlockDiag, scalar: Any):
    return BlockDiag(scalar * a.blocks)


@absorb.dispatch
def _absorb_direct_sum(a: DirectSum, scalar: Any):
    parts = [absorbed(block, scalar) for block in a.blocks]
    return None if None in parts else DirectSum(parts)


@reduce.dispatch
def _reduce_blocks(a: BlockDiag):
    if not computable(a):
        return None
    blocks, rows, columns = a.blocks.shape
    if blocks == 1:
        return Dense(a.blocks.reshape(rows, columns))
    return Diagonal(a.blocks.reshape(blocks)) if rows == columns == 1 else None


@reduce.dispatch
def _reduce_direct_sum(a: DirectSum):
    blocks = _flattened(a.blocks)
    if len(blocks) == 1:
        return blocks[0]
    if all(block._is_zero for block in blocks):
        return Zero(*a.shape)
    return _in_one_array(blocks) if computable(a) else DirectSum(blocks)


def _flattened(blocks: tuple[LinearOperator, ...]) -> list[LinearOperator]:
    """The blocks with direct sums inside opened and neighbouring identities as one."""
    found: list[LinearOperator] = []
    for block in blocks:
        for inner in block.blocks if isinstance(block, DirectSum) else (block,):
            if found and isinstance(inner, Identity) and isinstance(found[-1], Identity):
                found[-1] = Identity(found[-1].size + inner.size)
            else:
                found.append(inner)
    return found


def _in_one_array(blocks: list[LinearOperator]) -> LinearOperator:
    """The blocks in one array where they fit: diagonals end to end, matrices and arrays of blocks of one shape."""
    if len({block.dtype for block in blocks}) == 1:
        if all(isinstance(block, Diagonal) for block in blocks):
            return Diagonal(_end_to_end([block.diagonal for block in blocks]))  # type: ignore[attr-defined]
        arrays = [_array_of(block) for block in blocks]
        if len({None if array is None else tuple(array.shape[1:]) for array in arrays}) == 1 and arrays[0] is not None:
            return BlockDiag(_end_to_end(arrays))
    return DirectSum(blocks)


def _array_of(block: LinearOperator) -> Any:
    """(b, p, q) of a matrix or of equal blocks, else None."""
    if isinstance(block, Dense):
        return block.matrix.reshape(1, *block.shape)
    return block.blocks if isinstance(block, BlockDiag) else None


def _end_to_end(arrays: list[Any]) -> Any:
    return backends.concatenate(arrays[0], arrays[1:])


# ---------------------------------------------------------------- grids


@join.dispatch
def _join_grids(a: Block, b: Block):
    if [[block.shape for block in row] for row in a.blocks] != [[block.shape for block in row] for row in b.blocks]:
        return None
    return Block([[total(one, other) for one, other in zip(row, others)] for row, others in zip(a.blocks, b.blocks)])


@absorb.dispatch
def _absorb_grid(a: Block, scalar: Any):
    grid = [[block if block._is_zero else absorbed(block, scalar) for block in row] for row in a.blocks]
    return None if any(block is None for row in grid for block in row) else Block(grid)


@reduce.dispatch
def _reduce_grid(a: Block):
    grid, count = a.blocks, len(a.blocks)
    if count == len(grid[0]) == 1:
        return grid[0][0]
    if all(block._is_zero for row in grid for block in row):
        return Zero(*a.shape)
    if count == len(grid[0]) and all(grid[i][j]._is_zero for i in range(count) for j in range(count) if i != j):
        return DirectSum([grid[i][i] for i in range(count)])
    return None
