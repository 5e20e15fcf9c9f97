"""Measures linops beside peers in this process.

``python -m benchmarks.peers.run BACKEND SECONDS quick|full PEER …`` prints JSON.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from importlib import import_module
from importlib.metadata import version
from types import ModuleType
from typing import TYPE_CHECKING, Any

from benchmarks.peers.environments import PEERS

if TYPE_CHECKING:
    from benchmarks.peers.cases import Case

#: relative differences, of Euclidean norms, up to which results agree
TOLERANCE = {"float32": 1e-4, "float64": 1e-10}


def use_one_core(threads: int) -> None:
    """Let this process run on as many cores as it may have threads: JAX has no other setting. Before it is imported.

    Args:
        threads: How many.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])


def imported(names: list[str]) -> tuple[dict[str, ModuleType], dict[str, str]]:
    """The modules of the peers, before linops is imported, for CoLA must come first.

    Args:
        names: Keys of `PEERS`.

    Returns:
        The modules, and of those that cannot be imported the reason.
    """
    modules, reasons = {}, {}
    for name in sorted(names):  # cola first
        try:
            modules[name] = import_module(f"benchmarks.peers.{name}")
        except Exception as error:
            reasons[name] = f"cannot be imported: {short(error)}"
    return modules, reasons


def undo_switches(backend: str) -> None:
    """JAX back to 32 bits, in which all are measured: linox and tensorly switch the whole program to 64.

    Args:
        backend: The backend that this process measures.
    """
    if backend == "jax":
        import jax

        jax.config.update("jax_enable_x64", False)


def short(error: Exception) -> str:
    """An error in a few words.

    Args:
        error: The error.

    Returns:
        Its class and the start of its message.

    Example:
        >>> short(ValueError("no"))
        'ValueError: no'
    """
    message = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {message[:100]}".removesuffix(": ")


def checked(product: Callable[[], Any] | str, expected: Any, case: Case) -> str:
    """Why a product cannot be timed, or nothing.

    Args:
        product: The product, or why there is none.
        expected: What it must be, as a NumPy array.
        case: The case.

    Returns:
        The reason: ``"computes in …"`` if it is of another dtype.
    """
    import numpy as np

    from linops import backends

    if isinstance(product, str):
        return product
    try:
        found = product()
    except Exception as error:
        return short(error)
    if backends.backend_of(found) != case.backend:
        return f"gives {type(found).__name__}"
    result = backends.to_numpy(found)
    if result.size != expected.size:
        return f"shape {result.shape}, expected {expected.shape}"
    if result.dtype.name != case.dtype:
        return f"computes in {result.dtype.name}"
    difference = np.linalg.norm(result.reshape(expected.shape) - expected) / np.linalg.norm(expected)
    return "" if difference <= TOLERANCE[case.dtype] else "another result"


def rows_of(case: Case, modules: dict[str, ModuleType], seconds: float) -> Iterator[dict[str, Any]]:
    """Rows of one case: linops and all peers that have it take turns. Peers of another dtype run again in theirs.

    Args:
        case: The case.
        modules: The peers.
        seconds: About how long to time.

    Yields:
        Rows.
    """
    from benchmarks.peers import cases
    from linops import backends
    from linops.lab.measure import compiler, side_by_side

    ours = case.product()
    expected = backends.to_numpy(ours())
    products, notes = {}, {}
    for name, module in modules.items():
        try:
            products[name] = module.products(case)
        except Exception as error:
            products[name] = short(error)
        undo_switches(case.backend)
        notes[name] = checked(products[name], expected, case)
    fit = {name: products[name] for name in modules if not notes[name]}
    times = {}
    if fit:
        times = side_by_side({"linops": ours, **fit}, seconds=seconds, rounds=11, wait=compiler(case.backend)[1])
    for name in modules:
        row = row_of(
            name, case.backend, notes[name], work=case.work, size=case.size, batch=case.batch, dtype=case.dtype
        )
        if name in times:
            row["linops_ms"], row["peer_ms"] = (1e3 * times[which].median for which in ("linops", name))
            row["ratio"] = times[name].ratio(times["linops"])
            row["note"] = getattr(modules[name], "NOTES", {}).get(case.work, "")
        yield row
    wide = {name: modules[name] for name, note in notes.items() if note == "computes in float64"}
    if wide and case.backend != "jax":
        yield from rows_of(cases.case(case.work, case.size, case.batch, case.backend, "float64"), wide, seconds)


def row_of(peer: str, backend: str, note: str, **known: Any) -> dict[str, Any]:
    """A row without numbers.

    Args:
        peer: A key of `PEERS`.
        backend: The backend.
        note: Why there are none.
        **known: Other columns.

    Returns:
        The row: ``ratio`` says how many times as long as linops the peer takes.
    """
    try:
        number = version(PEERS[peer].distribution)
    except Exception:
        number = ""
    blank = dict.fromkeys(
        ("work", "size", "batch", "backend", "dtype", "peer", "version", "linops_ms", "peer_ms", "ratio", "note")
    )
    return blank | {"backend": backend, "peer": peer, "version": number, "note": note} | known


def measure(backend: str, names: list[str], seconds: float, quick: bool) -> list[dict[str, Any]]:
    """All rows of one process.

    Args:
        backend: ``"numpy"``, ``"torch"`` or ``"jax"``.
        names: Keys of `PEERS`.
        seconds: About how long to time each case.
        quick: Whether to take few sizes.

    Returns:
        The rows.
    """
    modules, reasons = imported(names)
    undo_switches(backend)
    rows = [row_of(name, backend, reason) for name, reason in reasons.items()]
    from benchmarks.peers.cases import cases

    still: Any = nullcontext()
    if backend == "torch":
        import torch

        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        still = torch.inference_mode()
    with still:
        for case in cases(backend, quick):
            rows += rows_of(case, modules, seconds)
    return rows


def main() -> None:
    """The command."""
    warnings.simplefilter("ignore")
    backend, seconds, quick, *names = sys.argv[1:]
    use_one_core(int(os.environ.get("OMP_NUM_THREADS", "1")))
    out, sys.stdout = sys.stdout, sys.stderr
    rows = measure(backend, names, float(seconds), quick == "quick")
    json.dump(rows, out, allow_nan=False)


if __name__ == "__main__":
    main()
