"""Mark C of the experiment in miniature, stated as found: each sentence with its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from math import hypot
from typing import Any

from linops.lab import scaling_laws
from linops.lab import tables as t
from linops.lab.fits import compute_multiplier

#: MACs from which BTT is to be below dense, and up to which the mark was first tried: dense at width 256
LEAST, FIRST = 5e4, 1.1e6

Row = dict[str, Any]


def mark(rows: Sequence[Row]) -> str:
    """What was found of the mark.

    Args:
        rows: Of scaling under Adam, on MNIST-1D.

    Returns:
        Markdown: a list, or that it was not run.
    """
    labels = {row["structure"] for row in rows}
    if not {"dense", "btt"} <= labels:
        return "*Not run.*"
    shared = sorted(
        set.intersection(*({row["seed"] for row in rows if row["structure"] == n} for n in ("dense", "btt")))
    )
    lines = [_below(rows), *_saves(rows), *_gaps(rows), *_above(rows)]
    return f"Dense and BTT over the seeds {', '.join(map(str, shared))}.\n\n" + "\n".join(f"* {line}" for line in lines)


def _verdict(holds: bool) -> str:
    return "met" if holds else "missed"


def _below(rows: Sequence[Row]) -> str:
    losses = scaling_laws.by_budget(rows)
    dense, btt = losses["dense"], losses["btt"]
    budgets = sorted(budget for budget in dense if budget in btt and budget >= LEAST)
    won = [budget for budget in budgets if btt[budget] < dense[budget]]
    text = f"BTT is below dense at {len(won)} of {len(budgets)} budgets from 50k MACs ({_verdict(won == budgets)})."
    return text + "".join(f" At {t.short(b)} it is not." for b in budgets if b not in won)


def _saves(rows: Sequence[Row]) -> list[str]:
    curves = scaling_laws.curves(rows)
    found = []
    for macs, loss in curves["dense"]:
        if macs > 0.9e6:
            saved = compute_multiplier(curves["dense"], curves["btt"], loss)
            verdict = f" ({_verdict(saved is not None and saved >= 2)})" if macs < FIRST else ""
            found.append(f"BTT reaches dense's loss at {t.short(macs)} MACs with {t.times(saved)} fewer MACs{verdict}.")
    return found


def _gaps(rows: Sequence[Row]) -> list[str]:
    found = []
    largest = max(row["budget"] for row in rows)
    for most in (FIRST, largest) if largest > FIRST else (FIRST,):
        pair = [row for row in rows if row["structure"] in ("dense", "btt") and row["budget"] <= most]
        laws, bent = scaling_laws.laws(pair), scaling_laws.gaps(pair)
        if len(laws) < 2 or "btt" not in bent:
            continue
        gap = laws["dense"].exponent - laws["btt"].exponent
        error = hypot(laws["dense"].standard_error, laws["btt"].standard_error)
        steeper, its_error = -bent["btt"][0], bent["btt"][1]
        found.append(
            f"Up to {t.short(max(row['budget'] for row in pair))} MACs the exponents of BTT and dense differ by "
            f"{gap:.3f}, or {gap / error:.1f} standard errors of two separate fits ({_verdict(gap > 3 * error)}); "
            f"where both curves bend alike, by {steeper:.3f}, or {steeper / its_error:.1f}."
        )
    return found


def _above(rows: Sequence[Row]) -> list[str]:
    losses, found = scaling_laws.by_budget(rows), []
    dense = losses["dense"]
    for label in ("btt (naive)", "kronecker", "low_rank"):
        if label not in losses:
            found.append(f"{label}: not run.")
            continue
        ours = {budget: loss for budget, loss in losses[label].items() if budget in dense}
        above = [budget for budget, loss in ours.items() if loss > dense[budget]]
        found.append(
            f"{label} is above dense at {len(above)} of {len(ours)} budgets ({_verdict(len(above) == len(ours))})."
        )
    return found
