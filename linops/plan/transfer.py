"""What ranks send each other between two steps of a product that is divided among them, and how many numbers that is.

What flows through a product is, on each rank, *whole* (the same on all), *split* over one of its axes, or a *part* of a
sum over the ranks. A transfer turns one into another; its gradient goes the other way. Bytes are those that a rank
sends by ring algorithms: of N numbers in the whole, an all-reduce sends 2 (p - 1) / p · N, an all-gather and a
reduce-scatter (p - 1) / p · N, and an all-to-all (p - 1) / p² · N.
"""

from __future__ import annotations

from typing import NamedTuple

ALL_GATHER, ALL_REDUCE, ALL_TO_ALL, REDUCE_SCATTER = "all_gather", "all_reduce", "all_to_all", "reduce_scatter"


#: what sends nothing: a rank takes its share of what it has, or all of it
SHARE, SAME = "share", "same"


class Kind(NamedTuple):
    """A kind of transfer.

    Attributes:
        name: What it is called.
        forward: The collective that it is, or ``"share"`` or ``"same"`` where nothing is sent.
        backward: The same of its gradient.
    """

    name: str
    forward: str
    backward: str


#: whole to split: each rank takes its share
SLICE = Kind("slice", SHARE, ALL_GATHER)
#: split to whole
GATHER = Kind("gather", ALL_GATHER, SHARE)
#: split over one axis to split over another
EXCHANGE = Kind("exchange", ALL_TO_ALL, ALL_TO_ALL)
#: parts of a sum to whole
REDUCE = Kind("reduce", ALL_REDUCE, SAME)
#: parts of a sum to split
SCATTER = Kind("scatter", REDUCE_SCATTER, ALL_GATHER)
#: whole to what each rank makes its own outputs of, so that gradients are parts of a sum
ENTER = Kind("enter", SAME, ALL_REDUCE)
#: split to the same
GATHER_ENTER = Kind("gather_enter", ALL_GATHER, REDUCE_SCATTER)
#: parts of a sum to the same
REDUCE_ENTER = Kind("reduce_enter", ALL_REDUCE, ALL_REDUCE)

KINDS = {one.name: one for one in (SLICE, GATHER, EXCHANGE, REDUCE, SCATTER, ENTER, GATHER_ENTER, REDUCE_ENTER)}


def sent(way: str, ranks: int, numbers: int) -> float:
    """How many numbers a rank sends.

    Args:
        way: A collective, ``"share"`` or ``"same"``.
        ranks: How many ranks.
        numbers: How many numbers the whole has.

    Returns:
        Numbers.

    Raises:
        KeyError: If there is no such way.

    Example:
        >>> sent("all_reduce", 4, 100), sent("all_to_all", 4, 1600), sent("same", 4, 100)
        (150.0, 300.0, 0.0)
    """
    factors = {ALL_REDUCE: 2.0, ALL_GATHER: 1.0, REDUCE_SCATTER: 1.0, ALL_TO_ALL: 1 / ranks, SHARE: 0.0, SAME: 0.0}
    return factors[way] * (ranks - 1) / ranks * numbers
