"""Factors that are given around those to be found: L X R near to W is X near to another matrix, in another norm.

‖A^½ (W − L X R) C^½‖ is, up to a constant, ‖A'^½ (W' − X) C'^½‖ with A' = Lᴴ A L, C' = R C Rᴴ and W' = A'⁺ Lᴴ A W C
Rᴴ C'⁺. For permutations, and pads and crops between sizes, that is W with its rows and columns moved, and weights of
zeros and ones.
"""

from __future__ import annotations

from typing import Any

from linops import backends
from linops.operator import LinearOperator, flat
from linops.operators.dense import Dense
from linops.operators.direct_sum import DirectSum
from linops.operators.identity import Identity
from linops.operators.kronecker import Kronecker
from linops.operators.pad import Pad
from linops.operators.permutation import Permutation
from linops.operators.product import Product
from linops.projection.goal import Goal, adjoint, root


def selects(operator: LinearOperator) -> bool:
    """Whether an operator only moves, drops and pads: at most a one in each row and column."""
    if isinstance(operator, (DirectSum, Kronecker, Product)):
        return all(map(selects, operator.blocks if isinstance(operator, DirectSum) else operator.factors))
    return isinstance(operator, (Pad, Permutation, Identity))


def within(goal: Goal, left: LinearOperator, right: LinearOperator) -> Goal:
    """The goal of X in L X R.

    Args:
        goal: That of L X R.
        left: L.
        right: R.

    Returns:
        The goal.
    """
    if goal.is_large and selects(left) and selects(right):  # nothing is written out
        like = goal.like
        A = _metric_inside(goal.output_metric, left, like)
        turned = None if goal.second_moment is None else _transposed(goal.second_moment)
        C = _metric_inside(turned, right.T, like)
        return Goal(left.T @ goal.source @ right.T, A, None if C is None else _transposed(C))
    W, A, C = goal.matrix, goal.output_metric, goal.second_moment
    W, A = _inside(W, A, left)
    flipped, C = _inside(backends.permute(W, (1, 0)), None if C is None else _transposed(C), right.T)
    return Goal(Dense(backends.permute(flipped, (1, 0))), A, None if C is None else _transposed(C))


def _keeps_all(left: LinearOperator) -> bool:
    """Whether no row of X is dropped by L X."""
    if isinstance(left, (DirectSum, Kronecker, Product)):
        return all(map(_keeps_all, left.blocks if isinstance(left, DirectSum) else left.factors))
    return left.shape[0] >= left.shape[1]


def _transposed(metric: Any) -> Any:
    return metric if len(metric.shape) == 1 else backends.permute(metric, (1, 0))


def _inside(W: Any, A: Any, left: LinearOperator) -> tuple[Any, Any]:
    """W' and A' of L X."""
    if isinstance(left, Identity):
        return W, A
    space: Any = backends.namespace(backends.backend_of(W))
    if selects(left):
        return flat(left.T @ W), _metric_inside(A, left, W)
    L = space.astype(backends.asarray(left.to_dense(), str(backends.backend_of(W))), W.dtype)
    weighted = adjoint(L) if A is None else adjoint(L) * A if len(A.shape) == 1 else adjoint(L) @ A
    metric = weighted @ L
    _, back = root(metric)
    return adjoint(back) @ (back @ (weighted @ W)), metric


def _metric_inside(A: Any, left: LinearOperator, like: Any) -> Any:
    """A' of L X, where L only moves, drops and pads: rows of X that it drops are of no weight."""
    if A is not None and len(A.shape) == 2:
        return flat(left.T @ backends.permute(flat(left.T @ A), (1, 0))).T
    if A is None and _keeps_all(left):
        return None
    ones = backends.zeros(like, (left.shape[0],), like.dtype) + 1 if A is None else A
    return left.T @ ones
