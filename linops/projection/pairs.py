"""Nets of two leaves: the optimum is a truncated SVD of each block, in every norm that the blocks keep apart.

Diagonal metrics are weights of rows and columns of the blocks, as long as those of W's rows are rows of blocks, or
columns, but not both. Of one block, which is of low rank, any metrics have a closed form (Ŵ = A^-½ Q Qᴴ A^½ W, Q the
leading eigenvectors of A^½ W C Wᴴ A^½: nothing singular is inverted). Blocks that a second moment couples are found by
sweeps (`sweeps.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from linops import backends
from linops.operator import LinearOperator
from linops.projection.balance import balanced
from linops.projection.contraction import contract
from linops.projection.effort import Effort
from linops.projection.goal import Goal, adjoint, is_full, root
from linops.projection.nets import Net
from linops.projection.sweeps import Blocks, swept
from linops.projection.truncation import truncated, truncated_in


@dataclass(frozen=True)
class Pair:
    """How two leaves meet.

    Attributes:
        net: The net.
        last: The leaf that acts last; its axes that the other lacks are the blocks' rows.
        first: The one that acts first.
        blocks: Open axes of both.
        bonds: Other axes of both.
        rows: Axes of the last alone.
        columns: Axes of the first alone.
    """

    net: Net
    last: int
    first: int
    blocks: str
    bonds: str
    rows: str
    columns: str

    @property
    def rank(self) -> int:
        """Of a block."""
        return self.net.size(self.bonds)

    def blockwise(self, entries: Any) -> Any:
        """Entries over the open axes as blocks (blocks, rows, columns)."""
        net = self.net
        shape = net.size(self.blocks), net.size(self.rows), net.size(self.columns)
        return contract([net.open], self.blocks + self.rows + self.columns, entries).reshape(shape)

    def operator(self, U: Any, B: Any) -> LinearOperator:
        """The operator of factors, in balance."""
        return self.net.operator(balanced(self.net, self.tensors(U, B)))

    def tensors(self, U: Any, B: Any) -> list[Any]:
        """The leaves of factors (blocks, rows, rank) and (blocks, rank, columns)."""
        net, found = self.net, {}
        for k, axes, factor in (
            (self.last, self.blocks + self.rows + self.bonds, U),
            (self.first, self.blocks + self.bonds + self.columns, B),
        ):
            found[k] = contract([axes], net.tensors[k], factor.reshape(net.dims(axes)))
        return [found[0], found[1]]


def pair_of(net: Net) -> Pair | None:
    """How the leaves of a net meet, if there are two, both free, and every axis is open or shared.

    Args:
        net: The net.

    Returns:
        The pair, or None.
    """
    if len(net.tensors) != 2 or not all(net.free) or not net.is_closed:
        return None
    first, last = net.acting
    one, other = net.tensors[last], net.tensors[first]
    if any(axis not in one + other for axis in net.open):  # rows that are equal: a mean is taken of the whole
        return None
    both = [axis for axis in one if axis in other]
    return Pair(
        net,
        last,
        first,
        "".join([axis for axis in both if axis in net.open]),
        "".join([axis for axis in both if axis not in net.open]),
        "".join([axis for axis in one if axis not in other]),
        "".join([axis for axis in other if axis not in one]),
    )


def optimum(pair: Pair, goal: Goal, entries: Any) -> tuple[Any, Any] | None:
    """The factors of the nearest member, where there is a closed form.

    Args:
        pair: The two leaves.
        goal: The goal.
        entries: W over the net's open axes.

    Returns:
        U (blocks, rows, rank) and B (blocks, rank, columns); None where blocks are coupled.
    """
    found = _weighed(pair, goal, entries)
    if found is None:
        return None
    M, rows, columns = found
    factors = None
    if len(columns) == 1 and is_full(columns[0]) and M.shape[0] == 1:
        factors = truncated_in(M[0], columns[0], pair.rank)
    if factors is not None:
        U, B = factors[0][None], factors[1][None]
    else:
        weighted = _rooted(M, columns)
        U, B, _ = truncated(weighted, pair.rank)
        if weighted is not M:
            B = adjoint(U) @ M  # the columns' metric is not inverted
    for _, back in rows:
        U = back * U if back.shape[-1] == 1 else adjoint(back) @ U
    return U, B


def whitened(pair: Pair, goal: Goal, entries: Any) -> tuple[Any, Any, list[Any]] | None:
    """The blocks whose truncated SVDs are the optimum.

    Args:
        pair: The two leaves.
        goal: The goal.
        entries: W over the net's open axes.

    Returns:
        The blocks, those before columns were multiplied by the root of their metric, and the roots, with their
        inverses, that rows were multiplied by; None where blocks are coupled.
    """
    found = _weighed(pair, goal, entries)
    if found is None:
        return None
    M, rows, columns = found
    return _rooted(M, columns), M, rows


def _weighed(pair: Pair, goal: Goal, entries: Any) -> tuple[Any, list[tuple[Any, Any]], list[Any]] | None:
    """The blocks times roots of their rows' metrics, those with their inverses, and the columns' metrics."""
    M = pair.blockwise(entries)
    sides = [_side(pair, goal, M, axes, metric) for axes, metric in _metrics(pair.net, goal)]
    if None in sides:
        return None
    rows = [_roots(metric) for side, metric in filter(None, sides) if side == "rows"]
    for S, _ in rows:
        M = S * M if S.shape[-1] == 1 else adjoint(S) @ M
    return M, rows, [metric for side, metric in filter(None, sides) if side == "columns"]


def _rooted(M: Any, columns: list[Any]) -> Any:
    """Blocks times the roots of their columns' metrics."""
    for metric in columns:
        S, _ = _roots(metric)
        M = M * backends.permute(S, (0, 2, 1)) if S.shape[-1] == 1 else M @ S
    return M


