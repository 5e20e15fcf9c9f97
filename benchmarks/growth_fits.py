"""Exponents of the growth of time and memory, fitted to the rows of `benchmarks.growth`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.growth import AGAINST_D
from linops.lab.fits import PowerLaw, power_law

#: times under so many times the overhead are not fitted
FLOOR = 5
#: with fewer vectors than this, reading the parameters takes the time, however many they are
VECTORS = 64
#: how many points a fit needs
POINTS = 3


@dataclass(frozen=True)
class Growth:
    """How one structure grows.

    Attributes:
        structure: Which.
        against: ``"d"``, ``"batch"`` or ``"factors"``.
        rows: Its rows, in order of what it grows with.
        time: The law of the forward time; None where fewer than three points are above the overhead.
        fitted: The rows that are, and have at least 64 vectors.
        flops: The law of the FLOPs over those points.
        training: The law of the time with gradients over those points.
        memory: The law of the peak memory, forward, over all points.
        training_memory: The same with gradients.
        theory: The exponent that FLOPs approach.
    """

    structure: str
    against: str
    rows: list[Mapping[str, Any]]
    fitted: list[Mapping[str, Any]]
    time: PowerLaw | None
    flops: PowerLaw | None
    training: PowerLaw | None
    memory: PowerLaw | None
    training_memory: PowerLaw | None
    theory: str


def growths(rows: Sequence[Mapping[str, Any]], against: str) -> list[Growth]:
    """Fits power laws.

    Args:
        rows: Those of `benchmarks.growth`.
        against: ``"d"``, ``"batch"`` or ``"factors"``.

    Returns:
        One for each structure.
    """
    ours = [row for row in rows if row["against"] == against]
    result = []
    for name in dict.fromkeys(row["structure"] for row in ours):
        mine = sorted((row for row in ours if row["structure"] == name), key=lambda row: row[against])
        above = [row for row in mine if row["forward_us"] >= FLOOR * row["floor_us"] and row["batch"] >= VECTORS]
        theory = AGAINST_D.get(name, "–") if against == "d" else "1"
        result.append(
            Growth(
                structure=name,
                against=against,
                rows=mine,
                fitted=above,
                time=_law(above, against, "forward_us"),
                flops=_law(above, against, "flops"),
                training=_law(above, against, "training_us"),
                memory=_law(mine, against, "forward_bytes"),
                training_memory=_law(mine, against, "training_bytes"),
                theory=theory,
            )
        )
    return result


def _law(rows: Sequence[Mapping[str, Any]], x: str, y: str) -> PowerLaw | None:
    return power_law([row[x] for row in rows], [row[y] for row in rows]) if len(rows) >= POINTS else None
