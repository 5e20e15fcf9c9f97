"""Plots of the results: ratios to dense by family and size, on CPUs and on a GPU, and growth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from benchmarks.cuda import page
from benchmarks.growth_fits import growths
from benchmarks.machines import Results, Rows, of_each, plotted
from linops.lab.plots import COLORS, figure
from linops.lab.plots import write as write_figure

FAMILY_COLORS = COLORS | {
    "blast": "#8C564B",
    "butterfly": "#7F7F7F",
    "circulant": "#17BECF",
    "toeplitz": "#9467BD",
    "product": "#BCBD22",
}
FAMILY_MARKERS = dict(zip(FAMILY_COLORS, "osD^vP*Xdhp<"))
PREFERRED = ("torch", "numpy", "jax")


def look(structure: str) -> dict[str, Any]:
    """Colour and marker of a structure's family; dashed and hollow where it has options.

    Args:
        structure: The structure as written.

    Returns:
        Keywords of `Axes.plot`.
    """
    family = structure.partition(":")[0].partition(" ")[0]
    color, options = FAMILY_COLORS[family], ":" in structure and family != "tensor_train"
    style = {"color": color, "marker": FAMILY_MARKERS[family], "linestyle": "--" if options else "-"}
    return style | {"mfc": "white" if options else color, "markersize": 5, "lw": 1.4, "label": structure}


def ratios(rows: Rows, path: Path, key: str, title: str) -> None:
    """Time over dense's against the batch, a panel a size, on one backend.

    Args:
        rows: Those of `benchmarks.families`.
        path: The file.
        key: The ratio.
        title: What it is of.
    """
    rows = [row for row in rows if key in row]
    backend = next((name for name in PREFERRED if any(row["backend"] == name for row in rows)), None)
    rows = [row for row in rows if row["backend"] == backend]
    sizes = sorted({row["d"] for row in rows})
    if not sizes:
        return
    made, axes = figure(len(sizes), width=4.2, height=4.4)
    batches = sorted({row["batch"] for row in rows})
    for axis, d in zip(axes, sizes):
        for name in dict.fromkeys(row["structure"] for row in rows if row["structure"] != "dense"):
            ours = sorted(
                (row for row in rows if row["d"] == d and row["structure"] == name), key=lambda row: row["batch"]
            )
            axis.plot([row["batch"] for row in ours], [row[key] for row in ours], **look(name))
        axis.axhline(1, color="black", lw=1)
        axis.annotate("dense", (batches[-1], 1), textcoords="offset points", xytext=(2, 3), fontsize=8, ha="right")
        axis.set(xscale="log", yscale="log", xlabel="vectors", title=f"d = {d}")
        axis.set_xticks(batches, labels=[f"{batch:,}" for batch in batches])
        axis.set_xticks([], minor=True)
    low, high = min(axis.get_ylim()[0] for axis in axes), max(axis.get_ylim()[1] for axis in axes)
    ticks = [value for value in (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100) if low <= value <= high]
    for axis in axes:
        axis.set_ylim(low, high)
        axis.set_yticks(ticks, labels=[f"{tick:g}" for tick in ticks])
        axis.set_yticks([], minor=True)
    axes[0].set_ylabel("time over dense (lower is faster)")
    _legend(axes[-1], None)
    made.suptitle(f"{title}, {backend}, float32")
    write_figure(made, path)


def growth(rows: Rows, path: Path) -> None:
    """Forward time against d and against the batch, with the fitted laws.

    Args:
        rows: Those of `benchmarks.growth`.
        path: The file.
    """
    made, axes = figure(2, width=5.8, height=4.6)
    for axis, (against, label) in zip(axes, (("d", "d = in = out"), ("batch", "vectors"))):
        for found in growths(rows, against):
            style = {**look(found.structure), "linestyle": "none"}
            if found.time and found.flops:
                style["label"] += f": {found.time.exponent:.2f} ({found.flops.exponent:.2f})"
            above = {id(row) for row in found.fitted}
            axis.plot(*_points(found.fitted, against), **style)
            below = [row for row in found.rows if id(row) not in above]
            axis.plot(*_points(below, against), **style | {"alpha": 0.3, "label": None})
            if found.time:
                ends = np.array([found.fitted[0][against], found.fitted[-1][against]], float)
                axis.plot(ends, 1e-3 * found.time(ends), color=style["color"], lw=1.2)
        axis.set(xscale="log", yscale="log", xlabel=label, ylabel="milliseconds")
        ours = [row for row in rows if row["against"] == against]
        axis.set_title(f"{ours[0]['batch']} vectors" if against == "d" else f"d = {ours[0]['d']}")
        _plain(axis, sorted({row[against] for row in ours}))
        _legend(axis, "fitted exponent (of FLOPs)")
    made.suptitle(
        "forward time, torch, float32; faint points are too near the overhead, or of too few vectors, to be fitted"
    )
    write_figure(made, path)


def _points(rows: Rows, against: str) -> tuple[list[float], list[float]]:
    return [row[against] for row in rows], [1e-3 * row["forward_us"] for row in rows]


def factors(rows: Rows, path: Path) -> None:
    """Forward time against the number of factors, and as FLOPs would have it.

    Args:
        rows: Those of `benchmarks.growth`.
        path: The file.
    """
    made, (axis,) = figure(1, width=7.4, height=4.2)
    for found in growths(rows, "factors"):
        style, (counts, times) = look(found.structure), _points(found.rows, "factors")
        axis.plot(counts, times, **style)
        flops = [row["flops"] / found.rows[0]["flops"] * times[0] for row in found.rows]
        axis.plot(counts, flops, color=style["color"], ls=":", lw=1)
    axis.plot([], [], color="#777777", ls=":", lw=1, label="as FLOPs from the first point")
    axis.set(xscale="log", yscale="log", xlabel="factors or cores", ylabel="milliseconds")
    ours = [row for row in rows if row["against"] == "factors"]
    _plain(axis, sorted({row["factors"] for row in ours}))
    _legend(axis, None)
    axis.set_title(f"forward time, d = {ours[0]['d']}, {ours[0]['batch']} vectors, torch, float32")
    write_figure(made, path)


def memory(rows: Rows, path: Path) -> None:
    """Peak memory against d, forward and with gradients.

    Args:
        rows: Those of `benchmarks.growth`.
        path: The file.
    """
    made, axes = figure(2, width=5.6, height=4.4)
    for axis, (key, title) in zip(axes, (("forward_bytes", "forward"), ("training_bytes", "forward + backward"))):
        for found in growths(rows, "d"):
            law = found.memory if key == "forward_bytes" else found.training_memory
            style = look(found.structure)
            style["label"] += f": {law.exponent:.2f}" if law else ""
            axis.plot([row["d"] for row in found.rows], [row[key] / 2**20 for row in found.rows], **style)
        axis.set(xscale="log", yscale="log", xlabel="d = in = out", ylabel="MiB", title=title)
        _plain(axis, sorted({row["d"] for row in rows if row["against"] == "d"}))
        _legend(axis, "fitted exponent")
    batch = next(row["batch"] for row in rows if row["against"] == "d")
    made.suptitle(f"peak memory beyond the operands, {batch} vectors, torch, float32")
    write_figure(made, path)


def cuda(rows: Rows, path: Path) -> None:
    """Time over dense's against d, a panel for each dtype and number of tokens, with gradients.

    Args:
        rows: Those of `benchmarks.cuda.measure`.
        path: The file.
    """
    timed = [row for row in page.summary(rows) if row["training_speedup"]]
    panels = list(dict.fromkeys((row["dtype"], row["tokens"]) for row in timed))
    made, axes = figure(max(len(panels), 1), width=4.2, height=4.4)
    for axis, panel in zip(axes, panels):
        ours = [row for row in timed if (row["dtype"], row["tokens"]) == panel]
        for name in dict.fromkeys(row["structure"] for row in ours):
            if name == page.DENSE or ": " in name:  # the paper's, and compiled ones
                continue
            points = sorted((row["d"], 1 / row["training_speedup"]) for row in ours if row["structure"] == name)
            axis.plot(*zip(*points), **look(name))
        sizes = sorted({row["d"] for row in ours})
        axis.axhline(1, color="black", lw=1)
        axis.set(xscale="log", yscale="log", xlabel="d = in = out", title=f"{panel[0]}, {panel[1]:,} tokens")
        axis.set_xticks(sizes, labels=[f"{size:,}" for size in sizes])
        axis.set_xticks([], minor=True)
    axes[0].set_ylabel("time over nn.Linear (lower is faster)")
    _legend(axes[-1], None)
    made.suptitle("forward + backward on a GPU")
    write_figure(made, path)


def _legend(axis: Axes, title: str | None) -> None:
    axis.legend(
        title=title,
        fontsize=8,
        title_fontsize=8,
        frameon=False,
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        alignment="left",
    )


def _plain(axis: Axes, values: Sequence[int]) -> None:
    """Marks a log axis at the measured values."""
    axis.set_xticks(
        values, labels=[f"{value:,}" for value in values], rotation=40 if len(values) > 4 else 0, fontsize=8
    )
    axis.set_xticks([], minor=True)


#: by file: whose rows, and what draws them
PLOTS: dict[str, tuple[str, Callable[[Rows, Path], None]]] = {
    "bench_forward.png": ("families", partial(ratios, key="forward_ratio", title="forward")),
    "bench_training.png": ("families", partial(ratios, key="training_ratio", title="forward + backward")),
    "bench_growth.png": ("growth", growth),
    "bench_factors.png": ("growth", factors),
    "bench_memory.png": ("growth", memory),
    page.IMAGE: ("cuda", cuda),
}


def write(results: Results, folder: Path, earlier: Sequence[Results] = ()) -> list[Path]:
    """Writes the plots for which there are results.

    Args:
        results: Results by name of the benchmark, of the machine at hand.
        folder: Where.
        earlier: Those of each machine before it.

    Returns:
        The files.
    """
    made = []
    for name, (benchmark, draw) in PLOTS.items():
        for place, result in enumerate(of_each(benchmark, results, earlier)):
            path = folder / (plotted(name, result) if place else name)
            draw(result["rows"], path)
            made.append(path)
    return made
