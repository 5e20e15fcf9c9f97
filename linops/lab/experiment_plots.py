"""Plots of the experiments: coordinate check, rate transfer, scaling."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps

from linops.lab import coord_check as check
from linops.lab import lr_sweep as transfer
from linops.lab import scaling_laws
from linops.lab.parsing import parse_label
from linops.lab.plots import compute_ticks, figure, plain_ticks, styles, write
from linops.lab.rates import NAIVE


def coord_check(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Δh against width, naive and structure-aware beside each other, with the fitted slopes.

    Args:
        rows: Rows of the check.
        path: The file.
    """
    made, axes = figure(2)
    fits = check.slopes(rows)
    looks = styles(fits)
    for axis, naive in zip(axes, (True, False)):
        for label, law in fits.items():
            plain, rule = parse_label(label)
            if label != "dense" and (rule == NAIVE) != naive:
                continue
            points = [(row["width"], row["layer_change"]) for row in rows if row["structure"] == label]
            widths = sorted({width for width, _ in points})
            means = [np.mean([value for width, value in points if width == at]) for at in widths]
            style = {**looks[label], "linestyle": "none"}
            axis.plot(widths, means, label=f"{plain}: slope {law}", **style)
            axis.plot(
                widths,
                law(np.array(widths)),
                color=style["color"],
                lw=1.2,
                ls="--" if naive and label != "dense" else "-",
            )
        axis.set_xscale("log", base=2)
        axis.set(yscale="log", xlabel="width", ylabel="Δh: RMS change of a structured layer's output")
        axis.set_title("naive rates: those of dense" if naive else "structure-aware rates")
        axis.set_xticks(widths, labels=[str(width) for width in widths])
        axis.legend(fontsize=8, frameon=False)
    low = min(axis.get_ylim()[0] for axis in axes)
    high = max(axis.get_ylim()[1] for axis in axes)
    for axis in axes:
        axis.set_ylim(low, high)
        plain_ticks(axis)
    write(made, path)


def lr_sweep(rows: Sequence[dict[str, Any]], path: Path, most: int = 3) -> None:
    """Train loss against the factor on structured weights' rates: a panel a structure, a line a width, optima marked.

    Losses above 5 times the greatest of the optima are cut off.

    Args:
        rows: Rows of the sweep.
        path: The file.
        most: Panels side by side, at most.
    """
    losses = transfer.mean_losses(rows)
    labels = list(dict.fromkeys(label for label, _ in losses))
    made, axes = figure(len(labels), width=5.4, most=most)
    widths = sorted({width for _, width in losses})
    for axis, label in zip(axes, labels):
        for number, width in enumerate(widths):
            curve = losses.get((label, width), {})
            if not curve:
                continue
            color = colormaps["viridis"](0.85 * number / max(len(widths) - 1, 1))
            best = min(curve, key=lambda factor: curve[factor])
            axis.plot(list(curve), list(curve.values()), "o-", color=color, ms=4, label=f"width {width}: best {best:g}")
            axis.plot([best], [curve[best]], "*", color=color, ms=14)
        axis.set_xscale("log", base=2)
        axis.set(
            yscale="log", xlabel="factor on the rates of structured weights", ylabel="train loss (nats)", title=label
        )
        factors = sorted({factor for (name, _), curve in losses.items() if name == label for factor in curve})
        axis.set_xticks(factors, labels=[f"{factor:g}" for factor in factors])
        axis.legend(fontsize=8, frameon=False)
    low, high = min(axis.get_ylim()[0] for axis in axes), max(axis.get_ylim()[1] for axis in axes)
    high = min(high, 5 * max((min(curve.values()) for curve in losses.values() if curve), default=high))
    for axis in axes:
        axis.set_ylim(low, high)
        plain_ticks(axis)
    write(made, path)


def scaling(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Train loss against MACs with fitted power laws; seeds as points, means as lines' markers.

    Args:
        rows: Rows of the experiment.
        path: The file.
    """
    made, (axis,) = figure(1, width=8.5, height=5)
    fits, points = scaling_laws.laws(rows), scaling_laws.curves(rows)
    looks = styles(points)
    for label, curve in points.items():
        style = looks[label]
        seeds = [(row["macs"], row["train_loss"]) for row in rows if row["structure"] == label]
        axis.plot(*zip(*seeds), ls="none", marker=".", color=style["color"], alpha=0.4, ms=5)
        law = fits.get(label)
        text = f"{label}: {law}" if law else label
        macs = np.array([macs for macs, _ in curve], float)
        axis.plot(macs, [loss for _, loss in curve], **{**style, "linestyle": "none"}, label=text, ms=7)
        if law:
            axis.plot(macs, law(macs), color=style["color"], ls=style["linestyle"], lw=1.2)
    axis.set(
        xscale="log", yscale="log", xlabel="MACs of an example, forward", ylabel="train loss (nats), all training data"
    )
    axis.set_title("exponents: loss ∝ MACs^slope, ± standard error")
    plain_ticks(axis)
    compute_ticks(axis)
    axis.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    write(made, path)
