"""Many runs, one after the other: a row of results.json each, kept when the sweep is resumed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from linops.lab import distributed
from linops.lab.keeping import Row, kept_rows, write_rows
from linops.lab.progress import Progress
from linops.lab.train import Progress as Report


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
    execute: Callable[[Report], Row]


def sweep(out: Path, jobs: Sequence[Job], resume: bool = True) -> list[Row]:
    """Runs jobs, shows how far they are, and writes results.json after each.

    Args:
        out: The folder of results.json.
        jobs: The jobs.
        resume: Whether to keep the rows of results.json instead of running those jobs again; all must be of these jobs.

    Returns:
        A row a job, in their order.

    Raises:
        ValueError: If results.json has other rows.
    """
    path = out / "results.json"
    kept = kept_rows(path, [job.identity for job in jobs], resume)
    rows: list[Row] = []
    with Progress(len(jobs), distributed.is_first()) as progress:
        say_kept(progress, kept, out)
        for job, row in zip(jobs, kept):
            if row is None:
                progress.begin(_describe(job.identity), job.total)
                row = job.identity | job.execute(lambda step, loss: progress.update(step, f"loss {loss:.3f}"))
            progress.end()
            rows.append(row)
            if distributed.is_first():
                write_rows(path, rows, kept)
    return rows


def say_kept(progress: Progress, kept: Sequence[Row | None], out: Path) -> None:
    """Says how many runs need not run again.

    Args:
        progress: Where.
        kept: From `kept_rows`.
        out: The folder that holds them.
    """
    if found := sum(row is not None for row in kept):
        progress.say(f"{found} of {len(kept)} runs are finished in {out}; --force runs them again")


def _describe(identity: Row) -> str:
    return ", ".join(
        f"{name} {identity[name]}" if name != "structure" else str(identity[name])
        for name in _SHOWN
        if name in identity
    )


#: what differs between runs of one sweep; a rate stands where it is the experiment's, beside a rule
_SHOWN = ("structure", "optimizer", "rule", "lr", "width", "lr_factor", "seed")
