"""One prepared run on a GPU: what is right there, what is fast, and the share of the roofline, in eight minutes.

It needs torch for CUDA and linops with what its extra `torch` needs, no more: ``python -m benchmarks cuda`` also runs
where typer and matplotlib are not installed. Rows are kept as they come, so a run that is cut short still reports.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.cuda import correctness, kernels
from benchmarks.cuda import speed as speeds
from benchmarks.cuda.device import Device
from benchmarks.cuda.page import checks, missing, summary
from benchmarks.cuda.running import Budget, Case, Part, Row, run
from benchmarks.progress import say
from linops.kernels import cuda as choices
from linops.plan.machine_file import VARIABLE

__all__ = ["PARTS", "absent", "again", "checks", "conditions", "kept_in", "measure", "missing", "summary"]

PARTS = ("limits", "layers", "operators", "kernels", "speed", "compiled", "compiled_speed", "compiled_operators")


def measure(
    device: str = "cuda",
    quick: bool = False,
    minutes: float = 7.0,
    parts: tuple[str, ...] = PARTS,
    known: Iterable[Row] = (),
) -> Iterator[Row]:
    """A GPU in one run: errors of all operators and layers, then times beside dense and the paper's formulation.

    Args:
        device: cuda, or cpu for a rehearsal.
        quick: Tiny sizes and few cases, to rehearse.
        minutes: How long cases may begin; the last may take a minute more.
        parts: Which parts run, with commas between.
        known: Rows that need not be measured again.

    Yields:
        Rows; see `running.run`.

    Raises:
        ValueError: If there is no such part or device.
        RuntimeError: If there is no GPU.
    """
    if unknown := set(parts) - {*PARTS}:
        raise ValueError(f"parts {', '.join(sorted(unknown))}: expected some of {', '.join(PARTS)}")
    budget, where, known = Budget(60 * minutes), Device(device), list(known)
    found = {
        row["dtype"]: speeds.Roofline(1e12 * row["tflops"], 1e9 * row["gbytes_per_second"])
        for row in known
        if row["part"] == "limits" and "tflops" in row
    }
    every, backend = (8, "aot_eager") if quick else (1, "inductor")

    def apart() -> Iterator[Case]:  # a kernel that reads where it must not makes the device useless to its process
        yield Case({}, lambda: kernels.apart(device, quick, 0.2 * budget.seconds))

    table = [
        Part("limits", lambda: speeds.limits(where, quick, found), 0.1),
        Part("layers", lambda: correctness.layers(device, every), 0.1),
        Part("operators", lambda: correctness.operators(device, every), 0.15),
        Part("kernels", apart, 0.35),
        Part("speed", lambda: speeds.speed(where, quick, found), 0.4),
        Part("compiled", lambda: correctness.compiled(device, backend, every), 0.2),
        Part("compiled_speed", lambda: speeds.speed(where, quick, found, compiled=True)),
        Part("compiled_operators", lambda: correctness.compiled_operators(device, every)),
    ]
    tried = [row["outcome"] for row in known if row["part"] == "kernels"]
    kept = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = ""  # choices are measured, not read
    allowed = choices.ALLOWED.set(False)
    try:
        for part in table:
            if part.name not in parts:
                continue
            choices.ALLOWED.set("right" in tried and "failed" not in tried)
            for row in run([part], budget, known, say, lambda: _lost(where)):
                if part.name == "kernels":
                    tried.append(row["outcome"])
                yield row
            if part.name == "speed":
                yield from ({"part": "choices", "outcome": "measured", **row} for row in choices.chosen())
    finally:
        choices.ALLOWED.reset(allowed)
        os.environ.pop(VARIABLE)
        if kept is not None:
            os.environ[VARIABLE] = kept


def _lost(device: Device) -> bool:
    """Whether a device gives errors, whatever is asked of it: after a kernel that read where it must not."""
    try:
        torch.zeros(1, device=device.kind).sum().item()
    except RuntimeError:
        return True
    return False


def conditions(device: str = "cuda", **_: Any) -> dict[str, Any]:
    """What stands in the file beside the rows.

    Args:
        device: The option of `measure`.

    Returns:
        Columns of the conditions.
    """
    return Device(device).conditions


def kept_in(device: str = "cuda", quick: bool = False, **_: Any) -> Path | None:
    """Where rows are kept if no file is named: those of a GPU beside the other results, a rehearsal's nowhere.

    Args:
        device: The option of `measure`.
        quick: The same.

    Returns:
        The file, or None.
    """
    return None if quick or device != "cuda" else Path(__file__).parents[1] / "results" / "cuda.json"


def absent() -> str | None:
    """Why ``python -m benchmarks all`` leaves this out; None where there is a GPU."""
    return None if torch.cuda.is_available() else "torch sees no GPU here"


def again(row: Mapping[str, Any]) -> bool:
    """Whether a row of a file is no result, but says what is to be run again.

    Args:
        row: The row.

    Returns:
        True or False.
    """
    return row.get("outcome") in ("failed", "left out") or row.get("part") == "choices"
