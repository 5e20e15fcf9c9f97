"""How the inputs of a layer are spread: what `projected` needs of their moments. Needs no framework."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from linops.nn.swap import Found
from linops.projection import Moments


@dataclass(frozen=True)
class Spread:
    """How a layer's inputs are spread.

    Attributes:
        second_moment: C, (n, n), about the mean where a bias is to take the mean.
        cross: The mean of x x̃ᴴ, (n, n), likewise; None where the layer sees the inputs that it saw.
        before: The second moment of those, likewise.
        means: (μ, μ̃), (n,) each; None where no bias takes them.
        count: Of how many vectors; None where that is not known.
    """

    second_moment: Any
    cross: Any = None
    before: Any = None
    means: tuple[Any, Any] | None = None
    count: int | None = None


def spread_of(found: Found, given: Any, corrected: bool) -> Spread:
    """The spread of a layer's inputs.

    Args:
        found: The layer.
        given: Its `Moments`, or a second moment, whose mean is not known.
        corrected: Whether its bias takes the mean.

    Returns:
        The spread.

    Raises:
        ValueError: If it is of another number of features.
    """
    into = found.shape[1]
    size = (given.size,) * 2 if isinstance(given, Moments) else tuple(getattr(given, "shape", ()))
    if size != (into, into):
        raise ValueError(f"layer {found.name!r}: moments of shape {size}, expected {(into, into)} for {into} inputs")
    if not isinstance(given, Moments):
        return Spread(given)
    originals = given.originals or given
    crossed = given.originals is not None
    if corrected:
        cross = given.cross_covariance if crossed else None
        before = originals.covariance if crossed else None
        return Spread(given.covariance, cross, before, (originals.mean, given.mean), given.count)
    cross, before = (given.cross, originals.second_moment) if crossed else (None, None)
    return Spread(given.second_moment, cross, before, None, given.count)


def joint_spread(spreads: Sequence[Spread]) -> Spread | None:
    """The spread of the inputs of several layers together; None of none."""
    if len(spreads) < 2:
        return spreads[0] if spreads else None
    counts = [1 if one.count is None else one.count for one in spreads]
    if any(one.count is None for one in spreads):
        counts = [1] * len(spreads)
    total = sum(counts)

    def mean(name: str) -> Any:
        values = [getattr(one, name) for one in spreads]
        return None if values[0] is None else sum([value * (n / total) for value, n in zip(values, counts)])

    return Spread(mean("second_moment"), mean("cross"), mean("before"))
