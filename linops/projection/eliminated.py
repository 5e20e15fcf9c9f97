"""Sums of a net and of terms whose entries are parameters: these are eliminated (variable projection).

A term that may have any number in fixed places, as a sparse or a diagonal one, takes there whatever the rest of the sum
leaves. So the rest is what comes nearest to W in the other places, with weights of zero in those (of low rank it is
matrix completion), and is found there by steps on all its leaves at once, where alternating over terms crawls or stops.
Golub and Pereyra, "Separable nonlinear least squares: the variable projection method and its applications", 2003.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from linops import backends
from linops.linalg.spectra import real_part
from linops.operator import LinearOperator
from linops.projection import vanishing
from linops.projection.balance import balanced
from linops.projection.effort import Effort
from linops.projection.goal import Goal
from linops.projection.matrices import error_of, less, matrix_of
from linops.projection.nearest import nearest
from linops.projection.nets import Net, net_of
from linops.projection.placements import placement_of


def eliminated(
    terms: Sequence[LinearOperator],
    free: Sequence[int],
    found: Mapping[int, LinearOperator],
    goal: Goal,
    effort: Effort,
) -> tuple[dict[int, LinearOperator], int, bool] | None:
    """Better terms of a sum, from some, where all but one are patterns.

    Args:
        terms: The terms.
        free: Which are to be found.
        found: These, to be better than.
        goal: The goal.
        effort: When to stop.

    Returns:
        The terms that are to be found, steps, and whether the last was below the tolerance; None where none are better,
        or where the sum is no such one, or too large.
    """
    if goal.is_large or goal.has_full:
        return None
    parted = _parted(terms, free, goal, effort)
    if parted is None:
        return None
    core, net, others = parted
    before = error_of(goal, [matrix_of(one, goal) for one in found.values()])
    rest = replace(goal, entries=backends.constant(goal.matrix, others, real_part(goal.matrix).dtype))
    tensors = [net.tensor(k, leaf) for k, (_, leaf) in enumerate(found[core].named_leaves())]
    steps, converged, is_better = 0, False, False
    for improved in (vanishing.onwards, vanishing.vanishing):
        better = improved(net, rest, tensors, effort)
        if better is not None:
            tensors, more, converged = better
            steps, is_better = steps + more, True
    if not is_better:
        return None
    result = {core: net.operator(balanced(net, tensors))}
    for k in free:
        if k != core:
            left = less(goal, [matrix_of(one, goal) for one in result.values()])
            result[k] = nearest(terms[k], left, effort).operator
    after = error_of(goal, [matrix_of(one, goal) for one in result.values()])
    return (result, steps, converged) if after < before else None


def _parted(
    terms: Sequence[LinearOperator], free: Sequence[int], goal: Goal, effort: Effort
) -> tuple[int, Net, np.ndarray] | None:
    """The one term that is no pattern, as a net, and (m, n) where no pattern has entries."""
    others, cores = np.ones(goal.shape, bool), []
    for k in free:
        placement = placement_of(terms[k])
        if placement is not None and placement.is_pattern:
            others &= placement.ids == placement.count
        else:
            cores.append(k)
    net = net_of(terms[cores[0]]) if len(cores) == 1 else None
    if net is None or len(free) == 1 or not vanishing.fits(net, goal, effort) or not others.any():
        return None
    return cores[0], net, others
