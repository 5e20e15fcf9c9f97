"""Permutations and pads that are neighbours are one; and the arithmetic of permutations.

Of two permutations of axes the product is one on the coarsest common refinement of their axes, if there is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from linops import backends
from linops.algebra.meet import meet
from linops.dispatch import generic
from linops.operator import LinearOperator
from linops.operators.identity import Identity
from linops.operators.pad import Pad
from linops.operators.permutation import Permutation
from linops.operators.permute import Permute
from linops.operators.permute_axes import PermuteAxes, coarsest


@meet.dispatch
def _meet_permutes(a: Permute, b: Permute):  # a view and a gather stay two: one gather would need new indices
    found = both_indices(a, b)
    return None if found is None else by_indices(backends.gather(found[1], found[0]))


@meet.dispatch
def _meet_axes(a: PermuteAxes, b: PermuteAxes):
    return _compose_axes(a, b)


@meet.dispatch
def _meet_pads(a: Pad, b: Pad):
    narrow = a.columns < min(a.rows, b.columns)  # what lies between crops more than the ends do
    return None if narrow else pad(a.rows, b.columns)


def pad(rows: int, columns: int) -> LinearOperator:
    """A pad, or the identity.

    Args:
        rows: m.
        columns: n.

    Returns:
        The operator.
    """
    return Identity(rows) if rows == columns else Pad(rows, columns)


@generic
def axes_of(a):
    """(dims, order) of a permutation of axes, or None."""


@axes_of.dispatch
def _axes_of_any(a: LinearOperator):
    return None


@axes_of.dispatch
def _axes_of_identity(a: Identity):
    return (a.size,), (0,)


@axes_of.dispatch
def _axes_of_axes(a: PermuteAxes):
    return a.dims, a.order


def both_indices(*permutations: Identity | Permutation) -> list[Any] | None:
    """Their index arrays, at least one of which is there.

    Args:
        *permutations: Permutations.

    Returns:
        An array for each; None if they live on two backends, or none has one.
    """
    held = [one.indices for one in permutations if isinstance(one, Permute)]
    if len({backends.backend_of(indices) for indices in held}) != 1:
        return None
    return [backends.indices_beside(held[0], _indices(one)) for one in permutations]


def _indices(a: Identity | Permutation) -> Any:
    """The index array of a permutation, of one of axes as NumPy's."""
    if isinstance(a, Permute):
        return a.indices
    dims, order = axes_of(a)
    return np.arange(a.shape[0]).reshape(dims).transpose(order).ravel()


def by_indices(indices: Any) -> LinearOperator:
    """The permutation of an index array, or the identity.

    Args:
        indices: (n,) integers.

    Returns:
        The operator.
    """
    trivial = backends.never_exceeds(indices[:-1], indices[1:])
    return Identity(indices.shape[0]) if trivial else Permute._unchecked(indices=indices)


def _compose_axes(a: PermuteAxes, b: PermuteAxes) -> LinearOperator | None:
    """A B of two permutations of axes as one, on the coarsest common refinement of their axes; None without one."""
    middle = tuple([b.dims[axis] for axis in b.order])  # the axes that B writes; A reads a.dims
    if middle == a.dims:
        return simplest(b.dims, [b.order[axis] for axis in a.order])
    refined = _refine(middle, a.dims)
    if refined is None:
        return None
    pieces, parts_of_middle, parts_of_a = refined
    parts_of_input = dict(zip(b.order, parts_of_middle))  # B's input axes, each split as the axis it becomes
    into = [part for axis in range(len(b.dims)) for part in parts_of_input[axis]]
    where = {part: place for place, part in enumerate(into)}
    return simplest([pieces[part] for part in into], [where[part] for axis in a.order for part in parts_of_a[axis]])


def _refine(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[list[int], list[list[int]], list[list[int]]] | None:
    """Pieces whose runs are the axes of both factorisations: (sizes, pieces of each axis of one, … of the other)."""
    if 0 in one or 0 in other:
        return None
    pieces: list[int] = []
    parts: tuple[list[list[int]], list[list[int]]] = ([[] for _ in one], [[] for _ in other])
    i = j = 0
    left, right = (one[0] if one else 1), (other[0] if other else 1)
    while i < len(one) and j < len(other):
        small = min(left, right)
        if left % small or right % small:
            return None
        parts[0][i].append(len(pieces))
        parts[1][j].append(len(pieces))
        pieces.append(small)
        left, right = left // small, right // small
        if left == 1:
            i += 1
            left = one[i] if i < len(one) else 1
        if right == 1:
            j += 1
            right = other[j] if j < len(other) else 1
    return pieces, parts[0], parts[1]  # what is left over are axes of size 1


def simplest(dims: Sequence[int], order: Sequence[int]) -> LinearOperator:
    """The permutation of axes with those of size 1 dropped and those that stay neighbours joined.

    Args:
        dims: The sizes of its axes.
        order: Their new order.

    Returns:
        The operator.
    """
    coarse, places = coarsest(tuple(dims), tuple(order))
    return PermuteAxes._unchecked(dims=coarse, order=places) if len(places) > 1 else Identity(prod(dims))
