"""Rules of `nearest` for multiples, sums and products."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Any

from linops import backends
from linops.operator import LinearOperator, flat
from linops.operators.dense import Dense
from linops.operators.identity import Identity
from linops.operators.low_rank import LowRank
from linops.operators.product import Product
from linops.operators.scaled import Scaled
from linops.operators.sum import Sum
from linops.projection import polish, vanishing
from linops.projection.alternating import is_settled
from linops.projection.balance import balanced
from linops.projection.effort import Effort, Found
from linops.projection.eliminated import eliminated
from linops.projection.ends import within
from linops.projection.factors import are_linear, factor_by_factor
from linops.projection.goal import Goal, adjoint, is_full, root
from linops.projection.krylov import krylov
from linops.projection.matrices import error_of, less, matrix_of, moved, part_of
from linops.projection.nearest import by_structure, is_given, nearest, nearest_as_one
from linops.projection.nets import net_of
from linops.projection.pairs import pair_of
from linops.projection.panels import inner
from linops.projection.stride import strided, strided_of
from linops.projection.truncation import LARGE, truncated
from linops.specs import Spec


@by_structure.dispatch
def _nearest_scaled(target: Scaled, goal: Goal, effort: Effort):
    if not isinstance(target.gain, Spec):  # a number, or an array
        scale = target.number if target.gain is None else target.number * target.gain
        if not backends.is_array(scale) and scale == 0:
            raise ValueError(f"project(…, {target._short()}): a multiple of zero is zero whatever its base")
        found = nearest(target.base, goal.scaled(1 / scale), effort)
        lost = None if found.lost is None else found.lost * abs(scale) ** 2
        return found(Scaled(found.operator, target.number, target.gain), lost=lost)
    like = goal.like
    if is_given(target.base) and goal.is_large:
        B = target.number * moved(target.base, goal)
        size = inner(goal, B, B)
        gain = inner(goal, B, goal.source) / goal.space.where(size == 0, size + 1, size)
        gain = goal.space.reshape(goal.space.asarray(gain), ())
        return Found(Scaled(target.base, target.number, gain), "least squares", is_optimal=True)
    if is_given(target.base):
        like = goal.matrix
        B = target.number * matrix_of(target.base, goal)
        weighted = backends.conj(goal.weighted(B))
        square = goal.space.sum(weighted * B)
        gain = goal.space.sum(weighted * like) / goal.space.where(square == 0, square + 1, square)
        gain = goal.space.reshape(goal.space.asarray(gain), ())
        return Found(Scaled(target.base, target.number, gain), "least squares", is_optimal=True)
    found = nearest(target.base, goal.scaled(1 / target.number), effort)
    one = goal.space.reshape(backends.zeros(like, (1,), like.dtype) + 1, ())
    lost = None if found.lost is None else found.lost * abs(target.number) ** 2
    return found(Scaled(found.operator, target.number, one), lost=lost)


@by_structure.dispatch
def _nearest_low_rank(target: LowRank, goal: Goal, effort: Effort):
    source, net = goal.source, net_of(target)
    pair = None if net is None else pair_of(net)
    if pair is None or isinstance(source, Dense) or pair.rank > min(source.shape):
        return nearest_as_one(target, goal, effort)
    if not goal.is_large and (not goal.is_plain or min(source.shape) < LARGE):
        return nearest_as_one(target, goal, effort)
    # products alone: W is not written out
    (A, left), (C, _) = (_rooted(metric) for metric in (goal.output_metric, goal.second_moment))
    like = goal.like

    def product(x: Any) -> Any:
        return A(flat(source @ C(x, False)), True)

    def adjoint_product(y: Any) -> Any:
        return C(flat(source.H @ A(y, False)), True)

    U, is_settled = krylov(lambda x: product(adjoint_product(x)), like, pair.rank, source.shape)
    B = adjoint(flat(source.H @ A(U, False)))  # the columns' metric is not inverted
    return Found(pair.operator(left(U)[None], B[None]), "block Krylov space", converged=is_settled)


def _rooted(metric: Any) -> tuple[Any, Any]:
    """With S Sᴴ a metric: a function of x that multiplies it by S, or Sᴴ where asked for, and one by (S⁺)ᴴ."""
    if metric is None:
        return (lambda x, turned: x), (lambda x: x)
    if is_full(metric):
        S, back = root(metric)
        return (lambda x, turned: (adjoint(S) if turned else S) @ x), (lambda x: adjoint(back) @ x)
    space: Any = backends.namespace(backends.backend_of(metric))
    s = space.sqrt(metric)[:, None]
    inverse = space.where(s == 0, s, 1 / space.where(s == 0, space.ones_like(s), s))
    return (lambda x, turned: s * x), (lambda x: inverse * x)


@by_structure.dispatch
def _nearest_sum(target: Sum, goal: Goal, effort: Effort):
    terms = list(target.terms)
    free = [k for k, term in enumerate(terms) if not is_given(term)]
    rest = less(goal, [part_of(term, goal) for k, term in enumerate(terms) if k not in free])
    if len(free) == 1:
        found = nearest(terms[free[0]], rest, effort)
        terms[free[0]] = found.operator
        return found(Sum(tuple(terms)))
    joint = _joint(terms, free, rest)
    if joint is not None:
        return joint
    return _by_terms(terms, free, rest.constant(), effort)


def _joint(terms: list[LinearOperator], free: Sequence[int], goal: Goal) -> Found | None:
    """Terms of one structure with two leaves: one truncated SVD, shared out; sums of Kronecker products."""
    if not goal.is_plain or goal.is_large or len({terms[k].structure for k in free}) > 1:
        return None
    net = net_of(terms[free[0]])
    pair = None if net is None else pair_of(net)
    if net is None or pair is None:
        return None
    entries = net.read(goal.matrix)
    M = pair.blockwise(entries)
    rank = pair.rank
    U, B, _ = truncated(M, rank * len(free))
    for number, k in enumerate(free):
        part = slice(number * rank, (number + 1) * rank)
        terms[k] = pair.operator(U[..., part], B[..., part, :])
    return Found(Sum(tuple(terms)), "truncated SVD", is_optimal=True)


#: sweeps after which one of two orders of terms is chosen
TRIAL = 5


def _by_terms(terms: list[LinearOperator], free: Sequence[int], goal: Goal, effort: Effort) -> Found:
    """Each term in turn, nearest to what the others leave, from zeros; in the better of two orders."""
    trial = replace(effort, max_iterations=min(TRIAL, effort.max_iterations))
    found, _, _ = min([_swept(terms, order, goal, {}, trial) for order in (free, free[::-1])], key=itemgetter(1))
    rest = replace(effort, max_iterations=max(effort.max_iterations - TRIAL, 0))
    found, error, (sweeps, converged) = _swept(terms, free, goal, found, rest)
    sweeps, converged = sweeps + trial.max_iterations, converged or vanishing.is_nothing(error, goal)
    if rest.max_iterations and not vanishing.is_nothing(error, goal):
        better = eliminated(terms, free, found, goal, effort)
        if better is not None:
            found, steps, converged = better
            whole = Sum(tuple([found.get(k, term) for k, term in enumerate(terms)]))
            return Found(whole, vanishing.METHOD, iterations=sweeps + steps, converged=converged)
    nets = [net_of(terms[k]) for k in free]
    if (
        not converged
        and rest.max_iterations
        and all(nets)
        and not goal.is_large
        and polish.fits(small := list(filter(None, nets)), goal)
    ):
        pairs = zip(small, [found[k].named_leaves() for k in free])
        tensors = [[net.tensor(k, leaf) for k, (_, leaf) in enumerate(leaves)] for net, leaves in pairs]
        better, steps, converged = polish.polished(small, goal, tensors, effort)
        sweeps += steps
        found = {k: net.operator(balanced(net, leaves)) for k, net, leaves in zip(free, small, better)}
    whole = Sum(tuple([found.get(k, term) for k, term in enumerate(terms)]))
    return Found(whole, "alternating terms", iterations=sweeps, converged=converged)


def _swept(
    terms: list[LinearOperator],
    order: Sequence[int],
    goal: Goal,
    start: Mapping[int, LinearOperator],
    effort: Effort,
) -> tuple[dict[int, LinearOperator], float, tuple[int, bool]]:
    """Terms, their error, sweeps, and whether the last one changed less than the tolerance."""
    found = dict(start)
    parts: dict[int, Any] = {k: part_of(found[k], goal) for k in order if k in found}  # others are zero
    before = error_of(goal, [*parts.values()])
    sweeps, converged = 0, False
    while not converged and sweeps < max(effort.max_iterations, not start):
        sweeps += 1
        for k in order:
            left = less(goal, [part for other, part in parts.items() if other != k])
            found[k] = nearest(terms[k], left, effort).operator
            parts[k] = part_of(found[k], goal)
        after = error_of(goal, [*parts.values()])
        converged = is_settled(before, after, goal, effort)
        before = after
    return found, before, (sweeps, converged)


@by_structure.dispatch
def _nearest_product(target: Product, goal: Goal, effort: Effort):
    factors = list(target.factors)
    free = [k for k, factor in enumerate(factors) if not is_given(factor)]
    first, last = free[0], free[-1]
    if first or last < len(factors) - 1:
        left, right = factors[:first], factors[last + 1 :]
        inner = within(goal, _composed(left, goal.shape[0]), _composed(right, goal.shape[1]))
        core = _composed(factors[first : last + 1], 0)
        found = nearest(core, inner, effort)
        lost = None
        if found.lost is not None and not goal.is_large:
            lost = found.lost + goal.square(goal.matrix) - inner.square(inner.matrix)
        return found(_filled(target, found.operator, left), lost=lost)
    chain = strided_of(target) if net_of(target) is None else None
    if chain is not None and not goal.has_two_full:
        return strided(chain, goal, effort)
    if net_of(target) is None and are_linear(factors):
        return factor_by_factor(target, goal, effort)
    return nearest_as_one(target, goal, effort)


def _composed(factors: Sequence[LinearOperator], size: int) -> LinearOperator:
    """The product of factors; the identity of none."""
    if not factors:
        return Identity(size)
    return factors[0] if len(factors) == 1 else Product(tuple(factors))


def _filled(target: Product, core: LinearOperator, left: Sequence[LinearOperator]) -> LinearOperator:
    """A product with the leaves of its middle factors filled in."""
    leaves = [leaf for _, leaf in target.named_leaves()]
    start = sum([factor._num_leaves for factor in left])
    found = [leaf for _, leaf in core.named_leaves()]
    return target.with_leaves([*leaves[:start], *found, *leaves[start + len(found) :]])
