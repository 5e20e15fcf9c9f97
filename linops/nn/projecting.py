"""A model's layers projected one after the other, by what each is given. Needs no framework."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from time import perf_counter
from typing import Any

from linops.nn.calibration import Watch, moments, order
from linops.nn.progress import printer
from linops.nn.projected import Fit, fit, groups, lines
from linops.nn.spreads import spread_of
from linops.nn.swap import Found, Swap
from linops.projection import Moments


class Projection:
    """The layers of a model that are projected, in groups that share a weight; those that start at zero are none.

    Attributes:
        groups: The groups.
        fits: What was found, by the name of the first layer of a group.

    Args:
        swaps: The layers.
        matrix: The weight (m, n) of a layer.
        corrects: Whether a layer has a bias that takes the mean of what is lost.
        put: Puts a group's new layers into the model, by what was found.
        progress: Whether to print a line for each layer that is done.
    """

    def __init__(
        self,
        swaps: Iterable[Swap],
        matrix: Callable[[Any], Any],
        corrects: Callable[[Found], bool],
        put: Callable[[Sequence[Swap], Mapping[str, Fit]], object],
        progress: bool = False,
    ) -> None:
        self.groups = [group for group in groups(swaps) if not group[0].zero_init]
        self.fits: dict[str, Fit] = {}
        self._matrix, self._corrects, self._put = matrix, corrects, put
        self._say = printer(len(self.groups), progress)
        self._seen: set[str] = set()

    @property
    def found(self) -> dict[str, Found]:
        """The layers by name."""
        return {swap.found.name: swap.found for group in self.groups for swap in group}

    @property
    def unseen(self) -> list[str]:
        """The layers that were projected by their weight alone."""
        return [name for name in self.found if name not in self._seen]

    def by(self, known: Mapping[str, Any]) -> None:
        """Project all groups.

        Args:
            known: Moments by the names of layers.
        """
        for group in self.groups:
            self._project(group, known)

    def along(self, watch: Watch, sequential: bool, anchor: bool) -> None:
        """Project all groups by what a run of the model gives them.

        Args:
            watch: Runs the model as it is then.
            sequential: Whether in the order of the forward pass, each by the inputs that it then has.
            anchor: Whether outputs are to be near to those in the model as it was.
        """

        def known(names: Iterable[str]) -> dict[str, Moments]:
            every = self.found
            found = moments(watch, {name: every[name].shape[1] for name in names}, anchor)
            return {name: one for name, one in found.items() if one.count}

        if not sequential:
            self.by(known(self.found))
            return
        place = {name: number for number, name in enumerate(order(watch, self.found))}

        def first(group: Sequence[Swap]) -> int:
            return min([place.get(swap.found.name, len(place)) for swap in group])

        for group in sorted(self.groups, key=first):
            names = [swap.found.name for swap in group if swap.found.name in place]
            self._project(group, known(names) if names else {})

    def _project(self, group: Sequence[Swap], known: Mapping[str, Any]) -> None:
        """Project a group by what is known of its inputs, and put it into the model."""
        start = perf_counter()
        name, seen = group[0].found.name, [swap.found for swap in group if swap.found.name in known]
        spreads = {one.name: spread_of(one, known[one.name], self._corrects(one)) for one in seen}
        self._seen |= spreads.keys()
        self.fits[name] = fit(group, self._matrix(group[0].found.layer), spreads)
        self._put(group, self.fits)
        self._say(lines(name, self.fits[name], group[0].found.shape, perf_counter() - start))
