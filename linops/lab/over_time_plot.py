"""The plot of `linops.lab.over_time`: ‖ΔW‖₂ / lr against steps, a row a width and optimiser, static beside new."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from linops.lab.over_time import curve, grouped
from linops.lab.plots import plain_ticks, styles, write


def over_time(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """‖ΔW‖₂ / lr of single steps against the step, mean over layers and seeds.

    A row of panels for each optimiser and rate, a column for each rule; a line for each structure and width, the wider
    the thicker.

    Args:
        rows: Rows of the check.
        path: The file.
    """
    groups = grouped(rows)
    looks = styles(structure for _, _, structure, _, _ in groups)
    ways = list(dict.fromkeys((optimizer, lr) for optimizer, lr, *_ in groups))
    rules = list(dict.fromkeys(rule for _, _, _, rule, _ in groups))
    widths = sorted({width for *_, width in groups})
    made = Figure(figsize=(5.4 * len(rules) + 1.6, 3.4 * len(ways)), layout="constrained")
    FigureCanvasAgg(made)
    axes = made.subplots(len(ways), len(rules), sharex=True, sharey="row", squeeze=False)
    labelled: dict[str, Any] = {}
    for row, (optimizer, lr) in enumerate(ways):
        for column, rule in enumerate(rules):
            axis = axes[row][column]
            axis.grid(True, which="major", alpha=0.3)
            axis.spines[["top", "right"]].set_visible(False)
            axis.set(yscale="log", title=f"{optimizer}, rate {lr:g}, {rule}")
            if not any(key[:2] == (optimizer, lr) and key[3] == rule for key in groups):
                axis.set_visible(False)
                continue
            for (name, rate, structure, its_rule, width), group in groups.items():
                # dense has one rule, and stands in both panels to be compared with
                if (name, rate) != (optimizer, lr) or (its_rule != rule and structure != "dense"):
                    continue
                style = {"color": looks[structure]["color"], "lw": 0.8 + 1.2 * widths.index(width)}
                steps, values = group[0]["looks"], curve(group)
                (line,) = axis.plot(steps[1:], values[1:], **style)
                labelled.setdefault(structure, line)
            if column == 0:
                axis.set_ylabel("‖ΔW‖₂ / lr of one step")
            if row == len(ways) - 1:
                axis.set_xlabel("step")
            plain_ticks(axis)
    made.legend(labelled.values(), labelled.keys(), loc="outside right upper", frameon=False)
    listed = ", ".join(str(width) for width in widths)
    sizes = f"width {listed}" if len(widths) == 1 else f"widths {listed}, the wider the thicker"
    made.suptitle(f"How far one step moves a layer: mean over layers and seeds; {sizes}", fontsize=10)
    write(made, path)
