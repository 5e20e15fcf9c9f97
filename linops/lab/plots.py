"""Plots made to be read: log axes, one colour a structure, legends. Written to a file; no window, no global state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from linops.lab.parsing import parse_label
from linops.lab.tables import short

#: Okabe and Ito's colours, which the colour-blind tell apart
COLORS = {
    "dense": "#000000",
    "btt": "#D55E00",
    "monarch": "#0072B2",
    "low_rank": "#009E73",
    "kronecker": "#CC79A7",
    "tensor_train": "#E69F00",
    "block_diag": "#56B4E9",
}
OTHERS = ("#7F7F7F", "#8C564B", "#17BECF", "#BCBD22", "#9467BD")
MARKERS = "osD^vP*X"
#: structures whose MACs are all within this factor cost the same, for a plot
ALIKE = 1.5


def figure(
    panels: int = 1, width: float = 6.4, height: float = 4.4, most: int | None = None
) -> tuple[Figure, list[Axes]]:
    """A figure with panels side by side, in rows.

    Args:
        panels: How many.
        width: Of a panel, in inches.
        height: Of a row, in inches.
        most: Panels in a row; None puts all in one.

    Returns:
        The figure and its axes.
    """
    columns = min(panels, most or panels)
    rows = -(-panels // columns)
    made = Figure(figsize=(width * columns, height * rows), layout="constrained")
    FigureCanvasAgg(made)
    axes = [made.add_subplot(rows, columns, number + 1) for number in range(panels)]
    for axis in axes:
        axis.grid(True, which="major", alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    return made, axes


def write(made: Figure, path: Path) -> None:
    """Writes a figure; the file's suffix says the format.

    Args:
        made: The figure.
        path: The file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    made.savefig(path, dpi=150)


