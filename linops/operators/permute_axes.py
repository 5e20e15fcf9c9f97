"""PermuteAxes: a permutation of axes."""

from __future__ import annotations

import operator
from math import prod
from typing import Any

from linops import backends
from linops.declaration import declare
from linops.operators.permutation import Permutation
from linops.plan.network import Axes, Graph
from linops.plan.step import Step


@declare
class PermuteAxes(Permutation):
    """The permutation y = x.reshape(dims).transpose(order).ravel(), as `Permute.axes` makes it: no index array.

    Cost: none; a strided view, which the next operator reads.

    Attributes:
        dims: The axes of x, row-major.
        order: The new order of the axes.

    Raises:
        ValueError: If the order is none of the axes.
        TypeError: If dims or order are no integers.

    Example:
        >>> import linops as lo, numpy as np
        >>> lo.PermuteAxes((2, 3), (1, 0)) @ np.arange(6.)
        array([0., 3., 1., 4., 2., 5.])
    """

    dims: tuple[int, ...]
    order: tuple[int, ...]

    def __post_init__(self) -> None:
        dims, order = (tuple([operator.index(item) for item in value]) for value in (self.dims, self.order))
        if sorted(order) != list(range(len(dims))) or any(size < 0 for size in dims):
            raise ValueError(f"Permute.axes({dims}, {order}): order must be a permutation of the {len(dims)} axes")
        object.__setattr__(self, "dims", dims)
        object.__setattr__(self, "order", order)

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        n = prod(self.dims)
        return n, n

    _aliases = True  # type: ignore[assignment]

    def _columns(self, x: Any) -> Any:
        dims, shape = self.dims, x.shape
        if shape != (*dims, shape[-1]):
            x = x.reshape(*dims, shape[-1])
        return x.swapaxes(0, 1) if self.order == (1, 0) else backends.permute(x, (*self.order, len(dims)))

    def _transpose(self) -> PermuteAxes:
        inverse = [0] * len(self.order)
        for place, axis in enumerate(self.order):
            inverse[axis] = place
        return PermuteAxes._unchecked(dims=tuple([self.dims[axis] for axis in self.order]), order=tuple(inverse))

    def _trace(self, graph: Graph, axes: Axes, leaf: int) -> Axes | None:
        groups = graph.split(axes, self.dims)
        return None if groups is None else sum([groups[axis] for axis in self.order], ())

    def _lower(self, batch: int) -> tuple[Step, ...]:
        return (Step("view", f"axes {self.dims} in order {self.order}", viewed=prod(self.dims) * batch),)

    def _detail(self) -> str:
        return f"{self.dims}, {self.order}"


def coarsest(dims: tuple[int, ...], order: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A permutation of the fewest axes: those of size 1 are dropped, those that stay neighbours joined.

    Args:
        dims: The sizes of the axes.
        order: Their new order.

    Returns:
        Sizes and order of the same permutation; of at most one axis where it is the identity.

    Example:
        >>> coarsest((8, 1, 8), (2, 1, 0)), coarsest((2, 3, 5), (2, 0, 1))
        (((8, 8), (1, 0)), ((6, 5), (1, 0)))
    """
    if 1 in dims:
        keep = [axis for axis, size in enumerate(dims) if size != 1]
        rank = {axis: place for place, axis in enumerate(keep)}
        dims, order = tuple([dims[axis] for axis in keep]), tuple([rank[axis] for axis in order if axis in rank])
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
        return tuple([sizes[start] for start in starts]), tuple(range(len(starts)))
    by_input = sorted(starts)
    place = {start: position for position, start in enumerate(by_input)}
    return tuple([sizes[start] for start in by_input]), tuple([place[start] for start in starts])
