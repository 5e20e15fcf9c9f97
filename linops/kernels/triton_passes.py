"""The passes of a chain of small factors: which neighbours go through `triton_factors` together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any

#: (a, b, c, d) of a factor I_a ⊗ (b×c) ⊗ I_d
Pattern = tuple[int, int, int, int]


@dataclass(frozen=True)
class Pass:
    """Factors that act in one pass over the operand.

    Attributes:
        places: Which of the chain, by the digit on which they act, slowest first.
        rising: Whether that of the last digit acts first.
        outer: I, the axes before all digits.
        inner: J, the axes after them.
        patterns: Of the factors, in the order of places.
    """

    places: tuple[int, ...]
    rising: bool
    outer: int
    inner: int
    patterns: tuple[Pattern, ...]

    @property
    def columns(self) -> int:
        """The digits' numbers before the pass."""
        return prod(c for _, _, c, _ in self.patterns)

    def views(self, factors: Sequence[Any]) -> list[Any]:
        """The factors as (I, L, B, C, R, J), as `triton_factors.factors` takes them.

        Args:
            factors: Arrays (d, a, b, c) of the places, or (b, c) that are the same for all a and d.

        Returns:
            Views of torch's arrays.
        """
        found = []
        for factor, (a, b, c, d) in zip(factors, self.patterns):
            left, right = a // self.outer, d // self.inner
            if factor.ndim == 2:
                found.append(factor.expand(self.outer, left, right, self.inner, b, c).permute(0, 1, 4, 5, 2, 3))
            else:
                split = factor.reshape(right, self.inner, self.outer, left, b, c)
                found.append(split.permute(2, 3, 4, 5, 0, 1))
        return found


def passes(patterns: Sequence[Pattern], largest: int = 16, most: int = 4, held: int = 64) -> tuple[Pass, ...] | None:
    """A chain of factors, divided into passes.

    Args:
        patterns: (a, b, c, d) of each factor in the order in which they act.
        largest: The largest side of a factor.
        most: Of factors in a pass.
        held: Of the product of a pass's sides.

    Returns:
        The passes in the order in which they act; None where a side is too large.

    Example:
        >>> [each.places for each in passes([(1, 2, 2, 4), (2, 2, 2, 2), (4, 2, 2, 1)], most=2)]
        [(0, 1), (2,)]
    """
    if any(max(b, c) > largest for _, b, c, _ in patterns):
        return None
    found, start = [], 0
    while start < len(patterns):
        stop = start + 1
        while stop < len(patterns) and stop - start < most and _joined(patterns[start : stop + 1], held):
            stop += 1
        found.append(_one(range(start, stop), patterns[start:stop]))
        start = stop
    return tuple(found)


def _joined(patterns: Sequence[Pattern], held: int) -> bool:
    """Whether factors act on neighbouring digits, one after the other, with sides that are powers of two."""
    if any(side & (side - 1) or not side for _, *sides, _ in patterns for side in sides):
        return False
    if max(prod(b for _, b, _, _ in patterns), prod(c for _, _, c, _ in patterns)) > held:
        return False
    return _falls(patterns) or _falls([(d, b, c, a) for a, b, c, d in patterns])


def _falls(patterns: Sequence[Pattern]) -> bool:
    """Whether each factor's digit is the one after that of the factor before."""
    return all(d == c2 * d2 and a2 == a * b for (a, b, _, d), (a2, _, c2, d2) in pairwise(patterns))


def _one(places: Sequence[int], patterns: Sequence[Pattern]) -> Pass:
    """The pass of factors that are joined."""
    rising = len(patterns) > 1 and not _falls(patterns)
    slowest, fastest = (patterns[-1], patterns[0]) if rising else (patterns[0], patterns[-1])
    step = -1 if rising else 1
    return Pass(tuple(places[::step]), rising, slowest[0], fastest[3], tuple(patterns[::step]))
