"""The matrix of an operator, as an array like that of a goal."""

from __future__ import annotations

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
