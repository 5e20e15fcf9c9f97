"""Benchmarks where typer is not installed, as on a rented GPU: the same options, rows as lines."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

from benchmarks import results
from benchmarks.registry import BENCHMARKS


def options_of(measure: Any) -> dict[str, Parameter]:
    """The keywords of a `measure` that a command line can write.

    Args:
        measure: The function.

    Returns:
        Parameters by name.
    """
    return {key: value for key, value in signature(measure).parameters.items() if _written(value)}


def line_of(measure: Any, key: str) -> str | None:
    """The line of a docstring about a keyword.

    Args:
        measure: The function.
        key: The keyword.

    Returns:
        The line; None where there is none.
    """
    line = re.search(rf"^\s+{key}: (.*)$", measure.__doc__ or "", re.MULTILINE)
    return line[1] if line else None


def parsed(value: Any, default: Any) -> Any:
    """An option's value; a tuple is written with commas.

    Args:
        value: As written.
        default: The keyword's default.

    Returns:
        The value.
    """
    if not isinstance(value, str) or isinstance(default, str):
        return value
    return tuple(type(default[0] if default else "")(item) for item in value.split(",") if item)


def _written(parameter: Parameter) -> bool:
    """Whether a keyword is one that the command line can write."""
    default = parameter.default
    texts = default is None and "str" in str(parameter.annotation)
    return parameter.name not in ("known", "threads") and (
        texts or isinstance(default, (bool, int, float, str, tuple, Path))
    )


def main(arguments: Sequence[str]) -> None:
    """Runs a benchmark, and prints a line a row.

    Args:
        arguments: Its name, and its options.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="name", required=True, metavar="BENCHMARK")
    name = next((argument for argument in arguments if not argument.startswith("-")), None)
    for each, benchmark in BENCHMARKS.items():
        command = commands.add_parser(each, help=benchmark.title)
        if each != name:  # others may need what is not installed
            continue
        for key, keyword in options_of(benchmark.measure).items():
            default = keyword.default
            kind: dict[str, Any] = {"type": type(default)} if isinstance(default, (int, float, Path)) else {}
            if isinstance(default, bool):
                kind = {"action": "store_true"}
            if isinstance(default, tuple):
                default = ",".join(map(str, default))
            command.add_argument(
                f"--{key.replace('_', '-')}", default=default, help=line_of(benchmark.measure, key), **kind
            )
        command.add_argument("--threads", type=int, default=1, help="Threads that products may use.")
        command.add_argument("--json", type=Path, help="Keep rows and conditions in this file.")
        command.add_argument("--fresh", action="store_true", help="Measure again what the file has.")
    given = vars(parser.parse_args(arguments))
    benchmark = BENCHMARKS[given.pop("name")]
    threads, path, fresh = given.pop("threads"), given.pop("json"), given.pop("fresh")
    keywords = options_of(benchmark.measure)
    options = {key: parsed(value, keywords[key].default) for key, value in given.items()}
    path = path or benchmark.kept_in(options)
    rows, conditions = results.run(benchmark, options, threads, path, fresh=fresh)
    for table in benchmark.tables(rows):
        print()
        for row in table:
            print("  ".join(f"{key} {_text(value)}" for key, value in row.items()))
    print(f"\n{len(rows)} rows, {path or 'kept nowhere: --json'}; {conditions}")


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
