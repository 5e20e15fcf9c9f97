"""Runs the plan: resumes where it was stopped, shows how far it is, stops after so many minutes, keeps each row."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks import results
from benchmarks.environment import environment, use_threads
from benchmarks.evidence.plan import PLAN, Part, Planned, planned
from benchmarks.progress import say
from linops.lab.keeping import is_of
from linops.lab.progress import Progress

Row = dict[str, Any]


class OutOfTime(Exception):
    """The minutes that were given are over."""


def chosen(only: Sequence[str] = (), data: str | None = None) -> list[Part]:
    """The parts that names or patterns choose, in the plan's order.

    Args:
        only: Names, or patterns as ``b-*``; empty chooses all.
        data: The user's data, without which parts that need them are left out.

    Returns:
        The parts.

    Raises:
        ValueError: If a pattern matches no part, or only parts that need data, where there are none.
    """
    for pattern in only:
        if not any(fnmatchcase(part.name, pattern) for part in PLAN):
            raise ValueError(f"--only {pattern}: no such part; python -m benchmarks evidence --list has them")
        if data is None and all(part.user for part in PLAN if fnmatchcase(part.name, pattern)):
            raise ValueError(f"--only {pattern}: it needs --data, your own images")
    found = [part for part in PLAN if not only or any(fnmatchcase(part.name, pattern) for pattern in only)]
    return [part for part in found if data is not None or not part.user]


def run(
    parts: Sequence[Part],
    path: Path,
    folder: Path,
    minutes: float | None = None,
    data: str | None = None,
    text: str | None = None,
) -> None:
    """Runs what the file does not have yet.

    Args:
        parts: Of the plan.
        path: The file of results; rows are added, none is changed or taken away.
        folder: For checkpoints, which go when a run is finished.
        minutes: After which to stop; the run that is interrupted goes on from its checkpoint the next time.
        data: For parts on the user's data.
        text: For GPT.
    """
    use_threads(1)
    started, kept = perf_counter(), results.load(path)
    conditions = environment(1)
    conditions["machines"] = _machines(kept["conditions"], conditions["processor"])
    own = {"commit": conditions["commit"], "machine": conditions["machines"].index(conditions["processor"])}

    def in_time() -> None:
        if minutes is not None and perf_counter() - started > 60 * minutes:
            raise OutOfTime

    def keep(one: Planned, found: Row) -> None:
        whole = {"part": one.part} | one.job.identity | found
        row = {name: value for name, value in whole.items() if name not in DROPPED} | own
        results.save(path, conditions, [*results.load(path)["rows"], row])  # another process may have added some
        if one.folder.exists():
            shutil.rmtree(one.folder)

    for number, part in enumerate(parts):
        say(f"part {number + 1} of {len(parts)}, {part.name}: {part.says}")
        try:
            work = planned(part, folder, data, text)
            _run_part(part, work, results.load(path)["rows"], keep, in_time)
        except OutOfTime:
            say(f"stopped after {minutes:g} minutes; the same command goes on where it was")
            return


def _run_part(
    part: Part, work: Sequence[Planned], rows: Sequence[Row], keep: Callable[..., None], in_time: Callable[[], None]
) -> None:
    """Runs those of a part that have no row yet."""
    todo = [one for one in work if not any(is_of(row, one.job.identity) for row in rows)]
    if len(todo) < len(work):
        say(f"{part.name}: {len(work) - len(todo)} of {len(work)} runs are finished")
    with Progress(len(todo), costs=[one.cost for one in todo]) as progress:

        def report(step: int, loss: float) -> None:
            progress.update(step, f"loss {loss:.3f}")
            in_time()

        for one in todo:
            in_time()
            progress.begin(f"{one.part}: {_name(one.job.identity)}", one.job.total)
            keep(one, _executed(one, report))
            progress.end()


def take(path: Path, other: Path) -> int:
    """Adds the rows of another file that a file does not have, such as those of a process that ran elsewhere.

    Args:
        path: The file of results.
        other: The other.

    Returns:
        How many rows were added.

    Raises:
        ValueError: If the other file has no rows, or rows of parts that the plan does not have.
    """
    ours, theirs = results.load(path), results.load(other)
    if not theirs["rows"]:
        raise ValueError(f"--take {other}: no rows there")
    if unknown := {row["part"] for row in theirs["rows"]} - {part.name for part in PLAN}:
        raise ValueError(f"--take {other}: the plan has no part {', '.join(sorted(unknown))}")
    machines = list(ours["conditions"].get("machines", ()))
    names = theirs["conditions"]["machines"]
    machines += [name for name in names if name not in machines]
    known = [_asked(row) for row in ours["rows"]]
    fresh = [row | {"machine": machines.index(names[row["machine"]])} for row in theirs["rows"]]
    fresh = [row for row in fresh if _asked(row) not in known]
    results.save(path, theirs["conditions"] | {"machines": machines}, [*ours["rows"], *fresh])
    return len(fresh)


def _asked(row: Row) -> Row:
    """What tells a row from all others."""
    return {name: value for name, value in row.items() if name not in MEASURED}


#: what a row has of its run
MEASURED = ("train_loss", "test_loss", "test_accuracy", "num_params", "macs", "cpu_seconds", "step_ms", "to_dense")
MEASURED += ("part", "commit", "machine")
#: what the rows of the lab have and the file need not: what follows from the rest, or is the same in all
DROPPED = ("flops", "clip", "bf16", "train_accuracy", "seconds")


def _executed(one: Planned, report: Any) -> Row:
    """What to add to the row; of a run that diverges, that its loss is unknown."""
    try:
        return one.job.execute(report)
    except FloatingPointError:
        return {"train_loss": None}


def _machines(conditions: Mapping[str, Any], processor: str) -> list[str]:
    """The processors that rows were measured on, this one among them."""
    known = list(conditions.get("machines", ()))
    return known if processor in known else [*known, processor]


def _name(identity: Row) -> str:
    if "structure" not in identity:
        return f"{identity['data']}, {identity['optimizer']}, {identity['budget']:,} MACs"
    return (
        f"{identity['structure']}, width {identity['width']}, factor {identity['lr_factor']:g}, seed {identity['seed']}"
    )
