"""``docs/evidence.md`` and its plots, from the rows of ``benchmarks/results/evidence.json`` alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any

from benchmarks.evidence.mark import mark
from benchmarks.evidence.plan import FACTORS, PLAN, TIMES, Part, finished, listed, rule_of
from benchmarks.tables import markdown
from linops.lab import experiment_plots, lr_sweep, scaling_laws
from linops.lab import tables as t
from linops.lab.fits import compute_multiplier
from linops.lab.parsing import parse_label
from linops.lab.rates import ADAM, MUON, NAIVE, RENORMALIZED, STATIC

PAGE = Path(__file__).parents[2] / "docs" / "evidence.md"
TEMPLATE = Path(__file__).with_name("page.md")
MISSING = "*Not run.*"
#: times the width, over which the best factor is to stay
SIXTEEN = 16
#: those that linops has, which are drawn
RULES = (STATIC, RENORMALIZED, NAIVE)

Row = dict[str, Any]
Rows = Sequence[Row]


def write(result: Mapping[str, Any], images: Path) -> list[Path]:
    """Writes the page and its plots.

    Args:
        result: Rows and conditions.
        images: The folder of plots.

    Returns:
        The files.
    """
    rows = result["rows"]
    PAGE.write_text(page(rows, result["conditions"]), encoding="utf-8")
    written = [PAGE]
    for optimizer in (MUON, ADAM):
        for name, draw, of in (
            ("transfer", _pairs, _of_all_widths(complete(select(rows, "lr-sweep", optimizer)))),
            ("scaling", experiment_plots.scaling, select(rows, "scaling", optimizer)),
        ):
            if of := [row for row in of if rule_of(row["structure"]) in RULES]:
                written.append(images / f"evidence_{name}_{optimizer}.png")
                draw(of, written[-1])
    return written


def _pairs(rows: Rows, path: Path) -> None:
    """Sweeps, the rules of a structure side by side, and dense, which has one, at the end."""
    experiment_plots.lr_sweep(sorted(rows, key=lambda row: row["structure"] == "dense"), path, most=2)


def page(rows: Rows, conditions: Mapping[str, Any]) -> str:
    """The page.

    Args:
        rows: The rows.
        conditions: Of the last of them.

    Returns:
        Markdown.
    """
    made = {
        "ran": _ran(rows),
        "waits": _waits(rows),
        "conditions": _conditions(rows, conditions),
        "transfer": _each(_transfer(rows, optimizer) for optimizer in (MUON, ADAM)),
        "scaling": _each(_scaling(rows, optimizer) for optimizer in (ADAM, MUON)),
        "mark": mark(select(rows, "scaling", ADAM)),
        "transformers": _each(
            _titled(f"**{data}, {optimizer}**", _scaling_table(select(rows, "scaling", optimizer, data)))
            for optimizer in (ADAM, MUON)
            for data in dict.fromkeys(row["data"] for row in rows)
            if " on " in data
        ),
        "times": _times(rows),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: made[match[1]], TEMPLATE.read_text(encoding="utf-8"))


def select(rows: Rows, experiment: str, optimizer: str, data: str = "mnist1d") -> list[Row]:
    """Rows of one experiment whose loss is finite.

    Args:
        rows: All rows.
        experiment: Its name in rows.
        optimizer: Of structured weights.
        data: The problem.

    Returns:
        The rows, in order of structure as they were run, and of seed.
    """
    kept = [row for row in rows if (row["experiment"], row["optimizer"], row["data"]) == (experiment, optimizer, data)]
    return [row for row in kept if experiment == TIMES or row["train_loss"] is not None]


def complete(rows: Rows) -> list[Row]:
    """Rows of those seeds that have every factor of the plan, at each width of each structure.

    Args:
        rows: Of rate transfer with one optimiser.

    Returns:
        The rows, of those factors alone.
    """
    found: dict[Any, set[float]] = {}
    for row in rows:
        found.setdefault((row["structure"], row["width"], row["seed"]), set()).add(row["lr_factor"])
    whole = {key for key, factors in found.items() for row in rows[:1] if factors >= set(FACTORS[row["optimizer"]])}
    return [
        row
        for row in rows
        if (row["structure"], row["width"], row["seed"]) in whole and row["lr_factor"] in FACTORS[row["optimizer"]]
    ]


def _each(parts: Iterable[str]) -> str:
    return "\n\n".join(part for part in parts if part) or MISSING


def _titled(title: str, text: str) -> str:
    return f"{title}\n\n{text}" if text else ""


def _ran(rows: Rows) -> str:
    return _listed((part, done) for part, done in finished(PLAN, rows) if done) if rows else MISSING


def _waits(rows: Rows) -> str:
    return _listed((part, done) for part, done in finished(PLAN, rows) if done < part.size)


def _listed(counted: Iterable[tuple[Part, int]]) -> str:
    return markdown(["part", "what", "runs"], listed(counted), left=2)


def _conditions(rows: Rows, conditions: Mapping[str, Any]) -> str:
    if not rows:
        return ""
    machines = ", ".join(conditions["machines"][number] for number in sorted({row["machine"] for row in rows}))
    commits = ", ".join(dict.fromkeys(str(row["commit"]) for row in rows))
    versions = ", ".join(f"{name} {number}" for name, number in conditions["versions"].items())
    diverged = sum(row.get("train_loss", 0) is None for row in rows)
    return (
        f"Machine: {machines}; one thread, float32, beside other work. Commits: {commits} (a plus: and changes). "
        f"Versions: {versions}; Python {conditions['python']}. The last run: {conditions['date']}. "
        f"Of all runs {diverged} diverged."
    )


def _seeds(rows: Rows, label: str) -> str:
    return ", ".join(map(str, sorted({row["seed"] for row in rows if row["structure"] == label})))


# ---------------------------------------------------------------- rate transfer


def _transfer(rows: Rows, optimizer: str) -> str:
    of = complete(select(rows, "lr-sweep", optimizer))
    if not of:
        return ""
    parts = [
        f"**{optimizer}: the best factor**",
        _best(_of_all_widths(of)),
        _titled("Loss at the best factor:", _against(of)),
    ]
    return _each([*parts, f"![Train loss against the factor, {optimizer}](images/evidence_transfer_{optimizer}.png)"])


def _of_all_widths(rows: Rows) -> list[Row]:
    """Rows of the seeds that a structure has at all its widths."""
    seeds: dict[str, dict[int, set[int]]] = {}
    for row in rows:
        seeds.setdefault(row["structure"], {}).setdefault(row["width"], set()).add(row["seed"])
    shared = {label: set.intersection(*by_width.values()) for label, by_width in seeds.items()}
    return [row for row in rows if row["seed"] in shared[row["structure"]]]


def _best(rows: Rows) -> str:
    """Best factors, how far they move over how many times the width, and what one factor for all widths costs."""
    curves, best = lr_sweep.mean_losses(rows), lr_sweep.best_factors(rows)
    widths = sorted({row["width"] for row in rows})
    cells = []
    for label, factors in best.items():
        moves = t.times(lr_sweep.drift(factors)) + f" over {max(factors) / min(factors):g}×"
        shared, above = _shared([curves[label, width] for width in factors])
        one = (f"{shared:g}", f"{100 * (above - 1):.1f} %")
        found = (_factor(factors[width], rows, label) if width in factors else t.NONE for width in widths)
        moved = (moves, *one) if len(factors) > 1 else (t.NONE,) * 3
        cells.append((label, _seeds(rows, label), *found, *moved))
    columns = [
        "structure",
        "seeds",
        *(f"width {width}" for width in widths),
        "moves by",
        "one for all",
        "above the best",
    ]
    return "\n\n".join([markdown(columns, cells, left=2), *_stays(best)])


def _stays(best: Mapping[str, Mapping[int, float]]) -> list[str]:
    """Whose best factor moves by at most 2 over 16 times the width, and whose does not; nothing if none has those."""
    wide = {label: lr_sweep.drift(dict(of)) for label, of in best.items() if max(of) >= SIXTEEN * min(of)}
    kept, moved = ([label for label, by in wide.items() if (by <= 2) == stays] for stays in (True, False))
    named = [f"{text} {', '.join(labels)}" for text, labels in (("at most 2 times:", kept), ("more:", moved)) if labels]
    return [f"Over {SIXTEEN} times the width, the best factor moves by {'; by '.join(named)}."] if wide else []


def _shared(curves: Sequence[Mapping[float, float]]) -> tuple[float, float]:
    """The factor whose loss is nowhere far above the best of its width, and how many times the best it is at most."""
    above = {factor: max(curve.get(factor, inf) / min(curve.values()) for curve in curves) for factor in curves[0]}
    return min(above.items(), key=lambda item: item[1])


def _factor(best: float, rows: Rows, label: str) -> str:
    """The best factor, marked where it is the least or the greatest that was tried."""
    tried = {row["lr_factor"] for row in rows if row["structure"] == label}
    return {min(tried): "≤ ", max(tried): "≥ "}.get(best, "") + f"{best:g}"


def _against(rows: Rows) -> str:
    """Losses at the best factor by rule, over the seeds that static rates have too."""
    cells: list[tuple[str, ...]] = []
    ratios: dict[str, list[tuple[float, str]]] = {}
    curves = lr_sweep.mean_losses(rows)
    for label, width in curves:
        plain, rule = parse_label(label)[0], rule_of(label)
        if rule == STATIC or (plain, width) not in curves:
            continue
        shared = {row["seed"] for row in rows if (row["structure"], row["width"]) == (label, width)}
        shared &= {row["seed"] for row in rows if (row["structure"], row["width"]) == (plain, width)}
        ours = lr_sweep.mean_losses([row for row in rows if row["seed"] in shared])
        if not shared:
            continue
        static, other = min(ours[plain, width].values()), min(ours[label, width].values())
        found = (f"{static:.3f}", f"{other:.3f}", f"{other / static:.3f}")
        cells.append((plain, rule, str(width), ", ".join(map(str, sorted(shared))), *found))
        ratios.setdefault(rule, []).append((other / static, f"{plain} at width {width}"))
    table = markdown(["structure", "rule", "width", "seeds", "static", "by the rule", "ratio"], cells, left=4)
    return "\n\n".join([table, *(_no_worse(rule, of) for rule, of in ratios.items() if rule == RENORMALIZED)])


def _no_worse(rule: str, found: Sequence[tuple[float, str]]) -> str:
    """Whether a rule loses nothing, of (ratio of losses, where) each."""
    lost = sum(ratio > 1 for ratio, _ in found)
    (least, there), (most, here) = min(found), max(found)
    return (
        f"*{rule}* loses to static rates in {lost} of {len(found)} comparisons; "
        f"ratios are from {least:.3f} ({there}) to {most:.3f} ({here})."
    )


# ---------------------------------------------------------------- scaling


def _scaling(rows: Rows, optimizer: str) -> str:
    of = select(rows, "scaling", optimizer)
    table = _scaling_table(of)
    plot = f"![Train loss against MACs, {optimizer}](images/evidence_scaling_{optimizer}.png)"
    return _each([f"**{optimizer}**", table, _over_dense(of), plot]) if table else ""


def _over_dense(rows: Rows) -> str:
    """Losses over dense's at the same budget, of each structure by the rules that linops has."""
    means, found = scaling_laws.by_budget(rows), []
    dense = means.get("dense", {})
    for label, of in means.items():
        ratios = [of[budget] / dense[budget] for budget in of if budget in dense]
        if ratios and label != "dense" and rule_of(label) in RULES:
            below = sum(ratio < 1 for ratio in ratios)
            found.append(f"{label} {min(ratios):.2f} to {max(ratios):.2f} (below dense at {below} of {len(ratios)})")
    return f"Losses over dense's at the same budget: {'; '.join(found)}." if found else ""


