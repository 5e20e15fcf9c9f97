"""What is lost at each share of a model's cost, by several ways to choose: rows, and a plot."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from linops.install import command
from linops.nn.budget import choose


class Point(NamedTuple):
    """What one way to choose loses at one budget.

    Attributes:
        of: ``"chosen"``, ``"uniform"``, or the only family beside dense.
        share: The cost, as a share of dense.
        error: The sum of the layers' errors.
    """

    of: str
    share: float
    error: float


def rows(layers: Sequence[Any], unit: str, exact: bool, shares: Sequence[float] | None = None) -> list[Point]:
    """The points of all ways to choose.

    Args:
        layers: Layers with options, of which the first is dense.
        unit: What options cost, an attribute.
        exact: Whether to prove optima.
        shares: The budgets; by default 16 from the least to 1, in equal ratios.

    Returns:
        The points, ascending for each way.
    """
    families = dict.fromkeys(option.family for layer in layers for option in layer.options[1:])
    ways = {"chosen": None, **{family: family for family in families}}
    if len(families) == 1:
        ways = {"chosen": None}
    dense = sum([getattr(layer.options[0], unit) for layer in layers])
    found: list[Point] = []
    for of, family in ways.items():
        kept = [
            [one for k, one in enumerate(layer.options) if not k or family in (None, one.family)] for layer in layers
        ]
        costs, errors = table(kept, unit)
        for share in _shares(costs, dense) if shares is None else shares:
            if sum(map(min, costs)) <= share * dense * (1 + 1e-12):
                best = choose(costs, errors, share * dense * (1 + 1e-12), exact)
                found.append(Point(of, best.cost / dense, best.error))
    costs, errors = table([layer.options for layer in layers], unit)
    for share in _shares(costs, dense) if shares is None else shares:
        found.append(_uniform(costs, errors, share))
    return list(dict.fromkeys(found))


def draw(points: Sequence[Point], path: Path, unit: str, what: str, here: tuple[float, float]) -> None:
    """A plot of error against share.

    Args:
        points: The points.
        path: The file.
        unit: What is counted.
        what: What errors are.
        here: The share and error that are chosen.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    try:
        figures: Any = import_module("matplotlib.figure")
    except ModuleNotFoundError as error:
        raise ImportError(f"plan.plot needs matplotlib: {command('matplotlib', 'lab')}") from error
    made = figures.Figure(figsize=(6.4, 4.4), layout="constrained")
    axis = made.add_subplot()
    for of in dict.fromkeys(point.of for point in points):
        curve = sorted([(point.share, point.error) for point in points if point.of == of and point.error > 0])
        style = {"chosen": "k-", "uniform": "k--"}.get(of, "-")
        axis.plot([one[0] for one in curve], [one[1] for one in curve], style, marker=".", label=of)
    axis.plot(*[[value] for value in here], "k*", ms=13, ls="none", label="this plan")
    axis.set(xscale="log", yscale="log", xlabel=f"{unit}, share of dense", ylabel=what)
    axis.grid(True, which="major", alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    made.savefig(path, dpi=150)


def table(layers: Sequence[Sequence[Any]], unit: str) -> tuple[list[list[float]], list[list[float]]]:
    """The costs and errors of options, a row a layer.

    Args:
        layers: The options of layers.
        unit: What they cost, an attribute.

    Returns:
        The costs and the errors.
    """
    costs = [[float(getattr(option, unit)) for option in layer] for layer in layers]
    return costs, [[option.error for option in layer] for layer in layers]


def _shares(costs: Sequence[Sequence[float]], dense: float) -> list[float]:
    least = sum(map(min, costs)) / dense if dense else 1.0
    return [float(one) for one in np.geomspace(least, 1, 16)]


def _uniform(costs: Sequence[Sequence[float]], errors: Sequence[Sequence[float]], share: float) -> Point:
    """Each layer's best within a share of its own cost, or its cheapest where none is."""
    cost = error = 0.0
    for own, lost in zip(costs, errors):
        within = [k for k in range(len(own)) if own[k] <= share * own[0] * (1 + 1e-12)] or [own.index(min(own))]
        pick = min(within, key=lambda k: (lost[k], own[k]))
        cost, error = cost + own[pick], error + lost[pick]
    return Point("uniform", cost / max(sum([own[0] for own in costs]), 1), error)
