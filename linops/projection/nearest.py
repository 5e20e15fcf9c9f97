"""`nearest`: the member of a structure that comes nearest to a goal, structure by structure."""

from __future__ import annotations

from collections.abc import Callable

from linops import backends
from linops.backends import factorizations as lapack
from linops.dispatch import generic
from linops.linalg.inputs import fits
from linops.operator import LinearOperator
from linops.projection import polish, vanishing
from linops.projection.alternating import alternating, least_squares
from linops.projection.balance import balanced
from linops.projection.blast import blast_of, is_beyond, starts
from linops.projection.descent import descended
from linops.projection.effort import Effort, Found
from linops.projection.goal import Goal
from linops.projection.hierarchy import factorized, in_halves, unavoidable
from linops.projection.nets import Net, net_of
from linops.projection.pairs import coupled, optimum, pair_of
from linops.projection.permutations import Assignment
from linops.projection.placements import placed, placement_of
from linops.projection.spread import spread
from linops.projection.streamed import streamed
from linops.specs import Spec


def nearest(target: LinearOperator, goal: Goal, effort: Effort) -> Found:
    """A member of a structure near to a goal.

    Args:
        target: An operator of the goal's shape; its specs are to be found, its arrays are given.
        goal: What to come near to.
        effort: When iterations stop.

    Returns:
        The member.
    """
    return Found(target, "given", is_optimal=True) if is_given(target) else by_structure(target, goal, effort)


@generic
def by_structure(target, goal: Goal, effort: Effort):
    """What `nearest` does with a structure of which something is to be found; rules register here.

    Args:
        target: As for `nearest`.
        goal: As for `nearest`.
        effort: As for `nearest`.
    """


def is_given(target: LinearOperator) -> bool:
    """Whether nothing of an operator is to be found."""
    return not isinstance(target, Assignment) and not any(isinstance(leaf, Spec) for _, leaf in target.named_leaves())


@by_structure.dispatch
def _nearest_any(target: LinearOperator, goal: Goal, effort: Effort):
    return nearest_as_one(target, goal, effort)


def nearest_as_one(target: LinearOperator, goal: Goal, effort: Effort) -> Found:
    """A member of a structure as one contraction, as a placement of parameters, or else by L-BFGS.

    Args:
        target: The structure.
        goal: The goal.
        effort: When iterations stop.

    Returns:
        The member.
    """
    net = net_of(target)
    if goal.is_large and net is not None and (found := streamed(net, goal, effort)):
        return found
    if net is not None and net.is_closed and not goal.is_large:
        return _nearest_net(net, goal, effort)
    if fits(target):
        placement = placement_of(target)
        found = None if placement is None else placed(target, placement, goal, effort)
    else:
        found = spread(target, goal, effort)
    return found or descended(target, goal, effort)


def _nearest_net(net: Net, goal: Goal, effort: Effort) -> Found:
    entries = net.read(goal.matrix)
    if len(net.tensors) == 1 and goal.is_plain:
        tensors = factorized(net, entries, CUTS[0])
        return Found(net.operator([backends.copy(tensor) for tensor in tensors]), "entries", is_optimal=True)
    pair = pair_of(net)
    if pair is not None:
        found = optimum(pair, goal, entries)
        if found is not None:
            return Found(pair.operator(*found), "truncated SVD", is_optimal=True)
        steps = coupled(pair, goal.constant(), entries, effort)
        if steps is not None:
            U, B, sweeps, converged = steps
            return Found(pair.operator(U, B), "block sweeps", iterations=sweeps, converged=converged)
    if len(net.tensors) == 1:
        tensors = factorized(net, entries, CUTS[0])
        if lapack.is_constant(goal.matrix):  # then the error is looked at, which rounding must not raise
            tensors, *_ = alternating(net, goal, tensors, Effort(max_iterations=1))
        else:
            tensors = least_squares(net, goal, tensors)
        return Found(net.operator(tensors), "least squares", is_optimal=True)
    goal = goal.constant()
    like = goal.matrix
    if all(net.free) and backends.is_at_hand(like):  # small products take less time in NumPy than in torch
        goal = goal.on_numpy()
    tensors, lost = _start(net, goal, effort)
    tensors, sweeps, converged = alternating(net, goal, tensors, effort)
    method, blast = "alternating least squares", blast_of(net)
    if blast is not None and is_beyond(blast) and vanishing.fits(net, goal, effort):
        better = vanishing.vanishing(net, goal, tensors, effort)
        if better is not None:
            tensors, steps, converged = better
            method, sweeps = vanishing.METHOD, sweeps + steps
    if not converged and effort.max_iterations and polish.fits([net], goal):
        (tensors,), steps, converged = polish.polished([net], goal, [tensors], effort)
        sweeps += steps
    tensors = balanced(net, tensors)
    if goal.backend != backends.backend_of(like):
        tensors = [backends.constant(like, tensor, like.dtype) for tensor in tensors]
    return Found(net.operator(tensors), method, lost=lost, iterations=sweeps, converged=converged)


#: where leaves, in the order in which they act, are cut into two groups: halves, the first alone, the last alone
CUTS: tuple[Callable[[int], int], ...] = (in_halves, lambda k: 1, lambda k: k - 1)
#: from so many leaves on, the last alone, which takes the fewest operations and seldom comes less near
MANY = 6


def _start(net: Net, goal: Goal, effort: Effort):
    """Tensors to start from, and a squared error that no member goes below, where the goal's norm is Frobenius'."""
    if not all(net.free):
        drawn = net.target.init(seed=0, backend=goal.backend, dtype=goal.matrix.dtype, device=_device(goal))
        return [net.tensor(k, leaf) for k, (_, leaf) in enumerate(drawn.named_leaves())], None
    entries = net.read(goal.matrix)
    few = 2 < len(net.tensors) < MANY
    cuts = CUTS if few else CUTS[:1] if len(net.tensors) < MANY else CUTS[2:]
    candidates = [factorized(net, entries, cut) for cut in cuts]
    blast = blast_of(net)
    if blast is not None:
        candidates += starts(blast, entries)
    best = candidates[0]
    if len(candidates) > 1:
        best = min(candidates, key=lambda tensors: goal.error(net.written(tensors)))
    if not effort.bound or not goal.is_plain:
        return best, None
    return best, max(float(unavoidable(net, entries, cut)) for cut in (CUTS if few else CUTS[:1]))


def _device(goal: Goal):
    return goal.source.device if goal.backend == "torch" else None
