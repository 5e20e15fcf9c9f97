"""``linops train``: the paper's MLP once for each structure, a table, a plot and results.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from linops.lab import distributed, plots
from linops.lab import tables as t
from linops.lab.problems import make
from linops.lab.runs import Run, count, execute, matched, with_factor
from linops.lab.structures import Structure
from linops.lab.train import Settings


def train_command(
    console: Console,
    *,
    model: str,
    data: str | None,
    text: str | None,
    structures: Sequence[Structure],
    width: int,
    same_width: bool,
    depth: int,
    settings: Settings,
    lr: float,
    seeds: Sequence[int],
    out: Path,
    resume: bool,
    device: str,
) -> list[dict[str, Any]]:
    """Trains every structure with every seed, prints a table, and writes results.json and loss.png.

    Args:
        console: Where to print.
        model: ``"mlp"``, ``"vit"`` or ``"gpt"``.
        data: As for `linops.lab.data.load`.
        text: As for `linops.lab.text.load_text`.
        structures: Of the blocks' linear layers.
        width: Of the dense model, whose MACs are the budget of all.
        same_width: Whether all structures get this width instead.
        depth: Number of blocks.
        settings: How to train.
        lr: The rate at the base width.
        seeds: Seeds of weights, batches and generated data.
        out: The folder for all files.
        resume: Whether to go on from checkpoints.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.

    Returns:
        The rows of results.json.

    Raises:
        ValueError: If an argument does not fit; before any training.
    """
    rows, curves = [], []
    with distributed.session(device) as where:
        problem = make(model, data, text, seeds[0], where)
        dense = Run(Structure("dense", "dense"), width, depth, lr=lr)
        budget = count(problem, dense) or 0
        runs = [with_factor(problem, Run(structure, width, depth, lr=lr)) for structure in structures]
        if not same_width:
            runs = [matched(problem, run, budget) if run.structure.family != "dense" else run for run in runs]
        elif refused := [run.structure.text for run in runs if count(problem, run) is None]:
            raise ValueError(f"at width {width}, {', '.join(refused)} would cost more than dense")
        with progress_bar(console) as bar:
            for seed in seeds:
                problem = problem if seed == seeds[0] else make(model, data, text, seed, where)
                for run in [Run(**{**vars(run), "seed": seed}) for run in runs]:
                    row, losses = _one(bar, problem, run, settings, out, resume, where)
                    rows.append(row)
                    curves.append(losses)
                    if distributed.is_first():
                        _write(out / "results.json", rows)
    if distributed.is_first():
        plots.training(rows, curves, out / "loss.png")
        same = f"at most {budget:,} MACs an example, those of dense at width {width}" if not same_width else f"width {width} for all"
        console.print(results_table(f"{problem.name}: {same}", rows))
        console.print(f"{out / 'results.json'}, {out / 'loss.png'}", highlight=False)
    return rows


def progress_bar(console: Console) -> Progress:
    """A bar a run with its step, loss and time left; only the first of several processes shows it."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("loss {task.fields[loss]:.3f}"))
    return Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=not distributed.is_first())


def _one(bar: Progress, problem: Any, run: Run, settings: Settings, out: Path, resume: bool, device: Any) -> tuple[dict, list[float]]:
    shown = bar.add_task(f"{run.label}, width {run.width}, seed {run.seed}", total=settings.steps, loss=float("nan"))
    try:
        return execute(
            problem,
            run,
            settings,
            device=device,
            folder=out / "runs" / run.slug,
            resume=resume,
            progress=lambda step, loss: bar.update(shown, completed=step, loss=loss),
        )
    finally:
        bar.remove_task(shown)


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows, indent=1) + "\n")


def results_table(title: str, rows: Sequence[dict[str, Any]]) -> Any:
    """The table of a training command: a row a structure, in order of train loss; over several seeds, mean ± standard deviation.

    Args:
        title: The line above.
        rows: Rows of results.json.

    Returns:
        A table for rich.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["structure"], []).append(row)
    several = max(map(len, groups.values())) > 1
    ordered = sorted(groups.items(), key=lambda item: mean(row["train_loss"] for row in item[1]))

    def over_seeds(group: list[dict[str, Any]], field: str, scale: float = 1, digits: int = 3) -> str:
        values = [scale * row[field] for row in group]
        spread = f" ± {stdev(values):.{digits}f}" if several and len(values) > 1 else ""
        return f"{mean(values):.{digits}f}{spread}"

    cells = [
        (
            name,
            group[0]["width"],
            t.count(group[0]["num_params"]),
            t.count(group[0]["macs"]),
            f"{group[0]['lr_factor']:g}",
            over_seeds(group, "train_loss"),
            over_seeds(group, "test_accuracy", 100, 1) + " %",
            t.duration(mean(row["seconds"] for row in group)),
        )
        for name, group in ordered
    ]
    columns = ["structure", "width", "params", "MACs", "lr factor", "train loss", "test accuracy", "time"]
    caption = f"Train loss on all training data; {rows[0]['steps']} steps of {rows[0]['batch']} examples."
    seeds = len({row["seed"] for row in rows})
    return t.table(title, columns, cells, caption + (f" Mean ± standard deviation of {seeds} seeds." if several else ""))
