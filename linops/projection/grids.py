"""Direct sums and grids of blocks: in a norm of weights each block is the nearest by itself."""

from __future__ import annotations

from typing import Any

from linops.operators.block import Block
from linops.operators.dense import Dense
from linops.operators.direct_sum import DirectSum
from linops.projection.effort import Effort, Found
from linops.projection.goal import Goal
from linops.projection.nearest import by_structure, nearest, nearest_as_one
from linops.projection.placements import placement_of


def _part(goal: Goal, rows: slice, columns: slice) -> Goal:
    """The goal of a block; metrics are diagonal or none."""
    A, C = goal.output_metric, goal.second_moment
    source = goal.source[rows, columns] if goal.is_large else Dense(goal.matrix[rows, columns])
    return Goal(source, None if A is None else A[rows], None if C is None else C[columns])


def _spans(sizes: list[int]) -> list[slice]:
    found, start = [], 0
    for size in sizes:
        found.append(slice(start, start + size))
        start += size
    return found


def _is_one(target: Any, goal: Goal) -> bool:
    """Whether a structure is found as a whole: its blocks are coupled, or its entries parameters."""
    return goal.has_full or placement_of(target) is not None


def _joined(target: Any, found: list[Found]) -> Found:
    iterations = max([one.iterations for one in found], default=0)
    leaves = [leaf for one in found for _, leaf in one.operator.named_leaves()]
    methods = dict.fromkeys([one.method for one in found if one.method != "given"])
    return Found(
        target.with_leaves(leaves),
        ", ".join(methods),
        all(one.is_optimal for one in found),
        None,
        iterations,
        all(one.converged for one in found),
    )


@by_structure.dispatch
def _nearest_direct_sum(target: DirectSum, goal: Goal, effort: Effort):
    if _is_one(target, goal):
        return nearest_as_one(target, goal, effort)
    rows, columns = (_spans([block.shape[axis] for block in target.blocks]) for axis in (0, 1))
    parts = zip(target.blocks, rows, columns)
    return _joined(target, [nearest(block, _part(goal, m, n), effort) for block, m, n in parts])


@by_structure.dispatch
def _nearest_block(target: Block, goal: Goal, effort: Effort):
    if _is_one(target, goal):
        return nearest_as_one(target, goal, effort)
    rows = _spans([row[0].shape[0] for row in target.blocks])
    columns = _spans([block.shape[1] for block in target.blocks[0]])
    cells = [(block, m, n) for row, m in zip(target.blocks, rows) for block, n in zip(row, columns)]
    return _joined(target, [nearest(block, _part(goal, m, n), effort) for block, m, n in cells])