def _scaling_table(rows: Rows) -> str:
    """Losses by budget; seeds that a structure lacks at a budget are missing in its mean, so they are named."""
    if not rows:
        return ""
    (_, *columns), cells = scaling_laws.cells(rows)
    factors = {row["structure"]: f"{row['lr_factor']:g}" for row in rows}
    lines = [(label, _seeds(rows, label), factors[label], *rest) for label, *rest in cells]
    return markdown(["MACs at most", "seeds", "factor", *columns], lines)


def _times(rows: Rows) -> str:
    parts = []
    for data, optimizer in dict.fromkeys((row["data"], row["optimizer"]) for row in rows if row["experiment"] == TIMES):
        timed = select(rows, TIMES, optimizer, data)
        parts.append(_titled(f"**{data}, {optimizer}: a training step, over dense's**", _steps(timed)))
        saved = _saved(select(rows, "scaling", optimizer, data), timed)
        parts.append(_titled("What it saves to reach the loss of the largest dense model that was timed:", saved))
    return _each(parts)


def _steps(timed: Rows) -> str:
    labels = list(dict.fromkeys(label for row in timed for label in row["step_ms"]))
    ordered = sorted(timed, key=lambda row: row["budget"])

    def cell(row: Row, label: str) -> str:
        if label not in row["step_ms"]:
            return t.NONE
        return f"{row['step_ms'][label]:.3g} ms" if label == "dense" else t.times(row["to_dense"][label])

    cells = [(label, *(cell(row, label) for row in ordered)) for label in labels]
    return markdown(["MACs at most", *(t.short(row["budget"]) for row in ordered)], cells)


