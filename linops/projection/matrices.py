"""The matrix of an operator, as an array like that of a goal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from operator import add
from typing import Any

import numpy as np

from linops import backends
from linops.operator import LinearOperator
from linops.projection.goal import Goal


def matrix_of(operator: LinearOperator, goal: Goal) -> Any:
    """An operator's matrix, as an array like the goal's."""
    like = goal.matrix
    dense = operator.to_dense()
    if backends.backend_of(dense) != goal.backend:
        return backends.constant(like, np.asarray(dense), like.dtype)
    return goal.space.astype(dense, like.dtype)


def moved(operator: LinearOperator, goal: Goal) -> LinearOperator:
    """An operator with arrays like the goal's."""
    device = goal.source.device if goal.backend == "torch" else None
    return operator.to(backend=goal.backend, dtype=goal.source.dtype, device=device)


def part_of(operator: LinearOperator, goal: Goal) -> Any:
    """An operator as what can be subtracted from a goal: its matrix, or where that is large itself."""
    return moved(operator, goal) if goal.is_large else matrix_of(operator, goal)


def less(goal: Goal, parts: Sequence[Any]) -> Goal:
    """What parts leave of W."""
    if not parts:
        return goal
    if goal.is_large:
        return replace(goal, source=goal.source - reduce(add, parts))
    return goal.of(goal.matrix - sum(parts))


def error_of(goal: Goal, parts: Sequence[Any]) -> float:
    """How far the sum of parts is from W."""
    return goal.error(reduce(add, parts)) if parts else goal.norm
