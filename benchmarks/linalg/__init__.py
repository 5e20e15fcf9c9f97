"""`lo.linalg` beside SciPy, torch, JAX, linear_operator, lineax and CoLA: the same work, taking turns in a process."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.linalg.names import TITLES
from benchmarks.peers.environments import ENVIRONMENTS, ROOT, prepare, python_of
from benchmarks.progress import progress, say

#: environment → its peers, modules of this package
PEERS = {"common": ("scipy", "torch", "jax", "linear_operator", "lineax"), "cola": ("cola",)}
#: those of them that are installed beside linops
INSTALLED = ("linear_operator", "lineax", "cola")
#: the longest that a work may take, in seconds
LIMIT = 900


def measure(
    seconds: float = 0.5,
    works: tuple[str, ...] = tuple(TITLES),
    environments: Path = ENVIRONMENTS,
    threads: int = 1,
    known: Iterable[dict[str, Any]] = (),
) -> Iterator[dict[str, Any]]:
    """Linear algebra in linops and in other libraries, float64; makes virtual environments first (3 GB).

    Each work is a process in each of two environments, in which linops on NumPy, torch and JAX and all peers there run
    in turns. JAX is timed compiled.

    Args:
        seconds: About how long to time each.
        works: Of those of benchmarks/linalg/names.py.
        environments: The directory of the virtual environments; what is missing there is made.
        threads: How many, on as many cores.
        known: Rows that need not be measured again.

    Yields:
        Rows: ``ms`` is the median, ``ratio`` how many times as long as ``beside``, linops on the peer's own backend,
        ``error`` the relative error.

    Raises:
        ValueError: If there is no such work.
    """
    if unknown := sorted({*works} - {*TITLES}):
        raise ValueError(f"linalg: no {', '.join(unknown)}; expected some of {', '.join(TITLES)}")
    done = {(row["work"], row["environment"]) for row in known}
    cells = [(work, place) for work in works for place in PEERS if (work, place) not in done]
    reasons = prepare(environments, INSTALLED, say) if cells else {}
    for work, place in progress(cells, "linalg"):
        names = [name for name in PEERS[place] if name not in reasons]
        for row in _run(python_of(environments / place), work, names, seconds, threads):
            yield row | {"environment": place}
        for name in PEERS[place]:
            if name in reasons:
                yield _without_numbers(work, name, reasons[name]) | {"environment": place}


def _run(python: Path, work: str, names: list[str], seconds: float, threads: int) -> list[dict[str, Any]]:
    """The rows of one process; if it fails, one that says so."""
    command = [str(python), "-W", "ignore", "-m", "benchmarks.linalg.run", work, str(seconds), *names]
    count = {f"{library}_NUM_THREADS": str(threads) for library in ("OMP", "OPENBLAS", "MKL")}
    environ = os.environ | count | {"PYTHONPATH": str(ROOT)}
    try:
        run = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return [_without_numbers(work, "all", f"took longer than {LIMIT} s")]
    if run.returncode:
        reason = (run.stderr.strip().splitlines() or [f"exit status {run.returncode}"])[-1]
        return [_without_numbers(work, "all", f"failed: {reason}")]
    return json.loads(run.stdout)


def _without_numbers(work: str, who: str, note: str) -> dict[str, Any]:
    blank = dict.fromkeys(("beside", "ms", "ratio", "error"))
    return {"work": work, "title": TITLES[work], "what": "", "who": who, **blank, "note": note}


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each work, once and kept: the best peer whose result is right, and linops on its backend.

    Args:
        rows: Those of `measure`.

    Returns:
        Dicts of the medians in milliseconds, the relative errors, and how many times as long as linops the peer takes.
    """
    table = []
    for (title, what), group in _groups(rows).items():
        best = best_peer(group)
        beside = (best["beside"], best["environment"]) if best else ("linops", "common")
        timed = [row for row in group if row["ms"] is not None]
        ours = next((row for row in timed if (row["who"], row["environment"]) == beside), None)
        line = {"work": title, "what": what, "linops, ms": None, "error": None, "best peer": "", "ms": None}
        line |= {"its error": None, "ratio": None}
        if ours:
            line |= {"linops, ms": ours["ms"], "error": f"{ours['error']:.0e}"}
        if best:
            line |= {"best peer": best["who"], "ms": best["ms"], "its error": f"{best['error']:.0e}"}
            line["ratio"] = best["ratio"]
        table.append(line)
    return table


def missing(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All the others: linops on torch and JAX, other peers, and why there is no number.

    Args:
        rows: Those of `measure`.

    Returns:
        Dicts.
    """
    table = []
    for (title, what), group in _groups(rows).items():
        best = best_peer(group)
        for row in group:
            again = row["who"].startswith("linops") and row["environment"] != "common"
            if again or row["who"] == "linops" or (best and row is best) or row["note"].endswith("has none"):
                continue
            error = None if row.get("error") is None else f"{row['error']:.0e}"
            line = {"work": title, "what": what, "who": row["who"], "ms": row.get("ms"), "error": error}
            table.append(line | {"ratio": row.get("ratio"), "note": row["note"]})
    return table


def _groups(rows: list[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        if row["title"] and row["what"]:
            groups.setdefault((row["title"], row["what"]), []).append(row)
    return groups


def best_peer(group: Iterable[dict[str, Any]]) -> dict[str, Any] | None:
    """The fastest peer whose result is right, by the ratio to linops in its own process.

    Args:
        group: Rows of one work.

    Returns:
        Its row, or None.
    """
    peers = [
        row for row in group if not row["who"].startswith("linops") and row.get("ratio") is not None and not row["note"]
    ]
    return min(peers, key=lambda row: row["ratio"], default=None)
