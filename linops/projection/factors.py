"""Products of factors that are no one contraction: each factor in turn is the nearest, the others being given.

A circulant matrix times a diagonal one, two triangular ones: each factor enters linearly and has a rule of its own, in
the norm that the others make of the goal's (`ends.py`). Where that converges slowly, L-BFGS goes on from it, and
from the start.
"""

from __future__ import annotations

from collections.abc import Sequence

from linops.operator import LinearOperator
from linops.operators.dense import Dense
from linops.operators.identity import Identity
from linops.operators.product import Product
from linops.projection.alternating import is_settled
from linops.projection.descent import descended
from linops.projection.effort import Effort, Found
from linops.projection.ends import within
from linops.projection.goal import Goal
from linops.projection.matrices import matrix_of
from linops.projection.nearest import is_given, nearest
from linops.projection.nets import net_of
from linops.projection.placements import placement_of


def are_linear(factors: Sequence[LinearOperator]) -> bool:
    """Whether the leaves of each factor enter its matrix linearly: it is one leaf, or entries that are parameters."""
    return all(is_given(factor) or _is_linear(factor) for factor in factors)


def _is_linear(factor: LinearOperator) -> bool:
    net = net_of(factor)
    return placement_of(factor) is not None if net is None else net.is_closed and len(net.tensors) == 1


def factor_by_factor(target: Product, goal: Goal, effort: Effort) -> Found:
    """A member near to a goal.

    Args:
        target: The product.
        goal: The goal.
        effort: When to stop.

    Returns:
        The member.
    """
    goal = goal.constant()
    device = goal.source.device if goal.backend == "torch" else None
    drawn = target.init(seed=0, backend=goal.backend, dtype=goal.source.dtype, device=device)
    factors = list(drawn.factors)
    before = goal.error(matrix_of(drawn, goal))
    sweeps, converged = 0, False
    while not converged and sweeps < effort.max_iterations:
        sweeps += 1
        kept = list(factors)
        for k, factor in enumerate(target.factors):
            if not is_given(factor):
                left, right = (_merged(part, goal) for part in (factors[:k], factors[k + 1 :]))
                factors[k] = nearest(factor, within(goal, left, right), effort).operator
        after = goal.error(matrix_of(Product(tuple(factors)), goal))
        if after > before:  # by rounding, of factors that are nearly singular
            factors = kept
            break
        converged = is_settled(before, after, goal, effort)
        before = after
    found = Found(Product(tuple(factors)), "factor by factor", iterations=sweeps, converged=converged)
    if converged or not effort.max_iterations:
        return found
    others = [descended(target, goal, effort, start) for start in (found.operator, None)]
    return min([found, *others], key=lambda one: goal.error(matrix_of(one.operator, goal)))


def _merged(factors: Sequence[LinearOperator], goal: Goal) -> LinearOperator:
    """The product of some factors written out; the identity of none."""
    if not factors:
        return Identity(0)
    return Dense(matrix_of(factors[0] if len(factors) == 1 else Product(tuple(factors)), goal))
