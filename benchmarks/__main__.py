"""``python -m benchmarks``: each benchmark prints a table and writes JSON with the conditions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks import btt as btt_benchmark
from benchmarks import imports as imports_benchmark
from benchmarks import overhead as overhead_benchmark
from benchmarks import peers as peers_benchmark
from benchmarks import symbolic as symbolic_benchmark
from benchmarks.environment import environment, use_threads
from benchmarks.environment import environment as conditions

app = typer.Typer(help="Benchmarks of linops: ratios measured side by side in one run. Set OMP_NUM_THREADS for NumPy's threads.")

Threads = Annotated[int, typer.Option(help="Threads of torch.")]
Json = Annotated[Path | None, typer.Option("--json", help="Write rows and conditions to this file.")]


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _show(title: str, rows: list[dict[str, Any]], threads: int, path: Path | None, statistic: str = "medians") -> None:
    """Print rows as a table, and write them with the conditions if a path is given."""
    conditions = environment(threads)
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = Table(
        title=title, caption=f"{conditions['processor']}, {threads} thread(s), {statistic}; load {conditions['load_average']:.1f}"
    )
    for name in names:
        table.add_column(name.replace("_", " "), justify="left" if isinstance(rows[0].get(name), str) else "right")
    for row in rows:
        table.add_row(*(_cell(row.get(name, "")) for name in names))
    Console(width=160).print(table)
    if path is not None:
        path.write_text(json.dumps({"conditions": conditions, "rows": rows}, indent=1) + "\n")


@app.command()
def overhead(seconds: float = 1.0, threads: Threads = 1, json_path: Json = None) -> None:
    """Microseconds of Python over the bare kernels, and of building operators."""
    use_threads(threads)
    _show(
        "Overhead in microseconds (goals: 2 for one kernel, 3 for two, 10 for building)",
        overhead_benchmark.measure(seconds),
        threads,
        json_path,
        "least of many samples",
    )


@app.command()
def btt(seconds: float = 6.0, batch: int = 256, threads: Threads = 1, json_path: Json = None) -> None:
    """BTT forward against the paper's formulation."""
    use_threads(threads)
    _show(
        "BTT forward, float32: times faster than the paper's formulation",
        btt_benchmark.measure(batch=batch, seconds=seconds),
        threads,
        json_path,
    )


@app.command()
def symbolic(json_path: Json = None) -> None:
    """Counting an expression of 10^12 parameters (goals: 1 ms, 1 MB)."""
    _show("Counting 10^12 parameters", symbolic_benchmark.measure(), 1, json_path)


@app.command()
def imports(json_path: Json = None) -> None:
    """Seconds that importing linops adds to importing numpy."""
    _show("Import", imports_benchmark.measure(), 1, json_path)


@app.command()
def peers(
    seconds: float = 0.2,
    only: Annotated[list[str] | None, typer.Option(help="A peer; may be given several times. All, if none is given.")] = None,
    backend: Annotated[list[str] | None, typer.Option(help="A backend; may be given several times. All, if none is given.")] = None,
    quick: Annotated[bool, typer.Option(help="Few sizes, less than a minute.")] = False,
    environment: Annotated[Path, typer.Option(help="Where the virtual environments are, or are made.")] = peers_benchmark.ENVIRONMENTS,
    threads: Threads = 1,
    json_path: Json = None,
) -> None:
    """The same work done by CoLA, linear_operator, pylops, lineax, linox, lazylinop, scipy and tensorly, in times of linops."""
    rows = peers_benchmark.measure(
        seconds / 4 if quick else seconds, only, backend or peers_benchmark.BACKENDS, quick, threads, environment
    )
    _show("Times as long as linops (goals: never below 1; Kronecker 3)", peers_benchmark.summary(rows), threads, None)
    _show("Without numbers", peers_benchmark.missing(rows), threads, None)
    if json_path is not None:
        json_path.write_text(json.dumps({"conditions": conditions(threads), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    app()