def styles(labels: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Colour, marker, line of each label; variants, naive or with options, share the family's colour where they can.

    Args:
        labels: Structures as written, perhaps with the rule of their rates, as `` (naive)``.

    Returns:
        Keyword arguments for `Axes.plot` by label.
    """
    styled: dict[str, dict[str, Any]] = {}
    spare = iter(OTHERS * 8)
    for number, label in enumerate(dict.fromkeys(labels)):
        plain, rule = parse_label(label)
        color = (
            COLORS.get(plain)
            or next((style["color"] for name, style in styled.items() if name == plain), None)
            or next(spare)
        )
        marker = MARKERS[list(COLORS).index(plain) % len(MARKERS) if plain in COLORS else number % len(MARKERS)]
        styled[label] = {
            "color": color,
            "marker": marker,
            "linestyle": {"": "-", "naive": "--"}.get(rule, ":"),
            "mfc": "white" if rule else color,
        }
    return styled


def compare(comparison: Mapping[str, Any], path: Path) -> None:
    """Time against MACs, both as a share of dense: on the diagonal, a structure is as fast as its MACs promise.

    Args:
        comparison: From `linops.lab.comparison.Comparison.to_dict`.
        path: The file.
    """
    rows = comparison["rows"]
    both = [("forward_ratio", "forward"), ("forward_backward_ratio", "forward + backward")]
    kinds = [(key, title) for key, title in both if rows[0][key] is not None]
    made, axes = figure(len(kinds))
    looks = styles(row["structure"] for row in rows)
    for axis, (key, title) in zip(axes, kinds):
        shares = np.array([row["share"] for row in rows])
        ratios = np.array([row[key] for row in rows])
        low = min(shares.min(), ratios.min()) / 1.5
        axis.plot([low, 1.5], [low, 1.5], color="#999999", lw=1, label="time falls as MACs do")
        axis.axhline(1, color="#999999", lw=1, ls=":", label="time of dense")
        for row, share, ratio in zip(rows, shares, ratios):
            style = {**looks[row["structure"]], "linestyle": "none"}
            axis.plot([share], [ratio], markersize=8, label=row["structure"], **style)
        axis.set(xscale="log", yscale="log", xlabel="MACs, share of dense", ylabel="time, share of dense", title=title)
    axes[-1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    shape = f"{comparison['out_features']}×{comparison['in_features']}"
    made.suptitle(f"{shape}, {comparison['batch']} vectors, {comparison['backend']} {comparison['dtype']}")
    write(made, path)


def training(rows: Sequence[Mapping[str, Any]], losses: Sequence[Sequence[float]], path: Path) -> None:
    """The final train loss of each structure, and the loss along the way against the MACs spent.

    The final losses are a line a structure where all cost the same, and otherwise stand against the MACs of an example.

    Args:
        rows: Rows of results.json.
        losses: The loss at every step, one list a row.
        path: The file.
    """
    made, (final, course) = figure(2)
    looks = styles(row["structure"] for row in rows)
    if max(row["macs"] for row in rows) < ALIKE * min(row["macs"] for row in rows):
        _ranking(final, rows, looks)
    else:
        _against_macs(final, rows, looks)
    labelled: set[str] = set()
    for row, curve in zip(rows, losses):
        style = looks[row["structure"]]
        label = None if row["structure"] in labelled else row["structure"]
        labelled.add(row["structure"])
        window = max(len(curve) // 20, 1)
        smooth = np.convolve(curve, np.ones(window) / window, "valid")
        steps = np.arange(len(smooth)) + window
        course.plot(
            3 * row["macs"] * row["batch"] * steps,
            smooth,
            color=style["color"],
            ls=style["linestyle"],
            label=label,
            lw=1.5,
        )
    course.set(
        xscale="log",
        yscale="log",
        xlabel="MACs spent (forward and backward: 3× forward)",
        ylabel="train loss (nats), moving average",
    )
    course.set_title("on the way")
    plain_ticks(course)
    compute_ticks(course)
    course.legend(fontsize=8, frameon=False)
    write(made, path)


def _ranking(axis: Axes, rows: Sequence[Mapping[str, Any]], looks: Mapping[str, Any]) -> None:
    """The train loss of each structure on a line of its own, the least on top; a point a seed, a bar to the mean."""
    groups: dict[str, list[float]] = {}
    for row in rows:
        groups.setdefault(row["structure"], []).append(row["train_loss"])
    names = sorted(groups, key=lambda name: float(np.mean(groups[name])), reverse=True)
    for place, name in enumerate(names):
        style, found = looks[name], groups[name]
        axis.barh(place, float(np.mean(found)), height=0.5, color=style["color"], alpha=0.25)
        axis.plot(found, [place] * len(found), markersize=8, **{**style, "linestyle": "none"})
        axis.annotate(
            f"{np.mean(found):.3g}", (max(found), place), textcoords="offset points", xytext=(9, -3), fontsize=8
        )
    axis.set_yticks(range(len(names)), labels=names)
    low, high = min(row["macs"] for row in rows), max(row["macs"] for row in rows)
    cost = short(low) if short(low) == short(high) else f"{short(low)} – {short(high)}"
    axis.set(
        xlim=(0, 1.12 * max(map(max, groups.values()))),
        xlabel=f"train loss (nats), all training data; {cost} MACs an example",
    )
    axis.grid(False, axis="y")
    axis.set_title(
        "after training" + ("; points: seeds, bars: their mean" if max(map(len, groups.values())) > 1 else "")
    )


def _against_macs(axis: Axes, rows: Sequence[Mapping[str, Any]], looks: Mapping[str, Any]) -> None:
    """The train loss against the MACs of an example."""
    labelled: set[str] = set()
    for row in rows:
        label = None if row["structure"] in labelled else row["structure"]
        labelled.add(row["structure"])
        style = {**looks[row["structure"]], "linestyle": "none"}
        axis.plot([row["macs"]], [row["train_loss"]], markersize=8, label=label, **style)
    axis.set(
        xscale="log", yscale="log", xlabel="MACs of an example, forward", ylabel="train loss (nats), all training data"
    )
    axis.set_title("after training")
    plain_ticks(axis)
    compute_ticks(axis)
    axis.legend(fontsize=8, frameon=False)


def compute_ticks(axis: Axes) -> None:
    """Marks a log axis of MACs as 20k, 50k, 100k …, more sparsely the more decades are shown.

    Args:
        axis: The axes; their limits are final.
    """
    low, high = axis.get_xlim()
    mantissas = (1, 2, 5) if high < 100 * low else (1,)
    shown = [
        mantissa * 10**power for power in range(18) for mantissa in mantissas if low <= mantissa * 10**power <= high
    ]
    axis.set_xticks(shown, labels=[short(value) for value in shown])
    axis.set_xticks([], minor=True)


def plain_ticks(axis: Axes) -> None:
    """Marks a log axis of losses with plain decimals, and a few of them even where less than a decade is shown.

    Args:
        axis: The axes; their limits are final.
    """
    low, high = axis.get_ylim()
    candidates = [mantissa * 10.0**power for power in range(-6, 3) for mantissa in (1, 1.5, 2, 3, 5, 7)]
    shown = [value for value in candidates if low <= value <= high]
    if len(shown) < 3:
        shown = list(np.geomspace(low, high, 5))
    axis.set_yticks(shown, labels=[f"{value:.2g}" for value in shown])
    axis.set_yticks([], minor=True)
