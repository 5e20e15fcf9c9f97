"""The sections of ``docs/benchmarks.md``: the tables that are made of the rows of a benchmark."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.cuda import page as cuda
from benchmarks.growth_fits import growths
from benchmarks.machines import Rows
from benchmarks.registry import BENCHMARKS
from benchmarks.tables import brief, markdown, pivot, plain, span, text_of

MISSING = "*Not measured.*"


@dataclass(frozen=True)
class Section:
    """A section, or a part of one.

    Attributes:
        benchmark: Whose rows.
        tables: Markdown of them.
        pictures: Titles of plots above the tables, by the name of the file.
        beside: Whether rows of more machines stand in one table; otherwise those of earlier ones are folded below.
    """

    benchmark: str
    tables: Callable[[Rows], str]
    pictures: Mapping[str, str] = field(default_factory=dict)
    beside: bool = False


def _column(row: Mapping[str, Any]) -> str:
    return f"{row['d']}, {row['batch']}"


def _ordered(rows: Rows) -> Rows:
    return sorted(rows, key=lambda row: (row["d"], row["batch"]))


def _faster(key: str) -> Callable[[Mapping[str, Any]], str]:
    """The cell of a ratio to dense: times faster, bold where slower."""

    def cell(row: Mapping[str, Any]) -> str:
        text = f"{brief(1 / row[key])}×"
        return f"**{text}**" if text.startswith("0") else text

    return cell


def _families(rows: Rows) -> str:
    parts = []
    for title, key in (
        ("forward", "forward_ratio"),
        ("forward with the compiled kernel", "compiled_ratio"),
        ("training", "training_ratio"),
        ("training with the compiled kernel", "compiled_training_ratio"),
    ):
        for backend in dict.fromkeys(row["backend"] for row in rows):
            ours = [
                row
                for row in _ordered(rows)
                if row["backend"] == backend and row["structure"] != "dense" and key in row
            ]
            if ours:
                table = pivot(ours, "d, batch", lambda row: row["structure"], _column, _faster(key))
                parts.append(f"**{backend}, {title}**\n\n{table}")
    return "\n\n".join(parts)


def _roofline(rows: Rows) -> str:
    parts = []
    for backend in dict.fromkeys(row["backend"] for row in rows):
        ours = [row for row in _ordered(rows) if row["backend"] == backend]
        table = pivot(
            ours, "d, batch", lambda row: row["structure"], _column, lambda row: f"{100 * row['roofline']:.0f} %"
        )
        parts.append(f"**{backend}, forward**\n\n{table}")
    return "\n\n".join(parts)


def _vectors(rows: Rows) -> str:
    ours = [row for row in sorted(rows, key=lambda row: row["d"]) if "plain_ratio" in row]
    if not ours:
        return MISSING
    ours.sort(key=lambda row: [row["backend"] for row in rows].index(row["backend"]))
    lines = [
        (row, f"{row['backend']}{mode}, {row['d']}", row[key])
        for backend in dict.fromkeys(row["backend"] for row in ours)
        for key, mode in (("plain_ratio", ""), ("compiled_plain_ratio", " with the compiled kernel"))
        for row in ours
        if row["backend"] == backend and key in row
    ]
    cells = [{"structure": row["structure"], "column": column, "ratio": ratio} for row, column, ratio in lines]
    return pivot(
        cells, "d", lambda cell: cell["structure"], lambda cell: cell["column"], lambda cell: brief(cell["ratio"])
    )


def _btt(rows: Rows) -> str:
    names = {
        "paper_ms": "paper, ms",
        "operator_speedup": "features first",
        "layer_speedup": "layer",
        "layer_contiguous_speedup": "layer, contiguous",
        "compiled_speedup": "compiled kernel",
        "training_paper_ms": "training: paper, ms",
        "training_operator_speedup": "features first",
        "training_layer_speedup": "layer",
        "training_compiled_speedup": "compiled kernel",
    }
    names = {key: name for key, name in names.items() if any(key in row for row in rows)}
    cases = [key for key in ("machine", "d", "rank", "batch") if key in rows[0]]
    ordered = sorted(rows, key=lambda row: (row["d"], row["rank"], row["batch"]))
    cells = [
        [
            *(str(row[key]) for key in cases),
            *(text_of(row[key]) + ("×" if "speedup" in key else "") if key in row else "–" for key in names),
        ]
        for row in ordered
    ]
    return markdown([*cases, *names.values()], cells)


def _paper(rows: Rows) -> str:
    ours = [row for row in _ordered(rows) if "paper_ratio" in row]
    if not ours:
        return MISSING

    def cell(row: Mapping[str, Any]) -> str:
        return f"{brief(1 / row['paper_ratio'])}× / {brief(1 / row['paper_training_ratio'])}×"

    return pivot(ours, "d, batch", lambda row: row["structure"], _column, cell)


def _composed(rows: Rows) -> str:
    ordered = sorted(_ordered(rows), key=lambda row: row["blocks"] != 4)

    def line(row: Mapping[str, Any]) -> str:
        return f"{row['backend']}, {'4' if row['blocks'] == 4 else '√d'} blocks"

    return pivot(ordered, "d, batch", line, _column, lambda row: brief(row["ratio"]))


def _overhead(rows: Rows) -> str:
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    machines = ["machine"] if "machine" in rows[0] else []
    for row in rows:
        what = row["what"] if row["kernels"] else "building, composing"
        groups.setdefault((what, *(row[key] for key in machines)), []).append(row)
    whats = list(dict.fromkeys(what for what, *_ in groups))  # those of one case stay together
    backends = list(dict.fromkeys(row["backend"] for row in rows))
    known = [(backend, backend, "overhead") for backend in backends]
    if any("compiled_overhead" in row for row in rows):
        known.append(("torch, compiled", "torch", "compiled_overhead"))
    cells = [
        [*case, *(_span_of(group, backend, key) for _, backend, key in known), str(group[0]["goal"])]
        for case, group in sorted(groups.items(), key=lambda item: whats.index(item[0][0]))
    ]
    return markdown(["", *machines, *(name for name, *_ in known), "goal"], cells, left=1 + len(machines))


def _span_of(rows: Rows, backend: str, key: str) -> str:
    """The range of overheads on a backend."""
    known = [row[key] for row in rows if row["backend"] == backend and key in row]
    return span(known) if known else "–"


def _growth(rows: Rows) -> str:
    parts = []
    for against, title in (("d", f"Against d, {_batch_of(rows)} vectors"), ("batch", "Against the number of vectors")):
        cells = []
        for growth in growths(rows, against):
            laws = [growth.time, growth.flops, growth.training, growth.memory, growth.training_memory]
            time, flops, *others = (f"{law.exponent:.2f}" if law else "–" for law in laws)
            error = f" ± {growth.time.standard_error:.2f}" if growth.time else ""
            cells.append([growth.structure, str(len(growth.fitted)), time + error, flops, growth.theory, *others])
        columns = ["", "points", "time", "FLOPs", "theory", "training time", "memory", "training memory"]
        parts.append(f"**{title}: exponents**\n\n{markdown(columns, cells)}")
    ours = [row for row in rows if row["against"] == "factors"]
    if ours:
        first = {
            name: min((row for row in ours if row["structure"] == name), key=lambda row: row["factors"])
            for name in _names(ours)
        }

        def cell(row: Mapping[str, Any]) -> str:
            least = first[row["structure"]]
            return f"{brief(row['forward_us'] / least['forward_us'])} / {brief(row['flops'] / least['flops'])}"

        ours.sort(key=lambda row: row["factors"])
        table = pivot(ours, "factors", lambda row: row["structure"], lambda row: str(row["factors"]), cell)
        law = next(
            (
                growth.time
                for growth in growths(ours, "factors")
                if growth.time and growth.structure.startswith("product")
            ),
            None,
        )
        text = f"\nThe time of the product grows with the exponent {law} (theory 1)." if law else ""
        parts.append(
            f"**Against the number of factors, d = {ours[0]['d']}: time / FLOPs, over those of the fewest factors**\n\n"
            f"{table}\n\nA Kronecker product of c factors takes c·d^(1 + 1/c) MACs a vector.{text}"
        )
    return "\n\n".join(parts)


def _batch_of(rows: Rows) -> int:
    return next((row["batch"] for row in rows if row["against"] == "d"), 0)


def _names(rows: Rows) -> list[str]:
    return list(dict.fromkeys(row["structure"] for row in rows))


def _as_they_are(name: str) -> Callable[[Rows], str]:
    """The tables that the benchmark makes of its rows."""

    def section(rows: Rows) -> str:
        known = [dict(row) for row in rows]
        return "\n\n".join(map(plain, BENCHMARKS[name].tables(known) if name in BENCHMARKS else [known]))

    return section


#: by placeholder
SECTIONS = {
    "families": Section(
        "families",
        _families,
        {"bench_forward.png": "Forward time over dense", "bench_training.png": "Training time over dense"},
    ),
    "roofline": Section("families", _roofline),
    "vectors": Section("families", _vectors),
    "btt": Section("btt", _btt, beside=True),
    "paper": Section("families", _paper),
    "composed": Section("composed", _composed),
    "peers": Section("peers", _as_they_are("peers")),
    "linalg": Section("linalg", _as_they_are("linalg")),
    "projection": Section("projection", _as_they_are("projection")),
    "solves": Section("solves", _as_they_are("solves"), beside=True),
    "overhead": Section("overhead", _overhead, beside=True),
    "planning": Section("planning", _as_they_are("planning")),
    "calibrate": Section("calibrate", _as_they_are("calibrate"), beside=True),
    "thresholds": Section("thresholds", _as_they_are("thresholds")),
    "growth": Section(
        "growth",
        _growth,
        {
            "bench_growth.png": "Time against d and batch",
            "bench_factors.png": "Time against the number of factors",
            "bench_memory.png": "Peak memory against d",
        },
    ),
    "compile": Section("compile", _as_they_are("compile"), beside=True),
    "symbolic": Section("symbolic", _as_they_are("symbolic"), beside=True),
    "cuda": Section("cuda", cuda.section),
    "imports": Section("imports", _as_they_are("imports"), beside=True),
}
