"""Structures near to operators too large to be written out: from panels of columns, by products alone.

Two groups of leaves meet in blocks of given rank (`hierarchy.py`). Where open axes count blocks, as in block tensor
trains and Monarch matrices, a panel holds whole blocks, and one pass of n products gives the optimum of two leaves,
also with weights of rows and columns. A second moment couples the blocks of a row, so panels are then of whole rows of
blocks, by adjoint products. Otherwise, as for tensor trains and Kronecker products, there is one block M, W after the
reordering of Van Loan and Pitsianis, whose singular vectors are found in a block Krylov space: a product with M is a
sum over panels of W, and takes a pass. An entry of such a product depends on m2 n1 entries of W, and the columns of M
are not those of W, so for a W of which nothing is known no fewer than n products give it: what is saved is memory, of
which the leaves and m numbers for each column of a panel are taken. In other norms alternating least squares go on
from there (`passes.py`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from linops import backends
from linops.projection.balance import balanced
from linops.projection.contraction import contract
from linops.projection.effort import Effort, Found
from linops.projection.goal import Goal, is_full
from linops.projection.hierarchy import groups_of, in_halves, joined
from linops.projection.krylov import krylov
from linops.projection.netpanels import NetPanels, Slices, sliced
from linops.projection.nets import Net
from linops.projection.pairs import Pair, coupled, optimum
from linops.projection.panels import MOST
from linops.projection.passes import passes
from linops.projection.truncation import padded


def streamed(net: Net, goal: Goal, effort: Effort) -> Found | None:
    """A member near to an operator, which is never written out.

    Args:
        net: The structure.
        goal: The goal.
        effort: When iterations stop.

    Returns:
        The member; None where it is not found so.
    """
    if goal.shape[0] * goal.shape[1] > MOST or not _streams(net):
        return None
    groups = groups_of(net, in_halves)
    pair = Pair(net, -1, -1, groups.blocks, groups.bonds, groups.rows, groups.columns)
    is_one_step = len(net.tensors) == 2  # so that what is best for two groups is best for the leaves
    found = _by_blocks(pair, goal, effort) if pair.blocks and is_one_step else None
    is_done = found is not None or goal.is_plain
    if found is None:
        found = _by_blocks(pair, goal.plain(), effort) if pair.blocks else _whole(pair, goal)
    assert found is not None
    tensors = joined(net, groups, *found.factors, in_halves)
    if is_done:
        operator = net.operator(balanced(net, tensors))
        is_optimal = found.is_optimal and is_one_step
        return Found(operator, found.method, is_optimal, None, found.iterations, found.converged)
    tensors, sweeps, converged = passes(net, goal.constant(), tensors, effort)
    operator = net.operator(balanced(net, tensors))
    return Found(operator, "alternating least squares of panels", iterations=sweeps, converged=converged)


class _Factors(NamedTuple):
    """U (blocks, rows, rank) and B (blocks, rank, columns), and how they were found."""

    factors: tuple[Any, Any]
    method: str
    is_optimal: bool = False
    iterations: int = 0
    converged: bool = True


def _streams(net: Net) -> bool:
    """Whether a structure is a contraction of two leaves or more, which hold all axes of rows and columns."""
    if len(net.tensors) < 2 or not all(net.free) or not net.is_closed or set(net.out) & set(net.into):
        return False
    every = "".join(net.tensors)
    return all(axis in every for axis in net.open)


def _by_blocks(pair: Pair, goal: Goal, effort: Effort) -> _Factors | None:
    """The factors of all blocks, from panels that hold whole ones, in a norm that keeps them or block rows apart."""
    goal = goal.constant() if goal.has_full else goal
    net, (A, C) = pair.net, (goal.output_metric, goal.second_moment)
    if is_full(A) and is_full(C):
        return None
    # a panel holds whole columns of blocks, or where a second moment couples those of a row, whole rows
    side = net.out if is_full(C) or not set(pair.blocks) & set(net.into) else net.into
    cut = "".join([axis for axis in side if axis in pair.blocks])
    if not cut or (is_full(A) and side != net.into):
        return None
    panels = NetPanels(net, goal.source, side)
    is_coupled, iterations, is_settled = goal.has_full, 0, True

    def found(slices: Slices) -> tuple[Any, ...]:
        nonlocal iterations, is_settled
        metrics = [_within(net, axes, metric, slices) for axes, metric in ((net.out, A), (net.into, C))]
        kept = {axis: len(range(net.sizes[axis])[at]) for axis, at in slices.items()}
        part = replace(pair, net=replace(net, sizes={**net.sizes, **kept}))
        entries = contract([net.out + net.into], net.open, panels(slices))
        there = Goal(goal.source, *metrics)
        if is_coupled:
            factors = coupled(part, there, entries, effort)
            if factors is not None:
                iterations, is_settled = max(iterations, factors[2]), is_settled and factors[3]
        else:
            factors = optimum(part, there, entries)
        if factors is None:
            raise _Coupled
        dims = part.net.dims
        return (
            factors[0].reshape(dims(pair.blocks + pair.rows + pair.bonds)),
            factors[1].reshape(dims(pair.blocks + pair.bonds + pair.columns)),
        )

    try:
        U, B = panels.over(cut, found, (pair.blocks + pair.rows + pair.bonds, pair.blocks + pair.bonds + pair.columns))
    except _Coupled:
        return None
    count, rank = net.size(pair.blocks), pair.rank
    method = "block sweeps of panels" if is_coupled else "SVDs of panels"
    factors = U.reshape(count, -1, rank), B.reshape(count, rank, -1)
    return _Factors(factors, method, not is_coupled, iterations, is_settled)


class _Coupled(Exception):
    """Blocks are coupled otherwise."""


def _within(net: Net, axes: str, metric: Any, slices: Slices) -> Any:
    """A metric of weights within slices; a full one, whose axes are not cut, as it is."""
    if metric is None or is_full(metric):
        return metric
    return metric.reshape(net.dims(axes))[tuple([slices.get(axis, slice(None)) for axis in axes])].reshape(-1)


def _whole(pair: Pair, goal: Goal) -> _Factors:
    """An orthonormal basis (rows, rank) of the leading left singular vectors of M, and its product with M."""
    net, rows, columns = pair.net, pair.rows, pair.columns
    panels, like = NetPanels(net, goal.source, net.into), goal.like
    sizes, whole = (net.size(rows), net.size(columns)), net.out + net.into

    def product(x: Any) -> Any:
        x = x.reshape(*net.dims(columns), -1)
        terms, result = [whole, columns + "ω"], rows + "ω"
        (found,) = panels.over(
            net.into, lambda at: (contract(terms, result, panels(at), sliced(x, columns, at)),), (result,)
        )
        return found.reshape(sizes[0], -1)

    def adjoint_product(y: Any) -> Any:
        y = backends.conj(y).reshape(*net.dims(rows), -1)
        terms, result = [whole, rows + "ω"], columns + "ω"
        (found,) = panels.over(
            net.into, lambda at: (contract(terms, result, panels(at), sliced(y, rows, at)),), (result,)
        )
        return backends.conj(found).reshape(sizes[1], -1)

    kept = min(pair.rank, *sizes)
    U, is_settled = krylov(lambda x: product(adjoint_product(x)), like, kept, sizes, kept + 8)
    B = backends.conj(adjoint_product(U).T)
    factors = padded(goal.space, U, pair.rank - kept, -1), padded(goal.space, B, pair.rank - kept, -2)
    return _Factors(factors, "block Krylov space", converged=is_settled)
