"""Permutations and pads: neighbours are one, and move past diagonals."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from linops import backends
from linops.operator import LinearOperator
from linops.operators.diagonal import Diagonal
from linops.operators.identity import Identity
from linops.operators.pad import Pad
from linops.operators.permute import Permute
from linops.rules.functions import meet, merge, reduce, swap

# ---------------------------------------------------------------- neighbours


@meet.dispatch
def _meet_permutes(a: Permute, b: Permute):
    if a.indices is None and b.indices is None:
        return _compose_axes(a, b)
    if a.indices is None or b.indices is None:
        return None  # a view and a gather: one gather would need new indices
    if backends.backend_of(a.indices) != backends.backend_of(b.indices):
        return None
    return _by_indices(backends.gather(b.indices, a.indices))


@merge.dispatch
def _merge_permutes(a: Permute, b: Permute):
    found = _both_indices(a, b)
    return None if found is None else _by_indices(backends.gather(found[1], found[0]))  # (A B x)[i] = x[b[a[i]]]


@meet.dispatch
def _meet_pads(a: Pad, b: Pad):
    narrow = a.columns < min(a.rows, b.columns)  # what lies between crops more than the ends do
    return None if narrow else _pad(a.rows, b.columns)


def _pad(rows: int, columns: int) -> LinearOperator:
    return Identity(rows) if rows == columns else Pad(rows, columns)


# ---------------------------------------------------------------- one operator


@reduce.dispatch
def _reduce_permute(a: Permute):
    return _by_indices(a.indices) if a.indices is not None else _simplest(a.dims, a.order)


@reduce.dispatch
def _reduce_pad(a: Pad):
    return _pad(a.rows, a.columns)


def kron_of_permutes(a: Identity | Permute, b: Identity | Permute) -> LinearOperator | None:
    """The Kronecker product of identities and permutations as one of them; None if their indices are of two backends.

    Args:
        a: The slower factor.
        b: The faster factor.

    Returns:
        The operator.
    """
    if isinstance(a, Identity) and isinstance(b, Identity):
        return Identity(a.size * b.size)
    if all(isinstance(one, Identity) or one.indices is None for one in (a, b)):
        (dims, order), (more, after) = (((one.size,), (0,)) if isinstance(one, Identity) else (one.dims, one.order) for one in (a, b))
        return _simplest((*dims, *more), (*order, *(axis + len(dims) for axis in after)))
    found = _both_indices(a, b)
    if found is None:
        return None
    slow, fast = found
    return _by_indices((slow[:, None] * fast.shape[0] + fast).reshape(a.shape[0] * b.shape[0]))


# ---------------------------------------------------------------- past diagonals


@swap.dispatch
def _swap_permute_diagonal(a: Permute, b: Diagonal):
    return Diagonal(a @ b.diagonal), a  # P D = (P D Pᵀ) P


@swap.dispatch
def _swap_diagonal_permute(a: Diagonal, b: Permute):
    return b, Diagonal(b.T @ a.diagonal)  # D P = P (Pᵀ D P)


# ---------------------------------------------------------------- arithmetic of permutations


def _both_indices(*permutes: Identity | Permute) -> list[Any] | None:
    """Their index arrays, at least one of which is there; None if they live on two backends."""
    like = next((one.indices for one in permutes if isinstance(one, Permute) and one.indices is not None), None)
    if like is None:
        return None
    found = []
    for one in permutes:
        if isinstance(one, Permute) and one.indices is not None:
            found.append(one.indices)
        else:
            indices = np.arange(one.shape[0])
            if isinstance(one, Permute):
                indices = indices.reshape(one.dims).transpose(one.order).ravel()
            found.append(backends.asarray(indices, str(backends.backend_of(like)), None, backends.device_of(like)))
    return found if len({backends.backend_of(indices) for indices in found}) == 1 else None


def _by_indices(indices: Any) -> LinearOperator:
    trivial = backends.backend_of(indices) == "numpy" and not backends.is_compiling() and bool((indices[:-1] < indices[1:]).all())
    return Identity(indices.shape[0]) if trivial else Permute._unchecked(indices=indices)


def _compose_axes(a: Permute, b: Permute) -> LinearOperator | None:
    """A B of two permutations of axes as one, on the coarsest common refinement of their axes; None if there is none."""
    middle = tuple([b.dims[axis] for axis in b.order])  # the axes that B writes; A reads a.dims
    if middle == a.dims:
        return _simplest(b.dims, [b.order[axis] for axis in a.order])
    refined = _refine(middle, a.dims)
    if refined is None:
        return None
    pieces, parts_of_middle, parts_of_a = refined
    parts_of_input = dict(zip(b.order, parts_of_middle))  # B's input axes, each split as the axis it becomes
    into = [part for axis in range(len(b.dims)) for part in parts_of_input[axis]]
    where = {part: place for place, part in enumerate(into)}
    return _simplest([pieces[part] for part in into], [where[part] for axis in a.order for part in parts_of_a[axis]])


def _refine(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[list[int], list[list[int]], list[list[int]]] | None:
    """Pieces whose runs make up the axes of both factorisations: (sizes, pieces of each axis of one, … of the other)."""
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


def _simplest(dims, order) -> LinearOperator:
    """The permutation with axes of size 1 dropped and axes that stay neighbours joined."""
    if 1 in dims:
        keep = [axis for axis, size in enumerate(dims) if size != 1]
        rank = {axis: place for place, axis in enumerate(keep)}
        dims, order = [dims[axis] for axis in keep], [rank[axis] for axis in order if axis in rank]
    sizes = list(dims)
    starts: list[int] = []  # the first axes of the runs, in their new order
    last = -2
    for axis in order:
        if axis == last + 1:
            sizes[starts[-1]] *= dims[axis]
        else:
            starts.append(axis)
        last = axis
    if len(starts) <= 1:
        return Identity(prod(dims))
    by_input = sorted(starts)
    place = {start: position for position, start in enumerate(by_input)}
    return Permute._unchecked(indices=None, dims=tuple([sizes[start] for start in by_input]), order=tuple([place[s] for s in starts]))
