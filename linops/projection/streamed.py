"""Structures near to operators too large to be written out: from panels of columns, by products alone.

Two groups of leaves meet in blocks of given rank (`hierarchy.py`). Where axes of columns count blocks, as in block
tensor trains and Monarch matrices, a panel holds whole blocks, and one pass of n products gives the optimum of two
leaves. Otherwise, as for tensor trains and Kronecker products, there is one block M, W after the reordering of Van Loan
and Pitsianis, whose singular vectors are found in a block Krylov space: a product with M is a sum over panels of W, and
takes a pass. An entry of such a product depends on m2 n1 entries of W, and the columns of M are not those of W, so for
a W of which nothing is known no fewer than n products give it: what is saved is memory, of which the leaves and m
numbers for each column of a panel are taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from operator import add
from typing import Any

import numpy as np

from linops import backends
from linops.operator import flat
from linops.operators.dense import Dense
from linops.projection.balance import balanced
from linops.projection.contraction import contract
from linops.projection.effort import Found
from linops.projection.goal import Goal, adjoint
from linops.projection.hierarchy import Groups, groups_of, in_halves, joined
from linops.projection.krylov import krylov
from linops.projection.nets import Net
from linops.projection.truncation import padded, truncated

#: entries of a panel of columns: 32 MiB in float64
PANEL = 2**22
#: entries of W beyond which so many products are not taken unasked: 65,536 × 65,536
MOST = 2**32

#: where each axis is cut
Slices = Mapping[str, slice]


def streams(net: Net, goal: Goal) -> bool:
    """Whether a structure is found from panels: a contraction of two leaves or more, in Frobenius' norm.

    Args:
        net: The structure.
        goal: The goal.

    Returns:
        True or False.
    """
    m, n = goal.shape
    if isinstance(goal.source, Dense) or not goal.is_plain or m * n > MOST:
        return False
    if len(net.tensors) < 2 or not all(net.free) or not net.is_closed or set(net.out) & set(net.into):
        return False
    groups = groups_of(net, in_halves)
    has_all = all(axis in groups.blocks + groups.rows + groups.columns for axis in net.open)
    return has_all and (not groups.blocks or any(axis in net.into for axis in groups.blocks))


def streamed(net: Net, goal: Goal) -> Found:
    """A member near to an operator, which is never written out.

    Args:
        net: A structure that `streams`.
        goal: The goal.

    Returns:
        The member.
    """
    groups = groups_of(net, in_halves)
    panels = _Panels(net, goal)
    U, B = _blocks(groups, panels) if groups.blocks else _whole(groups, panels)
    tensors = joined(net, groups, U, B, in_halves)
    method, is_optimal = ("SVDs of panels", len(net.tensors) == 2) if groups.blocks else ("block Krylov space", False)
    member = net.operator(balanced(net, tensors))
    return Found(member, method, is_optimal=is_optimal, converged=panels.is_settled)


class _Panels:
    """Columns of W, some at a time."""

    def __init__(self, net: Net, goal: Goal) -> None:
        self.net, self.source, self.space = net, goal.source, goal.space
        self.like: Any = goal.source._like
        self.is_settled = True

    def __call__(self, slices: Slices) -> Any:
        """The columns within slices, over the axes of rows and columns."""
        net, n = self.net, self.source.shape[1]
        at = np.arange(n).reshape(net.dims(net.into))[tuple([slices.get(axis, slice(None)) for axis in net.into])]
        chosen = np.zeros((n, at.size), bool)
        chosen[at.ravel(), np.arange(at.size)] = True
        panel = flat(self.source @ backends.constant(self.like, chosen, self.source.dtype))
        return panel.reshape(*net.dims(net.out), *at.shape)

    def over(self, axes: str, function: Callable[[Slices], Sequence[Any]], results: Sequence[str]) -> list[Any]:
        """Results of panels, put together: side by side along an axis that they have, else their sum.

        Args:
            axes: The axes along which panels are cut, those of columns: as many as it takes for small panels.
            function: Of the slices of a panel, the results.
            results: Their axes.
        """
        width = max(PANEL // max(self.source.shape), 1)
        left, steps = self.net.size(self.net.into), []
        for axis in axes:
            if left <= width:
                break
            left //= self.net.sizes[axis]
            steps.append((axis, min(max(width // max(left, 1), 1), self.net.sizes[axis])))

        def run(place: int, slices: Slices) -> list[Any]:
            if place == len(steps):
                return list(function(slices))
            axis, step = steps[place]
            parts = (run(place + 1, {**slices, axis: slice(k, k + step)}) for k in range(0, self.net.sizes[axis], step))
            kept = [axis in one for one in results]
            if not any(kept):
                return reduce(lambda one, other: list(map(add, one, other)), parts)
            columns = list(zip(*parts))
            return [
                self.space.concat(list(column), axis=one.index(axis)) if held else reduce(add, column)
                for column, one, held in zip(columns, results, kept)
            ]

        return run(0, {})


def _blocks(groups: Groups, panels: _Panels) -> tuple[Any, Any]:
    """The truncated SVDs of all blocks, from panels that hold whole ones."""
    net, (blocks, rows, columns, bonds) = panels.net, groups[2:]
    rank, results = net.size(bonds), (blocks + rows + bonds, blocks + bonds + columns)

    def found(slices: Slices) -> tuple[Any, Any]:
        M = contract([net.out + net.into], blocks + rows + columns, panels(slices))
        sizes = tuple(M.shape[: len(blocks)])
        U, B, _ = truncated(M.reshape(-1, net.size(rows), net.size(columns)), rank)
        dims = net.dims(rows), net.dims(bonds), net.dims(columns)
        return U.reshape(sizes + dims[0] + dims[1]), B.reshape(sizes + dims[1] + dims[2])

    U, B = panels.over("".join([axis for axis in net.into if axis in blocks]), found, results)
    count = net.size(blocks)
    return U.reshape(count, -1, rank), B.reshape(count, rank, -1)


def _whole(groups: Groups, panels: _Panels) -> tuple[Any, Any]:
    """A basis (rows, rank) of the leading left singular vectors of M, and its product with M."""
    net, (_, rows, columns, bonds) = panels.net, groups[2:]
    sizes, whole = (net.size(rows), net.size(columns)), net.out + net.into

    def sliced(x: Any, axes: str, slices: Slices) -> Any:
        return x[tuple([slices.get(axis, slice(None)) for axis in axes])]

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

    rank, kept = net.size(bonds), min(net.size(bonds), *sizes)
    U, panels.is_settled = krylov(product, adjoint_product, panels.like, kept, sizes, kept + 8)
    B = adjoint(adjoint_product(U))
    return padded(panels.space, U, rank - kept, -1), padded(panels.space, B, rank - kept, -2)
