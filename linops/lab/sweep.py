"""Many runs, one after the other: a row of results.json each, kept when the sweep is resumed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from linops.lab import distributed
from linops.lab.train import Progress

Row = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One run of a sweep.

    Attributes:
        identity: What tells it from all others, settings included: plain data, all of it in its row.
        total: Its number of steps.
        execute: Runs it; given where to report progress, returns what to add to the row.
    """

    identity: Row
    total: int
    execute: Callable[[Progress], Row]


def sweep(console: Console, out: Path, jobs: Sequence[Job], resume: bool = False) -> list[Row]:
    """Runs jobs with a progress bar, and writes results.json after each.

    Args:
        console: Where the bar is shown.
        out: The folder of results.json.
        jobs: The jobs.
        resume: Whether to keep the rows of results.json that belong to these jobs instead of running them again.

    Returns:
        A row a job, in their order.
    """
    path = out / "results.json"
    before = json.loads(path.read_text()) if resume and path.is_file() else []
    rows: list[Row] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"), TimeElapsedColumn())
    with Bars(*columns, console=console, transient=True, disable=not distributed.is_first()) as bars:
        overall = bars.add_task("runs", total=len(jobs), note="")
        for number, job in enumerate(jobs):
            row = next((row for row in before if all(row.get(name) == value for name, value in job.identity.items())), None)
            if row is None:
                shown = bars.add_task(_describe(job.identity), total=job.total, note="")
                report = lambda step, loss, shown=shown: bars.update(shown, completed=step, note=f"loss {loss:.3f}")  # noqa: E731
                row = job.identity | job.execute(report)
                bars.remove_task(shown)
            rows.append(row)
            if distributed.is_first():
                write_json(path, rows)
            bars.update(overall, completed=number + 1)
    return rows


def write_json(path: Path, value: Any) -> None:
    """Writes JSON; a process killed while writing leaves the previous file.

    Args:
        path: The file.
        value: Plain data.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value, indent=1) + "\n")
    os.replace(partial, path)


def _describe(identity: Row) -> str:
    return ", ".join(f"{name} {identity[name]}" if name != "structure" else str(identity[name]) for name in _SHOWN if name in identity)


_SHOWN = ("structure", "width", "lr_factor", "seed")
