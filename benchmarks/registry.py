"""The benchmarks, a line each. A benchmark is a module with ``measure(...) → rows``, a list or iterator of plain dicts.

`measure` takes keywords with defaults, which become the options of its command: numbers, texts, and tuples of those,
written with commas. If it takes ``known``, it gets the rows that were measured before and need not be measured again;
if ``threads``, the command's own. A module of many rows may have ``summary(rows) → rows``, ``checks(rows) → rows`` of
what was compared, and ``missing(rows) → rows`` that says what could not be measured: people read those. Of a machine
that not everybody has, `absent`, `conditions`, `kept_in` and `again` are asked, as the methods of `Benchmark` say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Benchmark:
    """A benchmark.

    Attributes:
        module: The module that has `measure`.
        title: The heading of its table.
        statistic: What its numbers are of their samples.
    """

    module: str
    title: str
    statistic: str = "medians"

    @property
    def measure(self) -> Callable[..., Iterable[dict[str, Any]]]:
        """The module's function."""
        return import_module(self.module).measure

    def absent(self) -> str | None:
        """Why ``python -m benchmarks all`` leaves it out, as the module's `absent` says; None where it runs."""
        return self._asked("absent", None)

    def kept_in(self, options: Mapping[str, Any]) -> Path | None:
        """The file that keeps rows where none is named, as the module's `kept_in` says.

        Args:
            options: Those of `measure`.

        Returns:
            The file; None where rows are kept if asked for.
        """
        return self._asked("kept_in", None, **options)

    def conditions(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """What belongs to the conditions beyond what all benchmarks have, as the module's `conditions` says.

        Args:
            options: Those of `measure`.

        Returns:
            The columns.
        """
        return self._asked("conditions", {}, **options)

    def again(self, row: Mapping[str, Any]) -> bool:
        """Whether a kept row is no result, but says what is to be run again, as the module's `again` says.

        Args:
            row: The row.

        Returns:
            True or False.
        """
        return self._asked("again", False, row)

    def _asked(self, name: str, default: Any, *args: Any, **options: Any) -> Any:
        """What a function of the module says; the default where it has none."""
        function = getattr(import_module(self.module), name, None)
        return default if function is None else function(*args, **options)

    def tables(self, rows: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
        """What people read of the rows.

        Args:
            rows: The rows.

        Returns:
            What the module's `checks`, `summary` and `missing` make of them, where it has those; otherwise the rows.
        """
        module = import_module(self.module)
        found = [getattr(module, name)(rows) for name in ("checks", "summary", "missing") if hasattr(module, name)]
        return [table for table in found if table] or [rows]


_LINES = {
    "families": Benchmark(
        "benchmarks.families", "Families against dense, float32: times and ratios of times (below 1: faster)"
    ),
    "btt": Benchmark("benchmarks.btt", "BTT, float32: times faster than the paper's formulation"),
    "composed": Benchmark(
        "benchmarks.composed", "Permute @ BlockDiag @ Permute @ BlockDiag over the hand-written kernel, float32"
    ),
    "peers": Benchmark("benchmarks.peers", "Times faster than peers on the same work"),
    "linalg": Benchmark("benchmarks.linalg", "Linear algebra beside peers, float64: ratios of their times to linops'"),
    "projection": Benchmark(
        "benchmarks.projection",
        "Projections beside peers, float32: ratios of their times to linops' on the same arrays",
    ),
    "solves": Benchmark("benchmarks.solves", "Overhead of a solve by rule in microseconds", "least of many samples"),
    "overhead": Benchmark("benchmarks.overhead", "Overhead in microseconds", "least of many samples"),
    "planning": Benchmark("benchmarks.planning", "Planned and frozen products over the best of naive orders and dense"),
    "calibrate": Benchmark("benchmarks.calibrate", "The numbers of the planner's machine model"),
    "thresholds": Benchmark("benchmarks.thresholds", "The constants of linops.tuning: both ways around each"),
    "growth": Benchmark("benchmarks.growth", "Time and memory against d, batch and number of factors, torch, float32"),
    "compile": Benchmark("benchmarks.compilation", "Compile times: the first call less a later one"),
    "symbolic": Benchmark("benchmarks.symbolic", "Counting an expression of 10^12 parameters"),
    "reliability": Benchmark(
        "benchmarks.reliability", "Commands killed, faults and hostile files: what they leave", "outcomes"
    ),
    "compression": Benchmark(
        "benchmarks.compression", "Accuracy of a compressed model by ways to compress it", "means"
    ),
    "cuda": Benchmark(
        "benchmarks.cuda", "A GPU: what is right there, and times beside dense and the paper's formulation"
    ),
    "imports": Benchmark("benchmarks.imports", "What importing linops adds to importing numpy"),
}

#: by name, those that this checkout has
BENCHMARKS = {name: benchmark for name, benchmark in _LINES.items() if find_spec(benchmark.module)}
