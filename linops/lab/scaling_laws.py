"""Scaling: train loss against MACs for each structure, fitted exponents, and the compute multiplier against dense."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from linops.lab import tables as t
from linops.lab.fits import PowerLaw, compute_multiplier, exponent_gap, power_law
from linops.lab.measure import nothing
from linops.lab.parsing import parse
from linops.lab.problems import Problem
from linops.lab.runs import Run, count, execute, matched
from linops.lab.sweep import Job, Row
from linops.lab.train import Settings


def matched_runs(
    problem: Problem, runs: Sequence[Run], widths: Sequence[int], done: Callable[[int], Any] = nothing
) -> list[tuple[Run, int]]:
    """Each run at the MACs of dense at each width.

    Args:
        problem: The problem.
        runs: The runs, at any width.
        widths: Of the dense models whose MACs are the budgets.
        done: Called with how many of the widths are done.

    Returns:
        Runs and their budgets; a structure that cannot meet a budget is left out there.
    """
    chosen = []
    for number, width in enumerate(widths):
        dense = Run(parse("dense"), width, runs[0].depth, base_depth=runs[0].base_depth)
        budget = count(problem, dense) or 0
        found: dict[str, int | None] = {"dense": width}  # rates change nothing
        for run in runs:
            if run.structure.text not in found:
                try:
                    found[run.structure.text] = matched(problem, run, budget).width
                except ValueError:
                    found[run.structure.text] = None
            if fitted := found[run.structure.text]:
                chosen.append((replace(run, width=fitted), budget))
        done(number + 1)
    return chosen


def jobs(
    problem: Problem,
    runs: Sequence[tuple[Run, int]],
    settings: Settings,
    device: Any = "cpu",
    folder: Path | None = None,
) -> list[Job]:
    """A job a run.

    Args:
        problem: The problem.
        runs: Runs and their budgets.
        settings: How to train.
        device: Where.
        folder: For a folder of each run with its checkpoint, from which it goes on; None writes none.

    Returns:
        The jobs, for `linops.lab.sweep.sweep`.
    """

    def job(run: Run, budget: int) -> Job:
        identity = {
            "experiment": "scaling",
            **run.row(problem),
            "steps": settings.steps,
            "batch": settings.batch,
            "budget": budget,
        }
        own = folder / run.slug if folder else None
        how: dict[str, Any] = {"device": device, "folder": own, "resume": True}
        return Job(
            identity, settings.steps, lambda progress: execute(problem, run, settings, progress=progress, **how)[0]
        )

    return [job(run, budget) for run, budget in runs]


def curves(rows: Sequence[Row]) -> dict[str, list[tuple[float, float]]]:
    """(MACs, train loss) of each structure in order of MACs, mean over seeds.

    Args:
        rows: Rows of the experiment.

    Returns:
        Points by structure.
    """
    found: dict[str, dict[int, list[float]]] = {}
    for row in rows:
        found.setdefault(row["structure"], {}).setdefault(row["macs"], []).append(row["train_loss"])
    return {
        label: [(macs, sum(losses) / len(losses)) for macs, losses in sorted(points.items())]
        for label, points in found.items()
    }


def by_budget(rows: Sequence[Row]) -> dict[str, dict[int, float]]:
    """Train loss of each structure by budget, mean over seeds.

    Args:
        rows: Rows of the experiment.

    Returns:
        Dicts of budget to loss by structure, both in order of the rows.
    """
    found: dict[str, dict[int, list[float]]] = {}
    for row in rows:
        found.setdefault(row["structure"], {}).setdefault(row["budget"], []).append(row["train_loss"])
    return {
        label: {budget: sum(losses) / len(losses) for budget, losses in points.items()}
        for label, points in found.items()
    }


def laws(rows: Sequence[Row]) -> dict[str, PowerLaw]:
    """Train loss as a power of MACs, over all budgets and seeds.

    Args:
        rows: Rows of the experiment.

    Returns:
        Power laws by structure; none for a structure of a single cost.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["structure"], []).append(row)
    return {
        label: power_law([row["macs"] for row in group], [row["train_loss"] for row in group])
        for label, group in groups.items()
        if len({row["macs"] for row in group}) > 1
    }


def gaps(rows: Sequence[Row]) -> dict[str, tuple[float, float]]:
    """The exponent of each structure less that of dense, with its standard error; see `linops.lab.fits.exponent_gap`.

    Args:
        rows: Rows of the experiment, dense among them.

    Returns:
        Gaps by structure; none where there are too few points.
    """
    points: dict[str, tuple[list[float], list[float]]] = {}
    for row in rows:
        macs, losses = points.setdefault(row["structure"], ([], []))
        macs.append(row["macs"])
        losses.append(row["train_loss"])
    dense = points.pop("dense", ([], []))
    return {
        label: exponent_gap(*curve, *dense)
        for label, curve in points.items()
        if len(set(curve[0])) > 2 and len(set(dense[0])) > 2
    }


def multipliers(rows: Sequence[Row]) -> dict[str, float | None]:
    """How many times the MACs of each structure dense needs for the loss of the largest dense model.

    Args:
        rows: Rows of the experiment, dense among them.

    Returns:
        Ratios by structure; None where a structure does not reach that loss, or starts below it.
    """
    points = curves(rows)
    dense = points.get("dense", [])
    if not dense:
        return dict.fromkeys(points)
    return {label: compute_multiplier(dense, curve, dense[-1][1]) for label, curve in points.items()}


def summary(rows: Sequence[Row]) -> Row:
    """What summary.json holds of the scaling experiment.

    Args:
        rows: Its rows.

    Returns:
        Exponents with standard errors, compute multipliers and curves by structure.
    """
    fits, above, gains = laws(rows), gaps(rows), multipliers(rows)
    return {
        label: {
            "exponent": -fits[label].exponent if label in fits else None,
            "standard_error": fits[label].standard_error if label in fits else None,
            "exponent_above_dense": -above[label][0] if label in above else None,
            "gap_standard_error": above[label][1] if label in above else None,
            "compute_multiplier": gains[label],
            "curve": curve,
        }
        for label, curve in curves(rows).items()
    }


def cells(rows: Sequence[Row]) -> tuple[list[str], list[tuple[str, ...]]]:
    """The table of the scaling experiment.

    Args:
        rows: Its rows.

    Returns:
        Headings, and the cells of each structure: the loss at each budget, mean over seeds, and what was fitted.
    """
    fits, above, gains, losses = laws(rows), gaps(rows), multipliers(rows), by_budget(rows)
    budgets = sorted({row["budget"] for row in rows})

    def loss_at(label: str, budget: int) -> str:
        return f"{losses[label][budget]:.3f}" if budget in losses[label] else t.NONE

    def fitted_cells(label: str) -> tuple[str, str, str]:
        gap = f"{above[label][0]:.3f} ± {above[label][1]:.3f}" if label in above else t.NONE
        return str(fits[label]) if label in fits else t.NONE, gap, t.times(gains.get(label))

    found = [(label, *(loss_at(label, budget) for budget in budgets), *fitted_cells(label)) for label in curves(rows)]
    return ["MACs at most", *map(t.short, budgets), "exponent", "less dense's", "saves"], found
