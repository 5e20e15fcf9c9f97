"""`lo.project` beside SciPy, torch, tensorly, lazylinop and plain code: the same matrices, in turns in a process."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.peers.environments import ENVIRONMENTS, ROOT, prepare, python_of
from benchmarks.progress import progress, say
from benchmarks.projection.names import TITLES
from benchmarks.projection.run import without_numbers

#: modules of this package
PEERS = ("numpy", "torch", "tensorly", "lazylinop")
#: those of them that are installed beside linops
INSTALLED = ("tensorly", "lazylinop")
#: the longest that a work may take, in seconds
LIMIT = 900


def measure(
    seconds: float = 0.3,
    works: tuple[str, ...] = tuple(TITLES),
    full_svd: int = 2048,
    environments: Path = ENVIRONMENTS,
    threads: int = 1,
    known: Iterable[dict[str, Any]] = (),
) -> Iterator[dict[str, Any]]:
    """Projections by linops, by other libraries and by hand, float32; makes a virtual environment first (1.6 GB).

    Each work is a process, in which linops on NumPy and torch and all others run in turns.

    Args:
        seconds: About how long to time each.
        works: Of those of benchmarks/projection/names.py.
        full_svd: The largest size of which the SVD of the whole matrix is taken beside that of blocks.
        environments: The directory of the virtual environments; what is missing there is made.
        threads: How many, on as many cores.
        known: Rows that need not be measured again.

    Yields:
        Rows: ``ms`` is the median, ``ratio`` how many times as long as linops on the same backend, ``error`` relative.

    Raises:
        ValueError: If there is no such work.
    """
    if unknown := sorted({*works} - {*TITLES}):
        raise ValueError(f"projection: no {', '.join(unknown)}; expected some of {', '.join(TITLES)}")
    done = {row["work"] for row in known}
    left = [work for work in works if work not in done]
    reasons = prepare(environments, INSTALLED, say) if left else {}
    names = [name for name in PEERS if name not in reasons]
    for work in progress(left, "projection"):
        yield from _run(python_of(environments / "common"), work, names, seconds, full_svd, threads)
        for name, reason in reasons.items():
            yield without_numbers(work, name, reason)


def _run(python: Path, work: str, names: list[str], seconds: float, full: int, threads: int) -> list[dict[str, Any]]:
    """The rows of one process; if it fails, one that says so."""
    command = [str(python), "-W", "ignore", "-m", "benchmarks.projection.run", work, str(seconds), str(full), *names]
    count = {f"{library}_NUM_THREADS": str(threads) for library in ("OMP", "OPENBLAS", "MKL")}
    environ = os.environ | count | {"PYTHONPATH": str(ROOT)}
    try:
        run = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return [without_numbers(work, "all", f"took longer than {LIMIT} s")]
    if run.returncode:
        reason = (run.stderr.strip().splitlines() or [f"exit status {run.returncode}"])[-1]
        return [without_numbers(work, "all", f"failed: {reason}")]
    return json.loads(run.stdout)


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each work and backend: linops, and the fastest peer whose error is no larger.

    Args:
        rows: Those of `measure`.

    Returns:
        Dicts of the medians in milliseconds, the relative errors, and how many times as long as linops the peer takes.
    """
    table = []
    for (title, backend), group in _groups(rows).items():
        ours = next((row for row in group if row["who"].startswith("linops")), None)
        if not ours:
            continue
        line = {"work": title, "arrays": backend, "linops, ms": ours["ms"], "error": _short(ours["error"])}
        best = best_peer(group)
        line |= {"best peer": best["who"] if best else "", "ms": best["ms"] if best else None}
        table.append(
            line | {"its error": _short(best["error"]) if best else None, "ratio": best["ratio"] if best else None}
        )
    return table


def missing(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All the others, with what their errors are over the least there is, and why there is no number.

    Args:
        rows: Those of `measure`.

    Returns:
        Dicts.
    """
    table = []
    for (title, backend), group in _groups(rows).items():
        best, shown = best_peer(group), next((row for row in group if row["who"].startswith("linops")), None)
        for row in group:
            if row is best or (row is shown and row["over_optimum"] is None):
                continue
            line = {"work": title, "arrays": backend, "who": row["who"], "ms": row["ms"]}
            line |= {"error": _short(row["error"]), "over the optimum": _finer(row["over_optimum"])}
            table.append(line | {"ratio": row["ratio"], "note": row["note"]})
    return table


def _short(error: float | None) -> str | None:
    return None if error is None else f"{error:.4f}" if error >= 1e-3 else f"{error:.0e}"


def _finer(ratio: float | None) -> str | None:
    return None if ratio is None else f"{ratio:.5f}"


def _groups(rows: Iterable[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["title"], row["backend"]), []).append(row)
    return groups


def best_peer(group: Iterable[dict[str, Any]]) -> dict[str, Any] | None:
    """The fastest peer whose error is no larger than linops'.

    Args:
        group: Rows of one work on one backend.

    Returns:
        Its row, or None.
    """
    peers = [
        row for row in group if not row["who"].startswith("linops") and row.get("ratio") is not None and not row["note"]
    ]
    return min(peers, key=lambda row: row["ratio"], default=None)
