"""``python -m benchmarks``: each benchmark prints a table and may keep its rows with the conditions as JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from benchmarks import results
from benchmarks.bare import line_of, options_of, parsed
from benchmarks.registry import BENCHMARKS, Benchmark
from linops.lab import console as output
from linops.lab.failures import OneLine
from linops.lab.folding import Folding

app = typer.Typer(
    cls=OneLine,
    help="""Benchmarks of linops: candidates take turns in one run, so read the ratios.

    One benchmark, quickly, on the terminal:
    `python -m benchmarks families --sizes 256,1024 --batches 1,256 --backends torch --seconds 2`

    All of them, kept in benchmarks/results/: `python -m benchmarks all`; then
    `python -m benchmarks report` writes docs/benchmarks.md.

    Rows that a JSON file has are not measured again, so an interrupted run goes on where it stopped;
    --fresh starts over.""",
    rich_markup_mode="markdown",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = output.console()

Threads = Annotated[int, typer.Option(help="Threads that products may use.", min=1)]
Json = Annotated[Path | None, typer.Option("--json", help="Keep rows and conditions in this file.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Measure again what the file has.")]


def _cell(value: Any) -> str:
    return (
        "–"
        if value is None
        else f"{value:.4g}"
        if isinstance(value, float)
        else f"{value:,}"
        if isinstance(value, int)
        else str(value)
    )


def _show(benchmark: Benchmark, rows: list[dict[str, Any]], conditions: Mapping[str, Any]) -> None:
    """Print rows as tables."""
    threads, load = conditions["threads"], conditions["load_average"]
    caption = f"{conditions['processor']}, {threads} thread{'s' if threads > 1 else ''}, "
    caption += f"{benchmark.statistic}; load {load:.1f}"
    rehearsal = "rehearsal" in str(conditions.get("device", ""))
    title = f"A rehearsal on a CPU, no result: {benchmark.title}" if rehearsal else benchmark.title
    for shown in benchmark.tables(rows):
        names = list(dict.fromkeys(name for row in shown for name in row))
        first = next((k for k, name in enumerate(names) if any(isinstance(row.get(name), float) for row in shown)), 0)
        if first and console.width < 120:  # what names a row in the first column; tables fold after it
            columns = [name.replace("_", " ") for name in names[first:]]
            cells = [
                [" ".join(_cell(row.get(name)) for name in names[:first]), *(_cell(row.get(n)) for n in names[first:])]
                for row in shown
            ]
            console.print(Folding(title, [" ".join(names[:first]), *columns], cells, caption))
            continue
        table = Table(title=title, caption=caption)
        for name in names:
            text = any(isinstance(row.get(name), str) for row in shown)
            table.add_column(name.replace("_", " "), justify="left" if text else "right")
        for row in shown:
            table.add_row(*(_cell(row[name]) if name in row else "" for name in names))
        console.print(table)


def _run(
    name: str, options: Mapping[str, Any], threads: int, path: Path | None, fresh: bool, keep: bool = False
) -> None:
    """Measure, and print; with `keep`, as `results.run` has it, only how much there is."""
    benchmark = BENCHMARKS[name]
    rows, conditions = results.run(benchmark, options, threads, path, fresh=fresh, keep=keep)
    if keep:
        console.print(f"{name}: {len(rows)} rows in {path}", highlight=False)
    else:
        _show(benchmark, rows, conditions)


def _command(name: str, benchmark: Benchmark) -> Callable[..., None]:
    """A command with an option for each keyword of the benchmark's `measure`, and --threads, --json and --fresh."""
    keywords = options_of(benchmark.measure)
    text = benchmark.measure.__doc__ or benchmark.title

    def command(threads: int, json_path: Path | None, fresh: bool, **given: Any) -> None:
        options = {key: parsed(value, keywords[key].default) for key, value in given.items()}
        _run(name, options, threads, json_path or benchmark.kept_in(options), fresh)

    parameters = [_option(key, value.default, line_of(benchmark.measure, key)) for key, value in keywords.items()]
    for key, kind, default in (("threads", Threads, 1), ("json_path", Json, None), ("fresh", Fresh, False)):
        parameters.append(Parameter(key, Parameter.KEYWORD_ONLY, default=default, annotation=kind))
    command.__signature__ = Signature(parameters)
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__doc__ = text.split("\n\n")[0]
    return command


def _option(key: str, default: Any, line: str | None) -> Parameter:
    """An option for a keyword, with the line of the docstring about it."""
    kind = type(default) if isinstance(default, (bool, int, float, Path)) else str | None if default is None else str
    if isinstance(default, tuple):
        default = ",".join(map(str, default))
    annotation = Annotated[kind, typer.Option(help=line)]
    return Parameter(key, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


for _name, _benchmark in BENCHMARKS.items():
    app.command(_name)(_command(_name, _benchmark))


@app.command("all")
def everything(
    threads: Threads = 1,
    fresh: Fresh = False,
    folder: Annotated[Path, typer.Option(help="Where the JSON files are.")] = results.FOLDER,
) -> None:
    """Run every benchmark and keep the results; those of this machine, versions and options stay, unless --fresh.

    Those of another machine are copied to earlier/MACHINE before they are replaced; the page shows both.
    """
    for name, benchmark in BENCHMARKS.items():
        if why := benchmark.absent():
            console.print(f"{name}: left out: {why}", highlight=False)
            continue
        _run(name, {}, threads, folder / f"{name}.json", fresh, keep=True)


@app.command()
def evidence(
    only: Annotated[list[str] | None, typer.Option(help="A part of the plan or a pattern; may be repeated.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the parts, and how much of them has run.")] = False,
    take: Annotated[Path | None, typer.Option(help="Only add the rows of another such file.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Stop after so many minutes; given again, it goes on.")] = None,
    json_path: Annotated[Path, typer.Option("--json", help="Rows are added to this file.")] = (
        results.FOLDER / "evidence.json"
    ),
    folder: Annotated[Path, typer.Option(help="For checkpoints of the run that is under way.")] = (
        Path("linops-evidence")
    ),
    data: Annotated[str | None, typer.Option(help="Your own images, for the parts that need them.")] = None,
    text: Annotated[str | None, typer.Option(help="A file or folder for the GPT, instead of Python's source.")] = None,
) -> None:
    """Run the plan of evidence (hours), the most informative first; `report` writes docs/evidence.md of its rows."""
    from benchmarks.evidence import command, plan

    parts = command.chosen(only or (), data)
    if take is not None:
        console.print(f"{command.take(json_path, take)} rows added")
    elif not list_:
        command.run(parts, json_path, folder, minutes, data, text)
    table = Table("part", "what", "runs", title=str(json_path))
    for row in plan.listed(plan.finished(parts, results.load(json_path)["rows"])):
        table.add_row(*row)
    console.print(table)


@app.command()
def report() -> None:
    """Write docs/benchmarks.md and its plots from the JSON files below benchmarks/results/ alone."""
    from benchmarks import report

    for path in report.write():
        console.print(path, highlight=False)