def _roots(metric: Any) -> tuple[Any, Any]:
    """The root (blocks, k, 1 or k) of what `_side` gives, and its inverse."""
    if is_full(metric):
        S, back = root(metric)
        return S[None], back[None]
    space: Any = backends.namespace(backends.backend_of(metric))
    S = space.sqrt(metric)
    return S, space.where(S == 0, S, 1 / space.where(S == 0, space.ones_like(S), S))


def _metrics(net: Net, goal: Goal) -> list[tuple[str, Any]]:
    return [(axes, M) for axes, M in ((net.out, goal.output_metric), (net.into, goal.second_moment)) if M is not None]


def _side(pair: Pair, goal: Goal, M: Any, axes: str, metric: Any) -> tuple[str, Any] | None:
    """Which side of the blocks a metric weighs, and it as (k, k), or weights (blocks, k, 1); None for both."""
    net, space = pair.net, goal.space
    side = next((side for side in ("rows", "columns") if set(axes) <= set(pair.blocks + getattr(pair, side))), None)
    if side is None:
        return None
    if len(metric.shape) == 2:
        if pair.blocks or len(axes) != len(getattr(pair, side)):
            return None
        order = getattr(pair, side)
        there = {axis: chr(ord("α") + place) for place, axis in enumerate(axes)}
        twice = axes + "".join([there[axis] for axis in axes])
        wanted = order + "".join([there[axis] for axis in order])
        metric = contract([twice], wanted, metric.reshape(net.dims(axes + axes)))
        return side, metric.reshape(net.size(order), net.size(order))
    shape = net.size(pair.blocks), net.size(getattr(pair, side)), 1
    ones = space.ones_like(M[:1, :1, :1])
    every = pair.blocks + getattr(pair, side)
    weights = contract([axes], "".join([axis for axis in every if axis in axes]), metric.reshape(net.dims(axes)))
    weights = weights.reshape(tuple([net.sizes[axis] if axis in axes else 1 for axis in every]))
    return side, space.broadcast_to(weights, net.dims(every)).reshape(shape) * ones


def coupled(pair: Pair, goal: Goal, entries: Any, effort: Effort) -> tuple[Any, Any, int, bool] | None:
    """Blocks of given rank that one full metric couples, by sweeps.

    Args:
        pair: The two leaves.
        goal: The goal.
        entries: W over the net's open axes.
        effort: When to stop.

    Returns:
        U, B, sweeps, and whether they converged; None where the structure is another.
    """
    net, space = pair.net, goal.space
    if goal.has_two_full or not goal.has_full or set(net.out) & set(net.into):
        return None
    outs, ins = ("".join([axis for axis in pair.blocks if axis in side]) for side in (net.out, net.into))
    if set(net.out) == set(outs + pair.rows) and set(net.into) == set(ins + pair.columns):
        rows, columns = (net.out, outs, pair.rows), (net.into, ins, pair.columns)
        a, C = goal.output_metric, goal.second_moment
    elif set(net.out) == set(outs + pair.columns) and set(net.into) == set(ins + pair.rows):
        rows, columns = (net.into, ins, pair.rows), (net.out, outs, pair.columns)
        C, a = goal.output_metric, goal.second_moment
        C = C.T if is_full(C) else C
    else:
        return None
    if is_full(a):  # of the blocks' rows: the transposed problem
        rows, columns, a, C, turned = columns, rows, C, a.T, True
    else:
        turned = False
    (side, i, p), (across, j, q) = rows, columns
    sizes = tuple(map(net.size, (i, p, j, q)))
    W = contract([net.open], i + p + j + q, entries).reshape(sizes)
    there = dict(zip(across, map(chr, range(ord("α"), ord("ω")))))
    order = j + q
    named = "".join([there[axis] for axis in across]), "".join([there[axis] for axis in order])
    C = contract([across + named[0]], order + named[1], C.reshape(net.dims(across * 2)))
    weights = None if a is None else space.sqrt(contract([side], i + p, a.reshape(net.dims(side)))).reshape(sizes[:2])
    left, right, sweeps, converged = swept(Blocks(W, C.reshape(sizes[2:] * 2), weights), pair.rank, effort)
    if turned:
        left, right = (backends.permute(x, (1, 0, 3, 2)) for x in (right, left))
        i, p, j, q = j, q, i, p
    one, other = net.dims(i + j + p), net.dims(i + j)
    U = contract([i + j + p + "ω"], pair.blocks + p + "ω", left.reshape((*one, pair.rank)))
    B = contract([i + j + "ω" + q], pair.blocks + "ω" + q, right.reshape((*other, pair.rank, *net.dims(q))))
    count = net.size(pair.blocks)
    return U.reshape(count, -1, pair.rank), B.reshape(count, pair.rank, -1), sweeps, converged
