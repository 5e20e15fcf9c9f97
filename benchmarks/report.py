"""``docs/benchmarks.md``, its plots, and what other pages have of results, from the JSON files of these alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import compression
from benchmarks import results as kept
from benchmarks.cuda import page as cuda
from benchmarks.evidence import page as evidence
from benchmarks.goals import bound_of, verdicts
from benchmarks.growth_fits import growths
from benchmarks.registry import BENCHMARKS
from benchmarks.reliability import page as reliability
from benchmarks.tables import brief, markdown, pivot, plain, span, text_of

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
IMAGES = ROOT / "docs" / "images"
TEMPLATE = Path(__file__).with_name("page.md")
MISSING = "*Not measured.*"
#: what stands in the place of a section, where there is more to say
ABSENT = {"cuda": cuda.ABSENT}

Results = Mapping[str, Mapping[str, Any]]
Rows = Sequence[Mapping[str, Any]]


def page(results: Results) -> str:
    """The page.

    Args:
        results: Results by name of the benchmark.

    Returns:
        Markdown.
    """
    made = {"goals": goals(results), "conditions": conditions(results)}
    for name, (benchmark, section) in SECTIONS.items():
        rows = results.get(benchmark, {}).get("rows")
        made[name] = section(rows) if rows else ABSENT.get(benchmark, MISSING)
    return re.sub(r"\{\{(\w+)\}\}", lambda match: made[match[1]], TEMPLATE.read_text(encoding="utf-8"))


def write() -> list[str]:
    """Writes the page and the plots.

    Returns:
        The files, relative to the checkout.
    """
    from benchmarks import plots

    results = kept.load_all()
    PAGE.write_text(page(results), encoding="utf-8")
    written = [PAGE, *plots.write(results, IMAGES)]
    if rows := results.get("reliability", {}).get("rows"):
        reliability.PAGE.write_text(reliability.page(rows), encoding="utf-8")
        written.append(reliability.PAGE)
    if rows := results.get("compression", {}).get("rows"):
        compression.PAGE.write_text(compression.page(rows), encoding="utf-8")
        written.append(compression.PAGE)
    if (found := results.get("evidence", {})).get("rows"):
        written += evidence.write(found, IMAGES)
    return [str(path.relative_to(ROOT)) for path in written]


def goals(results: Results) -> str:
    """The table of goals."""
    rows = [
        (
            verdict.goal.what,
            bound_of(verdict.goal),
            verdict.measured,
            verdict.text,
            f"`python -m benchmarks {verdict.goal.benchmark}`",
        )
        for verdict in verdicts(results)
    ]
    return markdown(["what", "goal", "measured", "verdict", "command"], rows, left=5)


def conditions(results: Results) -> str:
    """When and on what each benchmark was measured."""
    rows = []
    for name, result in results.items():
        known = result["conditions"]
        versions = ", ".join(f"{package} {number}" for package, number in known["versions"].items())
        machine = known.get("device") or f"{known['processor']}, {known['cores']} cores"
        when = f"{known['date']} {known.get('commit') or ''}".strip()
        rows.append(
            (
                name,
                when,
                machine,
                *(text_of(known.get(key)) for key in ("threads", "load_average", "seconds")),
                versions,
            )
        )
    return markdown(["benchmark", "date", "processor", "threads", "load", "seconds a case", "versions"], rows, left=7)


# ---------------------------------------------------------------- sections


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
    for title, key in (("forward", "forward_ratio"), ("training", "training_ratio")):
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
    return pivot(
        ours,
        "d",
        lambda row: row["structure"],
        lambda row: f"{row['backend']}, {row['d']}",
        lambda row: brief(row["plain_ratio"]),
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
    names = {key: name for key, name in names.items() if all(key in row for row in rows)}
    ordered = sorted(rows, key=lambda row: (row["d"], row["rank"], row["batch"]))
    cells = [
        [
            *(str(row[key]) for key in ("d", "rank", "batch")),
            *(text_of(row[key]) + ("×" if "speedup" in key else "") for key in names),
        ]
        for row in ordered
    ]
    return markdown(["d", "rank", "batch", *names.values()], cells)


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
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["what"] if row["kernels"] else "building, composing", []).append(row)
    backends = list(dict.fromkeys(row["backend"] for row in rows))
    cells = [
        [
            what,
            *(span([row["overhead"] for row in group if row["backend"] == backend]) for backend in backends),
            str(group[0]["goal"]),
        ]
        for what, group in groups.items()
    ]
    return markdown(["", *backends, "goal"], cells)


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


#: placeholder → (benchmark, what makes it of the rows)
SECTIONS: dict[str, tuple[str, Callable[[Rows], str]]] = {
    "families": ("families", _families),
    "roofline": ("families", _roofline),
    "vectors": ("families", _vectors),
    "btt": ("btt", _btt),
    "paper": ("families", _paper),
    "composed": ("composed", _composed),
    "peers": ("peers", _as_they_are("peers")),
    "linalg": ("linalg", _as_they_are("linalg")),
    "projection": ("projection", _as_they_are("projection")),
    "solves": ("solves", _as_they_are("solves")),
    "overhead": ("overhead", _overhead),
    "planning": ("planning", _as_they_are("planning")),
    "calibrate": ("calibrate", _as_they_are("calibrate")),
    "thresholds": ("thresholds", _as_they_are("thresholds")),
    "growth": ("growth", _growth),
    "compile": ("compile", _as_they_are("compile")),
    "symbolic": ("symbolic", _as_they_are("symbolic")),
    "cuda": ("cuda", cuda.section),
    "imports": ("imports", _as_they_are("imports")),
}
