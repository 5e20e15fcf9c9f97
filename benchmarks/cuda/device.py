"""The device that is measured: its clock, its memory, and what it does at best."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from linops.lab.measure import Function, Roofline, Timing, nothing, side_by_side

ROUNDS, LEAST_ROUNDS = 9, 3


@dataclass(frozen=True)
class Device:
    """A device of torch.

    Attributes:
        kind: ``"cuda"``, or ``"cpu"`` for a rehearsal.
    """

    kind: str

    def __post_init__(self) -> None:
        if self.kind not in ("cuda", "cpu"):
            raise ValueError(f"device {self.kind!r}: expected 'cuda' or 'cpu'")
        if self.kind == "cuda" and not torch.cuda.is_available():
            raise RuntimeError(
                "torch sees no CUDA device here; `python -m benchmarks cuda --device cpu --quick` rehearses the run"
            )

    @property
    def conditions(self) -> dict[str, Any]:
        """What stands beside the rows of a measurement."""
        if self.kind == "cpu":
            return {"device": f"{platform.processor() or platform.machine()} (a rehearsal)"}
        found = torch.cuda.get_device_properties(0)
        return {
            "device": found.name,
            "capability": f"sm_{found.major}{found.minor}",
            "memory_gib": round(found.total_memory / 2**30, 1),
            "cuda": torch.version.cuda,
            "tf32": torch.get_float32_matmul_precision() != "highest",
        }

    def wait(self) -> None:
        """Waits until the device is done."""
        if self.kind == "cuda":
            torch.cuda.synchronize()

    def free(self) -> None:
        """Gives memory that nothing holds back to the device."""
        if self.kind == "cuda":
            torch.cuda.empty_cache()

    def times(self, functions: Mapping[str, Function], seconds: float) -> dict[str, Timing]:
        """Times candidates in turns, on CUDA by its events.

        Args:
            functions: Candidates by name.
            seconds: About how long to measure in all.

        Returns:
            A `Timing` for each.
        """
        sample: Callable[[Function, int], float] | None = _by_events if self.kind == "cuda" else None
        return side_by_side(
            functions, seconds=seconds, rounds=ROUNDS, least_rounds=LEAST_ROUNDS, wait=nothing, sample=sample
        )

    def peak(self, function: Function) -> int | None:
        """The most memory that a call holds at once beyond what was there, its result included.

        Args:
            function: The call.

        Returns:
            Bytes, as torch's allocator counts them; None on a CPU.
        """
        if self.kind == "cpu":
            function()
            return None
        self.wait()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        result = function()
        self.wait()
        del result
        return torch.cuda.max_memory_allocated() - before

    def roofline(self, dtype: torch.dtype, size: int, numbers: int, seconds: float) -> Roofline:
        """FLOPs a second of a large matrix product, and bytes a second of a large copy.

        Args:
            dtype: Of the numbers.
            size: Rows and columns of the matrices.
            numbers: How many are copied.
            seconds: About how long to measure.

        Returns:
            The best rates seen.
        """
        a = torch.randn(size, size, device=self.kind, dtype=dtype)
        source, target = torch.zeros(2, numbers, device=self.kind, dtype=dtype)
        found = self.times({"matmul": lambda: a @ a, "copy": partial(target.copy_, source)}, seconds)
        moved = 2 * numbers * dtype.itemsize
        return Roofline(2 * size**3 / min(found["matmul"].seconds), moved / min(found["copy"].seconds))


def _by_events(function: Function, calls: int) -> float:
    """Seconds a call on the device, over so many calls after one more."""
    function()
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(calls):
        function()
    stop.record()
    stop.synchronize()
    return 1e-3 * start.elapsed_time(stop) / calls
