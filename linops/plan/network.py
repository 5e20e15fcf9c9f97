"""A product as a network: tensors over named axes, one of them the operand.

Operators add themselves to a `Graph` while it is built. They split the axes that reach them into those that they know,
so that the axes of neighbours become the same axes, or parts of one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import NamedTuple

Axes = tuple[int, ...]


def alphabet() -> Iterator[str]:
    """Letters without end, those of ASCII first.

    Returns:
        An iterator of characters.

    Example:
        >>> "".join(letter for letter, _ in zip(alphabet(), range(28)))
        'abcdefghijklmnopqrstuvwxyzªµ'
    """
    return filter(str.isalpha, map(chr, count(ord("a"))))


class Network(NamedTuple):
    """Tensors over named axes, in the order in which they act on the operand if they do so one by one.

    Attributes:
        tensors: The axes of each tensor, one letter each, as it lies in memory.
        leaves: Which leaf of the expression each tensor is, reshaped.
        into: The axes of the operand, without vectors.
        out: The axes of the result.
        sizes: The size of each axis.
    """

    tensors: tuple[str, ...]
    leaves: tuple[int, ...]
    into: str
    out: str
    sizes: dict[str, int]


class Graph:
    """A network that is being built. Axes are numbers, and those of size one are left out."""

    def __init__(self) -> None:
        self._sizes: list[int] = []
        self._halves: dict[int, Axes] = {}
        self._tensors: list[tuple[int, Axes]] = []

    def axes(self, *sizes: int) -> Axes:
        """New axes.

        Args:
            *sizes: Their sizes.

        Returns:
            The axes, without those of size one.
        """
        start = len(self._sizes)
        self._sizes += [size for size in sizes if size != 1]
        return tuple(range(start, len(self._sizes)))

    def split(self, axes: Axes, sizes: Sequence[int]) -> list[Axes] | None:
        """Groups of axes of given sizes; an axis that the border between two groups falls into becomes two.

        Args:
            axes: Axes, slowest first.
            sizes: The size of each group.

        Returns:
            The groups, or None if the sizes have no common refinement with those of the axes.
        """
        waiting, groups = list(self._resolved(axes)), []
        for size in reversed(sizes):
            group: list[int] = []
            while size > 1:
                if not waiting:
                    return None
                axis = waiting.pop()
                own = self._sizes[axis]
                if own == 0:
                    return None
                if size % own == 0:
                    size //= own
                elif own % size == 0:
                    halves = self._halves[axis] = self.axes(own // size, size)
                    waiting.append(halves[0])
                    axis = halves[1]
                    size = 1
                else:
                    return None
                group.append(axis)
            groups.append(tuple(reversed(group)))
        return None if waiting else groups[::-1]

    def align(self, first: Axes, second: Axes) -> tuple[Axes, Axes] | None:
        """Two groups of axes for one index, each split where the other is.

        Args:
            first: Axes, slowest first.
            second: Axes of the same product.

        Returns:
            As many axes of the same sizes for each, or None if their sizes have no common refinement.
        """
        while True:
            first, second = self._resolved(first), self._resolved(second)
            one, other = ([self._sizes[axis] for axis in axes] for axes in (first, second))
            if one == other:
                return first, second
            if self.split(first, other) is None or self.split(second, one) is None:
                return None

    def add(self, leaf: int, axes: Axes) -> None:
        """Add a tensor.

        Args:
            leaf: Which leaf it is.
            axes: Its axes as it lies in memory.
        """
        self._tensors.append((leaf, axes))

    def network(self, into: Axes, out: Axes) -> Network:
        """The network.

        Args:
            into: The axes of the operand.
            out: The axes of the result.

        Returns:
            The network.
        """
        tensors = [self._resolved(axes) for _, axes in self._tensors]
        into, out = self._resolved(into), self._resolved(out)
        letters = dict(zip(dict.fromkeys([*into, *out, *sum(tensors, ())]), alphabet()))

        def named(axes: Iterable[int]) -> str:
            return "".join([letters[axis] for axis in axes])

        sizes = {letter: self._sizes[axis] for axis, letter in letters.items()}
        return Network(
            tuple(map(named, tensors)), tuple([leaf for leaf, _ in self._tensors]), named(into), named(out), sizes
        )

    def _resolved(self, axes: Iterable[int]) -> Axes:
        """Axes with those that became two in two."""
        found, waiting = [], list(axes)
        while waiting:
            axis = waiting.pop()
            if axis in self._halves:
                waiting += self._halves[axis]
            else:
                found.append(axis)
        return tuple(reversed(found))


def joined(terms: Sequence[str]) -> list[list[str]]:
    """Terms with axes that stand side by side wherever one of them stands as one.

    Args:
        terms: Axes of tensors.

    Returns:
        Of each term its groups of axes.

    Example:
        >>> joined(["abc", "cab", "xc"])
        [['ab', 'c'], ['c', 'ab'], ['x', 'c']]
    """

    def together(first: str, second: str) -> bool:
        return all(first + second in term for term in terms if first in term or second in term)

    found = []
    for term in terms:
        groups: list[str] = []
        for axis in term:
            if groups and together(groups[-1][-1], axis):
                groups[-1] += axis
            else:
                groups.append(axis)
        found.append(groups)
    return found
