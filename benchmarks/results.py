"""Results that are kept: a JSON file of rows and of the conditions that they were measured under."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any

from benchmarks.environment import environment, use_threads
from benchmarks.machines import folder_of, name_of
from benchmarks.progress import say
from benchmarks.registry import Benchmark
from linops.replacing import replacing

#: where ``python -m benchmarks all`` keeps results
FOLDER = Path(__file__).parent / "results"
#: its folder of machines before the one at hand, which has a folder of results for each
EARLIER = "earlier"
#: conditions under which rows may stand side by side
SAME = ("device", "processor", "cores", "threads", "python", "versions", "seconds")


#: what a file that is not there holds
NOTHING: dict[str, Any] = {"conditions": {}, "rows": []}


class OtherConditions(ValueError):
    """Results that exist were measured under other conditions."""


def load(path: Path) -> dict[str, Any]:
    """Reads results.

    Args:
        path: The file.

    Returns:
        ``{"conditions": …, "rows": […]}``; empty where there is no file.
    """
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else NOTHING


def load_all(folder: Path = FOLDER) -> dict[str, dict[str, Any]]:
    """Reads all results of a folder.

    Args:
        folder: The folder.

    Returns:
        Results by name of the benchmark.
    """
    return {path.stem: load(path) for path in sorted(folder.glob("*.json"))}


def load_earlier(folder: Path = FOLDER) -> list[dict[str, dict[str, Any]]]:
    """Reads the results of the machines before the one at hand.

    Args:
        folder: That of the machine at hand.

    Returns:
        Results by name of the benchmark, for each machine.
    """
    return [load_all(machine) for machine in sorted((folder / EARLIER).glob("*/"))]


def put_aside(path: Path, conditions: Mapping[str, Any]) -> Path | None:
    """Keeps what another machine measured, before a result of this one takes its place.

    Args:
        path: The file.
        conditions: Those of what will be measured.

    Returns:
        The file among those of earlier machines; None where there is nothing to keep.
    """
    old = load(path)
    if not old["rows"] or name_of(old["conditions"]) == name_of(conditions):
        return None
    aside = path.parent / EARLIER / folder_of(old["conditions"]) / path.name
    aside.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, aside)
    return aside


def save(path: Path, conditions: Mapping[str, Any], rows: list[dict[str, Any]]) -> None:
    """Writes results, whole or not at all.

    Args:
        path: The file.
        conditions: What they were measured under.
        rows: The rows.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join("  " + json.dumps({name: _rounded(value) for name, value in row.items()}) for row in rows)
    with replacing(path) as file:
        file.write(f'{{"conditions": {json.dumps(conditions, indent=1)},\n "rows": [\n{lines}\n]}}\n'.encode())


def _rounded(value: Any) -> Any:
    """A number to as many digits as are measured."""
    return float(f"{value:.5g}") if isinstance(value, float) else value


def run(
    benchmark: Benchmark,
    options: Mapping[str, Any],
    threads: int,
    path: Path | None = None,
    *,
    fresh: bool = False,
    keep: bool = False,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Measures, and keeps the rows as they come.

    Args:
        benchmark: What.
        options: Keywords of its `measure`.
        threads: How many threads products may use.
        path: The file, if rows shall be kept. Rows that it has are not measured again, if the benchmark knows how to go
            on.
        fresh: Whether to measure everything again.
        keep: Whether the file is the result where the benchmark does not know how to go on, and is replaced where
            conditions are others; what another machine measured is put aside first, as for files of `FOLDER`.

    Returns:
        All rows, and the conditions.

    Raises:
        OtherConditions: If the file's rows were measured under others, and neither `fresh` nor `keep` was asked for.
    """
    parameters = signature(benchmark.measure).parameters
    use_threads(threads, jax="jax" in options.get("backends", getattr(parameters.get("backends"), "default", ())))
    conditions = environment(threads) | benchmark.conditions(options)
    if "seconds" in parameters:
        conditions["seconds"] = options.get("seconds", parameters["seconds"].default)
    resumes = "known" in parameters
    old = load(path) if path and not fresh and (resumes or keep) else NOTHING
    if old["rows"] and (other := _differences(old["conditions"], conditions)):
        if not keep:
            raise OtherConditions(
                f"{path} was measured under other conditions: {other}. Pass --fresh to measure it again"
            )
        old = NOTHING
    if old["rows"] and not resumes:
        return old["rows"], old["conditions"]
    if path and (keep or path.resolve().parent == FOLDER.resolve()) and (aside := put_aside(path, conditions)):
        say(f"{path} is of another machine; a copy is kept as {aside}")
    rows = [row for row in old["rows"] if not benchmark.again(row)]
    more = {"known": tuple(rows), "threads": threads}
    for row in benchmark.measure(**options, **{name: value for name, value in more.items() if name in parameters}):
        rows.append(row)
        if path and resumes:
            save(path, conditions, rows)
    if path and not resumes:
        save(path, conditions, rows)
    return rows, conditions


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """What keeps rows that were measured under both from standing side by side."""
    return "; ".join(
        f"{name} {old.get(name)} then, {new.get(name)} now" for name in SAME if old.get(name) != new.get(name)
    )
