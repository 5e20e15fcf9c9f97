"""What faults and hostile files do to linops: commands killed, disks full, files tried, and a page of the outcomes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.progress import say
from benchmarks.reliability import faults
from benchmarks.reliability.reading import read

#: the bytes that the reader of hostile files may have beside what it has when it begins
MEMORY = 600 << 20


def measure(
    commands: tuple[str, ...] = tuple(faults.COMMANDS),
    kills: int = 20,
    seed: int = 0,
    known: tuple[dict[str, Any], ...] = (),
) -> Iterator[dict[str, Any]]:
    """Kill the long commands at random points, give them faults, and read hostile files in bounded memory.

    Args:
        commands: Names of commands, of `benchmarks.reliability.faults.COMMANDS`.
        kills: How often each is killed.
        seed: Of the points.
        known: Rows that need not be measured again.

    Yields:
        Rows with ``kind``: ``"killed"``, ``"fault"`` or ``"hostile"``.
    """
    done = {row["command"] for row in known if row["kind"] == "killed"}
    for name in (name for name in commands if name not in done):
        with tempfile.TemporaryDirectory() as folder:
            yield {"kind": "killed", **faults.killed(name, Path(folder), kills, seed, say)}
    if faults.TORCHRUN not in done:
        with tempfile.TemporaryDirectory() as folder:
            yield {"kind": "killed", **faults.torchrun_killed(Path(folder), seed)}
    kinds = {row["kind"] for row in known}
    if "fault" not in kinds:
        with tempfile.TemporaryDirectory() as folder:
            yield from [{"kind": "fault", **row} for row in faults.refused(Path(folder))]
    if "hostile" not in kinds:
        with tempfile.TemporaryDirectory() as folder:
            yield from [{"kind": "hostile", **row} for row in read(Path(folder), MEMORY)]


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The commands that were killed, and how many faults and files of how many were refused.

    Args:
        rows: From `measure`.

    Returns:
        Rows to read.
    """
    faults_, files = ([row for row in rows if row["kind"] == kind] for kind in ("fault", "hostile"))
    refused = {
        "faults": f"{sum(row['status'] == 1 and row['kept'] for row in faults_)} of {len(faults_)}",
        "hostile files": f"{sum(row['error'] is not None for row in files)} of {len(files)}",
    }
    killed = [{key: value for key, value in row.items() if key != "kind"} for row in rows if row["kind"] == "killed"]
    return [*killed, *({"command": what, "refused": count} for what, count in refused.items())]
