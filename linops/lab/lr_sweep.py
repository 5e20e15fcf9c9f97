"""Rate transfer (Fig. 2b of the paper): the best factor on the rates of the structured weights, at several widths.

All other rates stay. With structure-aware rates the best factor should not move with the width; with naive ones it must
grow.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from linops.lab.problems import Problem
from linops.lab.runs import Run, execute
from linops.lab.sweep import Job, Row
from linops.lab.train import Settings


def jobs(
    problem: Problem, runs: Sequence[Run], settings: Settings, device: Any = "cpu", folder: Path | None = None
) -> list[Job]:
    """A job a run.

    Args:
        problem: The problem.
        runs: The runs, which differ in factor, width, seed and rates.
        settings: How to train.
        device: Where.
        folder: For a folder of each run with its checkpoint, from which it goes on; None writes none.

    Returns:
        The jobs, for `linops.lab.sweep.sweep`. A run that diverges has the train loss None.
    """

    def job(run: Run) -> Job:
        identity = {"experiment": "lr-sweep", **run.row(problem), "steps": settings.steps, "batch": settings.batch}
        return Job(identity, settings.steps, lambda progress: _train(problem, run, settings, device, folder, progress))

    return [job(run) for run in runs]


def _train(problem: Problem, run: Run, settings: Settings, device: Any, folder: Path | None, progress: Any) -> Row:
    own = folder / run.slug if folder else None
    try:
        return execute(problem, run, settings, device=device, folder=own, resume=True, progress=progress)[0]
    except FloatingPointError:
        return {"train_loss": None}


def mean_losses(rows: Sequence[Row]) -> dict[tuple[str, int], dict[float, float]]:
    """Train loss by factor, for each structure and width, mean over seeds.

    Args:
        rows: Rows of the sweep; a factor at which a seed diverged is left out.

    Returns:
        Dicts of factor to loss by (structure, width).
    """
    found: dict[tuple[str, int], dict[float, list]] = {}
    for row in rows:
        found.setdefault((row["structure"], row["width"]), {}).setdefault(row["lr_factor"], []).append(
            row["train_loss"]
        )
    return {
        key: {factor: sum(losses) / len(losses) for factor, losses in sorted(curve.items()) if None not in losses}
        for key, curve in found.items()
    }


def best_factors(rows: Sequence[Row]) -> dict[str, dict[int, float]]:
    """The factor of least train loss.

    Args:
        rows: Rows of the sweep.

    Returns:
        Dicts of width to factor by structure.
    """
    best: dict[str, dict[int, float]] = {}
    for (label, width), curve in mean_losses(rows).items():
        if curve:
            best.setdefault(label, {})[width] = min(curve, key=lambda factor: curve[factor])
    return best


def drift(factors: dict[int, float]) -> float:
    """How many times the best factor moves over the widths.

    Args:
        factors: Width to factor.

    Returns:
        The greatest factor over the least.

    Example:
        >>> drift({64: 4.0, 256: 8.0, 1024: 8.0})
        2.0
    """
    return max(factors.values()) / min(factors.values())
