"""What is around a leaf in a contraction, kept while a sweep moves along the leaves.

Leaves are halved again and again: while those of one half are improved, the other half is contracted with all else, as
far as that makes it smaller. So a butterfly of N×N takes some N² operations a sweep, and not N² for each leaf.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

from linops.projection.contraction import contract

#: so many numbers are small, whatever they are contracted from
SMALL = 4096


class Part(NamedTuple):
    """An array over named axes."""

    axes: str
    array: Any


def absorbed(parts: Sequence[Part], kept: str) -> list[Part]:
    """Parts of which those that share an axis which is not kept are contracted, unless the result would be larger.

    Args:
        parts: The factors of a contraction.
        kept: The axes of its other factors and of its result.

    Returns:
        Parts with the same contraction.

    Example:
        >>> import numpy as np
        >>> parts = [Part("ab", np.ones((2, 3))), Part("bc", np.ones((3, 4))), Part("d", np.ones(5))]
        >>> [part.axes for part in absorbed(parts, "acd")]
        ['ac', 'd']
    """
    found: list[Part] = []
    for group in _groups(parts, kept):
        sizes = {axis: size for part in group for axis, size in zip(part.axes, part.array.shape)}
        axes = "".join([axis for axis in sizes if axis in kept])
        most = max(prod(part.array.shape) for part in group)
        if len(axes) < len(sizes) and prod([sizes[axis] for axis in axes]) <= max(most, SMALL):
            terms, arrays = zip(*group)
            found.append(Part(axes, contract([*terms], axes, *arrays)))
        else:
            found += group
    return found


def _groups(parts: Sequence[Part], kept: str) -> list[list[Part]]:
    """Parts that share axes which are not kept, directly or by others."""
    groups: list[tuple[set[str], list[Part]]] = []
    for part in parts:
        own = {axis for axis in part.axes if axis not in kept}
        joined = [group for group in groups if group[0] & own]
        groups = [group for group in groups if not group[0] & own]
        axes = own.union(*[axes for axes, _ in joined])
        groups.append((axes, [*[one for _, group in joined for one in group], part]))
    return [group for _, group in groups]
