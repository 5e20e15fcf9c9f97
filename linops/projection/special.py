"""Sets of matrices that are no family: symmetric, orthogonal, permutations; by name, or by tags of a dense target."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy  # whose submodules load when they are first used

from linops import backends
from linops.backends import factorizations as lapack
from linops.operator import LinearOperator, assume
from linops.operators.dense import Dense
from linops.operators.diagonal import Diagonal
from linops.operators.householder import Householder
from linops.operators.permute import Permute
from linops.operators.triangular import Triangular
from linops.operators.tridiagonal import Tridiagonal
from linops.projection.effort import Effort, Found
from linops.projection.goal import Goal, adjoint
from linops.projection.nearest import by_structure, nearest, nearest_as_one
from linops.projection.permutations import Assignment
from linops.specs import spec
from linops.tags import Tag

#: names of targets that are no family → the operator of size n
SPECIAL: dict[str, Callable[[int], LinearOperator]] = {
    "diagonal": lambda n: Diagonal(spec(n)),
    "tridiagonal": lambda n: Tridiagonal(spec(n - 1), spec(n), spec(n - 1)),
    "lower_triangular": lambda n: Triangular(spec(n, n), lower=True),
    "upper_triangular": lambda n: Triangular(spec(n, n), lower=False),
    "symmetric": lambda n: assume(Dense(spec(n, n)), Tag.SYMMETRIC),
    "hermitian": lambda n: assume(Dense(spec(n, n)), Tag.HERMITIAN),
    "orthogonal": lambda n: assume(Dense(spec(n, n)), Tag.ORTHOGONAL),
    "permutation": Assignment,
}


#: tags of a dense target whose matrices are patterns
PATTERNS: dict[Tag, Callable[[int], LinearOperator]] = {
    Tag.DIAGONAL: SPECIAL["diagonal"],
    Tag.LOWER_TRIANGULAR: SPECIAL["lower_triangular"],
    Tag.UPPER_TRIANGULAR: SPECIAL["upper_triangular"],
}


@by_structure.dispatch
def _nearest_dense(target: Dense, goal: Goal, effort: Effort):
    assumed = target.assumed
    if not assumed:
        return nearest_as_one(target, goal, effort)
    if assumed in PATTERNS:
        found = nearest(PATTERNS[assumed](target.shape[0]), goal, effort)
        return found(assume(Dense(found.operator.to_dense()), assumed))
    if assumed & ~(Tag.SYMMETRIC | Tag.HERMITIAN) not in (Tag.NONE, assumed & Tag.ORTHOGONAL):
        raise NotImplementedError(
            f"project(…, {target._short()}): a dense target may be tagged as symmetric, Hermitian, orthogonal, "
            f"diagonal or triangular, one at a time; got {assumed!r}"
        )
    if Tag.ORTHOGONAL in assumed:
        return Found(assume(Dense(polar(goal, target)), assumed), "polar factor", is_optimal=True)
    is_hermitian = Tag.SYMMETRIC not in assumed
    return Found(assume(Dense(_symmetric(goal, target, is_hermitian)), assumed), "symmetric part", is_optimal=True)


def _symmetric(goal: Goal, target: Any, is_hermitian: bool) -> Any:
    """The nearest S = Sᵀ (or Sᴴ): of A and C diagonal in bases U and V, where S C + … is solved entry by entry."""
    W, space, (A, C) = goal.matrix, goal.space, (goal.output_metric, goal.second_moment)
    turn = adjoint if is_hermitian else (lambda M: backends.permute(M, (1, 0)))
    if A is not None and C is not None:
        raise NotImplementedError(
            f"project(…, {target._short()}): the nearest symmetric matrix is found in one of a second moment and an "
            "output metric, not in both"
        )
    if goal.is_plain:
        return (W + turn(W)) / 2
    if not is_hermitian and backends.is_complex(W.dtype):
        raise NotImplementedError(
            f"project(…, {target._short()}): of complex matrices the nearest Hermitian one is found in other norms, "
            "not the nearest symmetric one; take 'hermitian'"
        )
    # S C + C S = W C + C Wᴴ, and likewise of A: in the eigenvectors of the metric
    metric: Any = A if C is None else C
    if len(metric.shape) == 1:
        w, V = metric, backends.eye(W, W.shape[0], W.dtype)
    else:
        w, V = lapack.eigh(metric)
    goal_side = V @ (space.astype(w, W.dtype)[:, None] * adjoint(V))
    both = goal_side @ W + adjoint(W) @ goal_side if C is None else W @ goal_side + goal_side @ adjoint(W)
    sums = w[:, None] + w[None, :]
    floor = 1e-12 * space.max(space.abs(w))
    kept = sums > floor
    inside = adjoint(V) @ both @ V
    solved = space.where(kept, inside / space.where(kept, sums, space.ones_like(sums)), 0 * inside)
    return V @ solved @ adjoint(V)


def polar(goal: Goal, target: LinearOperator) -> Any:
    """The orthogonal (unitary) Q with the largest Re tr Qᴴ A W C."""
    if goal.output_metric is not None and goal.second_moment is not None:
        raise NotImplementedError(
            f"project(…, {target._short()}): the nearest orthogonal matrix is found in one of a second moment and an "
            "output metric, not in both"
        )
    U, _, Vh = lapack.svd(goal.weighted(goal.matrix))
    return U @ Vh


@by_structure.dispatch
def _nearest_householder(target: Householder, goal: Goal, effort: Effort):
    n = target.shape[0]
    shape = tuple(target.v.shape)
    if shape != (n, n) or backends.is_complex(goal.matrix.dtype) or target.reverse:
        return nearest_as_one(target, goal, effort)
    return Found(Householder(_vectors(goal.space, polar(goal, target))), "polar factor", is_optimal=True)


def _vectors(space: Any, Q: Any) -> Any:
    """The vectors of n reflections whose product H_1 H_2 … H_n is a real orthogonal Q: each makes a column of Q e_k."""
    n, vectors, rest = Q.shape[0], [], Q
    identity = backends.eye(Q, n, Q.dtype)
    for k in range(n):
        v = rest[:, k] - identity[:, k]
        v = space.where(space.max(space.abs(v)) < 4 * float(space.finfo(v.dtype).eps), 0 * v, v)
        square = space.sum(v * v)
        step = 2 / space.where(square == 0, square + 1, square)
        rest = rest - step * v[:, None] * (v @ rest)[None, :]
        vectors.append(v)
    return space.stack(vectors)


@by_structure.dispatch
def _nearest_permutation(target: Assignment, goal: Goal, effort: Effort):
    if goal.output_metric is not None and goal.second_moment is not None:
        raise NotImplementedError(
            "project(…, 'permutation'): found in one of a second moment and an output metric, not in both"
        )
    gain = np.real(backends.to_numpy(lapack.stop_gradient(goal.weighted(goal.matrix))))
    rows, columns = scipy.optimize.linear_sum_assignment(gain, maximize=True)
    order = np.empty(len(rows), int)
    order[rows] = columns
    return Found(Permute(order), "assignment", is_optimal=True)
