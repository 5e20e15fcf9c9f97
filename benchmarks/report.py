"""``docs/benchmarks.md``, its plots, and what other pages have of results, from the JSON files of these alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from benchmarks import compression
from benchmarks import results as kept
from benchmarks.cuda import page as cuda
from benchmarks.evidence import page as evidence
from benchmarks.goals import GOALS, Verdict, bound_of, verdicts
from benchmarks.machines import Result, Results, by_machine, compared, dated, name_of, of_each, plotted
from benchmarks.reliability import page as reliability
from benchmarks.sections import MISSING, SECTIONS, Section
from benchmarks.tables import folded, markdown, text_of

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
IMAGES = ROOT / "docs" / "images"
TEMPLATE = Path(__file__).with_name("page.md")
#: what stands in the place of a section, where there is more to say
ABSENT = {"cuda": cuda.ABSENT}


def page(results: Results, earlier: Sequence[Results] = ()) -> str:
    """The page.

    Args:
        results: Results by name of the benchmark, of the machine at hand.
        earlier: Those of each machine before it.

    Returns:
        Markdown.
    """
    made = {"goals": goals(results, earlier), "conditions": conditions(results, earlier)}
    for name, section in SECTIONS.items():
        found = of_each(section.benchmark, results, earlier)
        made[name] = _section(section, found) if found else ABSENT.get(section.benchmark, MISSING)
    return re.sub(r"\{\{(\w+)\}\}", lambda match: made[match[1]], TEMPLATE.read_text(encoding="utf-8"))


def _section(section: Section, found: Sequence[Result]) -> str:
    """The tables of all machines: merged, or those of the first one with the others folded below."""
    first, *others = found
    if section.beside:
        measured = "; ".join(dated(result["conditions"]) for result in found)
        return f"*{measured}.*\n\n{section.tables(compared(found))}"
    parts = [f"*{dated(first['conditions'])}.*", _tables(section, first)]
    for result in others:
        parts.append(folded(dated(result["conditions"]), _tables(section, result, earlier=True)))
    return "\n\n".join(parts)


def _tables(section: Section, result: Result, earlier: bool = False) -> str:
    """Plots and tables of one machine."""
    pictures = "\n".join(f"![{title}](images/{name})" for name, title in section.pictures.items())
    text = "\n\n".join(filter(None, [pictures, section.tables(result["rows"])]))
    return re.sub(r"(?<=\]\(images/)[^)]+", lambda name: plotted(name[0], result), text) if earlier else text


def write() -> list[str]:
    """Writes the page and the plots.

    Returns:
        The files, relative to the checkout.
    """
    from benchmarks import plots

    results, earlier = kept.load_all(), kept.load_earlier()
    PAGE.write_text(page(results, earlier), encoding="utf-8")
    written = [PAGE, *plots.write(results, IMAGES, earlier)]
    if rows := results.get("reliability", {}).get("rows"):
        reliability.PAGE.write_text(reliability.page(rows), encoding="utf-8")
        written.append(reliability.PAGE)
    if rows := results.get("compression", {}).get("rows"):
        compression.PAGE.write_text(compression.page(rows), encoding="utf-8")
        written.append(compression.PAGE)
    if (found := results.get("evidence", {})).get("rows"):
        written += evidence.write(found, IMAGES)
    return [str(path.relative_to(ROOT)) for path in written]


def goals(results: Results, earlier: Sequence[Results] = ()) -> str:
    """The table of goals, with a column for each machine that something was measured on.

    Args:
        results: Results by name of the benchmark, of the machine at hand.
        earlier: Those of each machine before it.

    Returns:
        Markdown.
    """
    machines = by_machine((goal.benchmark for goal in GOALS), results, earlier)
    judged = [verdicts(of) for of in machines.values()]
    rows = [
        (f"{goal.what}: **{bound_of(goal)}** (`{goal.benchmark}`)", *(_judged(each[place]) for each in judged))
        for place, goal in enumerate(GOALS)
    ]
    table = markdown(["goal", *machines], rows, left=1 + len(machines))
    return f'<div class="goals" markdown="1">\n\n{table}\n\n</div>'


def _judged(verdict: Verdict) -> str:
    """Verdict and numbers."""
    return "–" if verdict.met is None else f"{verdict.text}: {verdict.measured}"


def conditions(results: Results, earlier: Sequence[Results] = ()) -> str:
    """When and on what each benchmark was measured.

    Args:
        results: Results by name of the benchmark, of the machine at hand.
        earlier: Those of each machine before it.

    Returns:
        Markdown.
    """
    rows = []
    for name in sorted({*results, *(name for each in earlier for name in each)}):
        for result in of_each(name, results, earlier):
            known = result["conditions"]
            versions = ", ".join(f"{package} {number}" for package, number in known["versions"].items())
            when = f"{known['date']} {known.get('commit') or ''}".strip()
            others = (text_of(known.get(key)) for key in ("threads", "load_average", "seconds"))
            rows.append((name, when, name_of(known), *others, versions))
    return markdown(["benchmark", "date", "machine", "threads", "load", "seconds a case", "versions"], rows, left=7)
