"""Nets by singular value decompositions: two groups of leaves at a time, then each group in turn.

With leaves in two groups, axes of both that are open count blocks, other axes of both are bonds, and the rest are rows
of one group and columns of the other. So each block is a matrix whose rank is the size of the bonds, and its best
approximation is a truncated SVD. Of two leaves this is the optimum: low rank, a Kronecker product (Van Loan and
Pitsianis, 1993), sums of them as one einsum, tensor trains, block tensor trains and Monarch matrices of two cores (Dao
et al., 2022). Of more it is the TT-SVD (Oseledets, 2011; within √(k − 1) of the optimum for a tensor train) and the
hierarchical factorisation of butterflies (Zheng, Riccietti and Gribonval, 2023).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from linops import backends
from linops.projection.contraction import contract
from linops.projection.environments import Part
from linops.projection.nets import Net
from linops.projection.truncation import truncated

#: how many of some leaves, in the order in which they act, are the first group
Cut = Callable[[int], int]


class Groups(NamedTuple):
    """Leaves in two groups, and the axes of a tensor between them.

    Attributes:
        first: The leaves that act first, with their places.
        second: The others.
        blocks: Axes of blocks.
        rows: Of their rows, which are the second's.
        columns: Of their columns, which are the first's.
        bonds: Axes that both share, whose size is the rank.
    """

    first: Sequence[tuple[int, str]]
    second: Sequence[tuple[int, str]]
    blocks: str
    rows: str
    columns: str
    bonds: str


def in_halves(count: int) -> int:
    """As many leaves in the first group as in the second."""
    return count // 2


def factorized(net: Net, entries: Any, cut: Cut) -> list[Any]:
    """The tensors of a net that come near to entries over its open axes.

    Args:
        net: The net, closed, all of whose leaves are free.
        entries: An array over its open axes.
        cut: Where groups of leaves are cut.

    Returns:
        The tensors.
    """
    found: dict[int, Any] = {}
    _split(net, Part(net.open, entries), _acting(net), cut, found)
    return [found[k] for k in range(len(net.tensors))]


def unavoidable(net: Net, entries: Any, cut: Cut) -> Any:
    """A squared error that no member of a structure goes below: that of a net cut into two.

    Args:
        net: The net, closed, all of whose leaves are free.
        entries: An array over its open axes.
        cut: Where its leaves are cut.

    Returns:
        The squared error.
    """
    if len(net.tensors) == 1:
        return 0.0
    space: Any = backends.namespace(backends.backend_of(entries))
    T = _supported(net, Part(net.open, entries), _acting(net))
    groups = _grouped(T.axes, _acting(net), cut)
    M = _matrices(net, groups, T)
    U, B, _ = truncated(M, net.size(groups.bonds))
    return space.sum(space.abs(M - U @ B) ** 2)


def groups_of(net: Net, cut: Cut) -> Groups:
    """The leaves of a net in two groups, between which are all entries of a matrix.

    Args:
        net: The net, closed, all of whose leaves are free.
        cut: Where its leaves are cut.

    Returns:
        The groups.
    """
    return _grouped(net.open, _acting(net), cut)


def joined(net: Net, groups: Groups, U: Any, B: Any, cut: Cut) -> list[Any]:
    """The tensors of a net whose two groups come near to factors.

    Args:
        net: The net.
        groups: The groups.
        U: That of the second, (blocks, rows, rank).
        B: That of the first, (blocks, rank, columns).
        cut: Where groups of leaves are cut.

    Returns:
        The tensors.
    """
    space: Any = backends.namespace(backends.backend_of(B))
    found: dict[int, Any] = {}
    _share(net, groups, U, B, space.sum(space.abs(B) ** 2, axis=-1), cut, found)
    return [found[k] for k in range(len(net.tensors))]


def _acting(net: Net) -> list[tuple[int, str]]:
    return [(k, net.tensors[k]) for k in net.acting]


def _supported(net: Net, T: Part, leaves: Sequence[tuple[int, str]]) -> Part:
    """A tensor over axes of leaves: the mean of entries that should be equal."""
    mine = "".join([axes for _, axes in leaves])
    kept = "".join([axis for axis in T.axes if axis in mine])
    if kept == T.axes:
        return T
    space: Any = backends.namespace(backends.backend_of(T.array))
    gone = tuple([place for place, axis in enumerate(T.axes) if axis not in mine])
    return Part(kept, space.mean(T.array, axis=gone))


def _grouped(open_axes: str, leaves: Sequence[tuple[int, str]], cut: Cut) -> Groups:
    """Two groups of leaves, and which axes of a tensor are whose."""
    count = cut(len(leaves))
    groups = leaves[:count], leaves[count:]
    first, second = ("".join(dict.fromkeys("".join([axes for _, axes in group]))) for group in groups)
    both = [axis for axis in first if axis in second]
    blocks = "".join([axis for axis in both if axis in open_axes])
    bonds = "".join([axis for axis in both if axis not in open_axes])
    rows = "".join([axis for axis in open_axes if axis in second and axis not in first])  # of what acts last
    columns = "".join([axis for axis in open_axes if axis in first and axis not in second])
    return Groups(*groups, blocks, rows, columns, bonds)


def _matrices(net: Net, groups: Groups, T: Part) -> Any:
    """A tensor as blocks (blocks, rows, columns); as one matrix where there are no axes of blocks."""
    blocks, rows, columns = groups.blocks, groups.rows, groups.columns
    shape = net.size(blocks), net.size(rows), net.size(columns)
    return contract([T.axes], blocks + rows + columns, T.array).reshape(shape if blocks else shape[1:])


def _split(net: Net, T: Part, leaves: Sequence[tuple[int, str]], cut: Cut, found: dict[int, Any]) -> None:
    """Write tensors for some leaves, whose product comes near to T, into what is found."""
    T = _supported(net, T, leaves)
    if len(leaves) == 1:
        ((k, axes),) = leaves
        found[k] = contract([T.axes], axes, T.array)
        return
    groups = _grouped(T.axes, leaves, cut)
    U, B, squares = truncated(_matrices(net, groups, T), net.size(groups.bonds))
    _share(net, groups, U, B, squares, cut, found)


def _share(net: Net, groups: Groups, U: Any, B: Any, squares: Any, cut: Cut, found: dict[int, Any]) -> None:
    """Write tensors of both groups, whose product comes near to U B, into what is found."""
    space: Any = backends.namespace(backends.backend_of(U))
    first, second, blocks, rows, columns, bonds = groups
    if len(second) > 1:  # the norms go where there is more to approximate
        size = space.sqrt(squares if len(first) == 1 else space.sqrt(squares))
        U, B = U * size[..., None, :], B / space.where(size == 0, space.ones_like(size), size)[..., :, None]
    left = Part(blocks + rows + bonds, U.reshape(net.dims(blocks + rows + bonds)))
    right = Part(blocks + bonds + columns, B.reshape(net.dims(blocks + bonds + columns)))
    _split(net, right, first, cut, found)
    _split(net, left, second, cut, found)
