"""linops beside every peer: the same work, backend and dtype, in one process, taking turns."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.peers.environments import ENVIRONMENTS, PEERS, ROOT, prepare, python_of
from benchmarks.progress import say

BACKENDS = ("numpy", "torch", "jax")


def measure(
    seconds: float = 0.2,
    peers: str | Iterable[str] | None = None,
    backends: Iterable[str] = BACKENDS,
    quick: bool = False,
    threads: int = 1,
    environments: Path = ENVIRONMENTS,
    say: Callable[[str], None] = say,
) -> list[dict[str, Any]]:
    """The same products in linops and in other libraries, forward in float32; makes virtual environments first (3 GB).

    Each environment and backend is a process of its own, in which linops and all peers there are run on the same arrays
    in turns. JAX is timed compiled, with the operators as arguments. What a peer gives is compared with what linops
    gives before either is timed.

    Args:
        seconds: About how long to time each case.
        peers: Names such as pylops,cola; by default all.
        backends: Of numpy, torch and jax.
        quick: Whether to take few sizes.
        threads: How many, on as many cores.
        environments: The directory of the virtual environments; what is missing there is made.
        say: Called with what happens.

    Returns:
        Dicts ``work, size, batch, backend, dtype, peer, version, linops_ms, peer_ms, ratio, note``: medians, and how
        many times as long as linops the peer takes. Where there are none, ``note`` says why.

    Raises:
        ValueError: If there is no such peer or backend.
    """
    names = peers.split(",") if isinstance(peers, str) else list(PEERS if peers is None else peers)
    backends = list(backends)
    for given, known in ((names, PEERS), (backends, BACKENDS)):
        if unknown := sorted({*given} - {*known}):
            raise ValueError(f"peers: no {', '.join(unknown)}; expected some of {', '.join(known)}")
    reasons = prepare(environments, names, say)
    rows = []
    for name, reason in reasons.items():
        rows += [_without_numbers(name, backend, reason) for backend in PEERS[name].backends if backend in backends]
    for environment in dict.fromkeys(PEERS[name].environment for name in names):
        for backend in backends:
            here = [name for name in names if name not in reasons and (environment, backend) in PEERS[name].places]
            if here:
                say(f"{backend}: linops and {', '.join(here)}")
                rows += _run(python_of(environments / environment), backend, here, seconds, quick, threads)
    return rows


def _run(
    python: Path, backend: str, names: list[str], seconds: float, quick: bool, threads: int
) -> list[dict[str, Any]]:
    """The rows of one process; if it fails, rows that say so."""
    command = [
        str(python),
        "-W",
        "ignore",
        "-m",
        "benchmarks.peers.run",
        backend,
        str(seconds),
        "quick" if quick else "full",
        *names,
    ]
    count = {f"{library}_NUM_THREADS": str(threads) for library in ("OMP", "OPENBLAS", "MKL")}
    run = subprocess.run(
        command, cwd=ROOT, env=os.environ | count | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    if run.returncode:
        reason = (run.stderr.strip().splitlines() or [f"exit status {run.returncode}"])[-1]
        return [_without_numbers(name, backend, f"failed: {reason}") for name in names]
    return json.loads(run.stdout)


def _without_numbers(peer: str, backend: str, note: str) -> dict[str, Any]:
    from benchmarks.peers.run import row_of

    return row_of(peer, backend, note)


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each work, backend and peer with a number.

    Args:
        rows: Those of `measure`.

    Returns:
        Dicts: how many cases were timed, the median, least and greatest ratio, the case of the least, and notes.
    """
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        if row["ratio"] is not None:
            groups.setdefault((row["work"], row["backend"], row["peer"], row["version"]), []).append(row)
    table = []
    for key, group in sorted(groups.items()):
        worst, ratios = min(group, key=lambda row: row["ratio"]), [row["ratio"] for row in group]
        table.append(
            dict(zip(("work", "backend", "peer", "version"), key))
            | {"cases": len(group), "median": median(ratios), "least": worst["ratio"], "greatest": max(ratios)}
            | {"at": f"{worst['size']}, {worst['batch']}: {worst['linops_ms']:.4f} ms", "note": _notes(group)}
        )
    return table


def missing(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each peer, backend and reason why there is no number.

    Args:
        rows: Those of `measure`.

    Returns:
        Dicts of the peer, the backend, the reason, and the works.
    """
    reasons: dict[tuple[str, ...], dict[str, None]] = {}
    for row in rows:
        if row["ratio"] is None:
            reasons.setdefault((row["peer"], row["backend"], row["note"]), {})[row["work"] or "all"] = None
    return [
        {"peer": peer, "backend": backend, "reason": reason, "work": ", ".join(works)}
        for (peer, backend, reason), works in reasons.items()
    ]


def _notes(rows: list[dict[str, Any]]) -> str:
    """What the rows note, and in what they compute if that is not float32."""
    notes = dict.fromkeys(row["note"] for row in rows if row["note"])
    return ", ".join([*notes, *sorted({row["dtype"] for row in rows} - {"float32"})])
