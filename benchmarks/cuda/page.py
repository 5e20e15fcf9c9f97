"""What people read of the rows: checks counted, kernels, times, what went wrong; as tables and a section."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.cuda.running import Row
from benchmarks.cuda.speed import DENSE
from benchmarks.tables import brief, markdown, plain

Rows = Sequence[Mapping[str, Any]]

ABSENT = "*Not measured: no GPU was at hand.*"
CHECKS = ("layers", "operators", "compiled", "compiled_operators")
IMAGE = "bench_cuda.png"


def checks(rows: Rows) -> list[Row]:
    """How many cases of each part and dtype are right, and the largest errors.

    Args:
        rows: Those of `benchmarks.cuda.measure`.

    Returns:
        A row for each part and dtype.
    """
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["part"] in CHECKS and "case" in row:
            found.setdefault((row["part"], row["dtype"]), []).append(row)
    return [
        {
            "part": part.replace("_", " "),
            "dtype": dtype,
            "cases": len(group),
            "right": sum(row["outcome"] == "right" for row in group),
            "worst_product": max((row[key] for row in group for key in _PRODUCTS if key in row), default=None),
            "worst_gradients": max((row["gradients"] for row in group if "gradients" in row), default=None),
        }
        for (part, dtype), group in found.items()
    ]


_PRODUCTS = ("product", "vector", "left")


def summary(rows: Rows) -> list[Row]:
    """Times of the structures.

    Args:
        rows: Those of `benchmarks.cuda.measure`.

    Returns:
        A row for each that was timed, ordered by dtype, tokens and d.
    """
    columns = (
        *("dtype", "tokens", "d", "structure", "forward_ms", "training_ms", "speedup", "training_speedup"),
        *("paper_speedup", "paper_training_speedup", "roofline", "training_mib"),
    )
    timed = [row for row in rows if "forward_ms" in row]
    timed.sort(key=lambda row: (row["compiled"], row["dtype"], row["tokens"], row["d"]))
    return [{name: row.get(name) for name in columns} for row in timed]


def kernels(rows: Rows) -> list[Row]:
    """The Triton kernels beside torch's products.

    Args:
        rows: Those of `benchmarks.cuda.measure`.

    Returns:
        A row for each that was timed.
    """
    columns = (
        *("kernel", "dtype", "d", "rank", "layout", "way", "torch_ms", "ms", "speedup", "training_speedup"),
        *("error", "gradients"),
    )
    return [{name: row.get(name) for name in columns} for row in rows if row["part"] == "kernels" and "ms" in row]


def missing(rows: Rows) -> list[Row]:
    """What was wrong, failed or left out, and why.

    Args:
        rows: Those of `benchmarks.cuda.measure`.

    Returns:
        A row for each.
    """
    bad = [row for row in rows if row["outcome"] in ("wrong", "failed", "left out")]
    return [{"what": _what(row), "outcome": row["outcome"], "why": row["why"]} for row in bad]


def _what(row: Mapping[str, Any]) -> str:
    """A row's name."""
    keys = ("part", "kernel", "case", "structure", "way", "d", "rank", "tokens", "dtype", "layout")
    return ", ".join(str(row[key]) for key in keys if key in row).replace("_", " ")


def section(rows: Rows) -> str:
    """The section of the page.

    Args:
        rows: Those of `benchmarks.cuda.measure`.

    Returns:
        Markdown.
    """
    parts = [_limits(rows)] if any("tflops" in row for row in rows) else []
    if counted := checks(rows):
        parts += ["**Against float64 on the CPU: cases, and errors as shares of norms**", plain(counted)]
    if timed := summary(rows):
        parts += [f"![Times against d](images/{IMAGE})", *_speeds(timed)]
    if compared := kernels(rows):
        parts += ["**Triton kernels: times faster than torch's products**", plain(compared)]
    if bad := missing(rows):
        parts += ["**What was wrong, failed or was left out**", plain(bad)]
    return "\n\n".join(parts) or ABSENT


def _limits(rows: Rows) -> str:
    """What the device does at best."""
    found = [
        f"{row['tflops']:.0f} TFLOP/s and {row['gbytes_per_second']:.0f} GB/s in {row['dtype']}"
        for row in rows
        if "tflops" in row
    ]
    return f"The roofline, from a large matrix product and a large copy: {', '.join(found)}."


def _speeds(timed: list[Row]) -> list[str]:
    """A table for each dtype and number of tokens."""
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in timed:
        if row["structure"] != DENSE:
            groups.setdefault((row["dtype"], row["tokens"]), []).append(row)
    found = []
    for (dtype, tokens), rows in groups.items():
        cells = [
            [
                str(row["structure"]),
                str(row["d"]),
                f"{brief(row['forward_ms'])} / {brief(row['training_ms'])}",
                _pair(row, "speedup", "training_speedup"),
                _pair(row, "paper_speedup", "paper_training_speedup"),
                "–" if row["roofline"] is None else f"{100 * row['roofline']:.0f} %",
                "–" if row["training_mib"] is None else f"{row['training_mib']:,.0f}",
            ]
            for row in rows
        ]
        columns = ["", "d", "ms", "times faster than dense", "than the paper's", "roofline", "peak, MiB"]
        found += [f"**{dtype}, {tokens:,} tokens: forward / with gradients**", markdown(columns, cells)]
    return found


def _pair(row: Row, forward: str, training: str) -> str:
    if row[forward] is None:
        return "–"
    return f"{brief(row[forward])}× / {brief(row[training])}×"
