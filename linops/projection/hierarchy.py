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
from linops.projection.nets import Net
from linops.projection.truncation import truncated

#: how many of some leaves, in the order in which they act, are the first group
Cut = Callable[[int], int]


class Tensor(NamedTuple):
    """An array over named axes."""

    axes: str
    array: Any


def factorized(net: Net, entries: Any, cut: Cut) -> tuple[list[Any], Any]:
    """The tensors of a net that come near to entries over its open axes.

    Args:
        net: The net, closed, all of whose leaves are free.
        entries: An array over its open axes.
        cut: Where groups of leaves are cut.

    Returns:
        The tensors, and the squared error of the first cut: no member of the structure has less.
    """
    found: dict[int, Any] = {}
    lost: list[Any] = []
    _split(net, Tensor(net.open, entries), [(k, net.tensors[k]) for k in net.acting], cut, found, lost)
    return [found[k] for k in range(len(net.tensors))], lost[0] if lost else 0.0


def _split(
    net: Net, T: Tensor, leaves: Sequence[tuple[int, str]], cut: Cut, found: dict[int, Any], lost: list[Any]
) -> None:
    """Write tensors for some leaves, whose product comes near to T, into what is found."""
    space: Any = backends.namespace(backends.backend_of(T.array))
    mine = "".join([axes for _, axes in leaves])
    kept = "".join([axis for axis in T.axes if axis in mine])
    if kept != T.axes:  # entries that should be equal: their mean
        gone = tuple([place for place, axis in enumerate(T.axes) if axis not in mine])
        T = Tensor(kept, space.mean(T.array, axis=gone))
    if len(leaves) == 1:
        ((k, axes),) = leaves
        found[k] = contract([T.axes], axes, T.array)
        return
    count = cut(len(leaves))
    groups = leaves[:count], leaves[count:]
    first, second = ("".join(dict.fromkeys("".join([axes for _, axes in group]))) for group in groups)
    both = [axis for axis in first if axis in second]
    blocks = "".join([axis for axis in both if axis in T.axes])
    bonds = "".join([axis for axis in both if axis not in T.axes])
    rows = "".join([axis for axis in T.axes if axis in second and axis not in first])  # of what acts last
    columns = "".join([axis for axis in T.axes if axis in first and axis not in second])
    shape = net.size(blocks), net.size(rows), net.size(columns)
    M = contract([T.axes], blocks + rows + columns, T.array).reshape(shape if blocks else shape[1:])
    U, B, squares = truncated(M, net.size(bonds))
    lost.append(space.sum(space.abs(M - U @ B) ** 2))
    if len(groups[0]) == 1 and len(groups[1]) > 1:  # the norms go where there is more to approximate
        size = space.sqrt(squares)
        U, B = U * size[..., None, :], B / space.where(size == 0, space.ones_like(size), size)[..., :, None]
    elif len(groups[0]) > 1 and len(groups[1]) > 1:
        size = space.sqrt(space.sqrt(squares))
        U, B = U * size[..., None, :], B / space.where(size == 0, space.ones_like(size), size)[..., :, None]
    left = Tensor(blocks + rows + bonds, U.reshape(net.dims(blocks + rows + bonds)))
    right = Tensor(blocks + bonds + columns, B.reshape(net.dims(blocks + bonds + columns)))
    _split(net, right, groups[0], cut, found, lost)
    _split(net, left, groups[1], cut, found, lost)