def _saved(rows: Rows, timed: Rows) -> str:
    """Dense's over a structure's MACs, time of steps and CPU seconds, for one loss, between neighbouring budgets."""
    steps = {(row["budget"], label): ms for row in timed for label, ms in row["step_ms"].items()}
    rows = [row for row in rows if (row["budget"], row["structure"]) in steps]
    curves: dict[str, dict[int, list[Row]]] = {}
    for row in rows:
        curves.setdefault(row["structure"], {}).setdefault(row["budget"], []).append(row)
    if "dense" not in curves:
        return ""
    measures = {
        "MACs": lambda group: group[0]["macs"],
        "time": lambda group: steps[group[0]["budget"], group[0]["structure"]] * group[0]["steps"],
        "CPU seconds": lambda group: sum(row["cpu_seconds"] for row in group) / len(group),
    }
    points = {
        label: {
            name: [(of(group), sum(row["train_loss"] for row in group) / len(group)) for group in groups.values()]
            for name, of in measures.items()
        }
        for label, groups in curves.items()
    }
    goal = min(loss for _, loss in points["dense"]["MACs"])
    cells = [
        (
            label,
            _seeds(rows, label),
            *(t.times(compute_multiplier(points["dense"][m], ours[m], goal)) for m in measures),
        )
        for label, ours in points.items()
        if label != "dense"
    ]
    return markdown([f"loss {goal:.3f}", "seeds", *measures], cells, left=2) if cells else ""
