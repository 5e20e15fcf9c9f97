"""Panels of an operator within slices of a net's axes, of columns or of rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from operator import add
from typing import Any

import numpy as np

from linops import backends
from linops.operator import LinearOperator, flat
from linops.projection import panels
from linops.projection.goal import Goal, adjoint, is_full
from linops.projection.nets import Net

#: where each axis is cut
Slices = Mapping[str, slice]


class NetPanels:
    """Panels of W over the axes of rows and columns of a net.

    Args:
        net: The net.
        source: W.
        side: The axes that are cut: those of columns, or of rows.
    """

    def __init__(self, net: Net, source: LinearOperator, side: str) -> None:
        self.net, self.source, self.side = net, source, side
        self.space: Any = backends.namespace(source.backend or "numpy")
        self.like: Any = source._like  # whose dtype is not looked at

    def __call__(self, slices: Slices) -> Any:
        """The panel within slices, an array over the axes of rows and then of columns."""
        net, (places, at) = self.net, self._places(slices)
        turned = self.side == net.out
        operator = self.source.T if turned else self.source
        panel = flat(operator @ self._unit(places))
        if turned:
            return backends.permute(panel, (1, 0)).reshape(*at, *net.dims(net.into))
        return panel.reshape(*net.dims(net.out), *at)

    def weighted(self, goal: Goal, slices: Slices) -> Any:
        """The same of columns of A W C."""
        net, (places, at) = self.net, self._places(slices)
        A, C = goal.output_metric, goal.second_moment
        if is_full(C):  # which is Hermitian
            panel = flat(self.source @ adjoint(backends.gather(C, backends.indices_beside(C, places))))
        else:
            panel = flat(self.source @ self._unit(places))
            if C is not None:
                panel = panel * backends.gather(C[:, None], backends.indices_beside(C, places)).reshape(-1)
        if A is not None:
            panel = A @ panel if is_full(A) else A[:, None] * panel
        return panel.reshape(*net.dims(net.out), *at)

    def _places(self, slices: Slices) -> tuple[np.ndarray, tuple[int, ...]]:
        """Which columns (or rows) there are within slices, and the shape of these."""
        net = self.net
        every = np.arange(net.size(self.side)).reshape(net.dims(self.side))
        at = every[tuple([slices.get(axis, slice(None)) for axis in self.side])]
        return at.ravel(), at.shape

    def _unit(self, places: np.ndarray) -> Any:
        chosen = np.zeros((self.net.size(self.side), places.size), bool)
        chosen[places, np.arange(places.size)] = True
        return backends.constant(self.like, chosen, self.source.dtype)

    def over(self, axes: str, function: Callable[[Slices], Sequence[Any]], results: Sequence[str]) -> list[Any]:
        """Results of panels, put together: side by side along an axis that they have, else their sum.

        Args:
            axes: The axes along which panels are cut: as many as it takes for small panels.
            function: Of the slices of a panel, the results.
            results: Their axes.
        """
        width = max(panels.PANEL // max(self.source.shape), 1)
        left, steps = self.net.size(self.side), []
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
            together = list(zip(*parts))
            return [
                self.space.concat(list(part), axis=one.index(axis)) if held else reduce(add, part)
                for part, one, held in zip(together, results, kept)
            ]

        return run(0, {})


def sliced(x: Any, axes: str, slices: Slices) -> Any:
    """An array over axes, of which the last ones may have no name, within slices."""
    return x[tuple([slices.get(axis, slice(None)) for axis in axes])]
