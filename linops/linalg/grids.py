"""Operators in a grid: block substitution, and the Schur complement of the first block."""

from __future__ import annotations

from typing import Any

from linops.operator import LinearOperator
from linops.operators.block import Block
from linops.operators.zero import Zero
from linops.tags import Tag


def has_square_diagonal(a: Block) -> bool:
    """Whether the grid is square, and the blocks on its diagonal are."""
    grid = a.blocks
    return len(grid) == len(grid[0]) and all(grid[i][i].shape[0] == grid[i][i].shape[1] for i in range(len(grid)))


def is_triangular_grid(a: Block) -> bool:
    """Whether all blocks on one side of the diagonal are zero."""
    if not has_square_diagonal(a):
        return False
    grid, count = a.blocks, range(len(a.blocks))
    return any(
        all(grid[i][j]._is_zero for i in count for j in count if (j > i if lower else j < i)) for lower in (True, False)
    )


def _is_lower(a: Block) -> bool:
    grid, count = a.blocks, range(len(a.blocks))
    return all(grid[i][j]._is_zero for i in count for j in count if j > i)


def grid_parts(function: Any, a: Block) -> list[tuple[Any, LinearOperator]]:
    """The blocks on the diagonal, each with a function."""
    return [(function, a.blocks[i][i]) for i in range(len(a.blocks))]


def inverse_of_triangular(inverse: Any, a: Block, kept: bool) -> LinearOperator:
    """The inverse of a triangular grid, a triangular grid: X_ij = −A_ii⁻¹ Σ_k A_ik X_kj."""
    count, lower = len(a.blocks), _is_lower(a)
    own = [inverse(a.blocks[i][i], kept) for i in range(count)]
    grid: list[list[Any]] = [[None] * count for _ in range(count)]
    for j in range(count):
        grid[j][j] = own[j]
        for i in range(j + 1, count) if lower else range(j)[::-1]:
            between = range(j, i) if lower else range(i + 1, j + 1)
            terms = [
                a.blocks[i][k] @ grid[k][j] for k in between if grid[k][j] is not None and not a.blocks[i][k]._is_zero
            ]
            if terms:
                grid[i][j] = -(own[i] @ sum(terms[1:], terms[0]))
    sizes = [block.shape[0] for block in own]
    return Block(
        [[Zero(m, n) if block is None else block for block, n in zip(row, sizes)] for row, m in zip(grid, sizes)]
    )


def has_schur_complement(a: Block) -> bool:
    """Whether the grid is 2×2 with an invertible first block, which is known."""
    if len(a.blocks) != 2 or not has_square_diagonal(a):
        return False
    return bool(
        (a.blocks[0][0].tags.yes | (a.tags.yes & Tag.POSITIVE_DEFINITE)) & (Tag.INVERTIBLE | Tag.POSITIVE_DEFINITE)
    )


def schur_complement(inverse: Any, a: Block, kept: bool) -> tuple[LinearOperator, LinearOperator]:
    """(A⁻¹, D − C A⁻¹ B) of [[A, B], [C, D]]."""
    (first, above), (below, last) = a.blocks
    own = inverse(first, kept)
    return own, last - below @ own @ above


def inverse_by_schur(inverse: Any, a: Block, kept: bool) -> LinearOperator:
    """The inverse of [[A, B], [C, D]] by that of A and of D − C A⁻¹ B."""
    (_, above), (below, _) = a.blocks
    own, complement = schur_complement(inverse, a, kept)
    inner = inverse(complement, kept)
    return Block([[own + own @ above @ inner @ below @ own, -(own @ above @ inner)], [-(inner @ below @ own), inner]])
