"""``linops train``: the paper's MLP once for each structure, a table, a plot and results.json."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from rich.console import Console

from linops.lab import distributed, outputs, plots
from linops.lab import tables as t
from linops.lab.keeping import Row, kept_rows, write_rows
from linops.lab.parsing import Structured
from linops.lab.problems import Problem, make
from linops.lab.progress import Progress
from linops.lab.runs import DENSE, Run, count, execute, identity, matched, require_members, require_memory, with_factor
from linops.lab.sweep import say_kept
from linops.lab.train import Settings, earlier


def train_command(
    console: Console,
    *,
    model: str,
    data: str | None,
    text: str | None,
    structures: Sequence[Structured],
    width: int,
    same_width: bool,
    depth: int,
    base_depth: int | None = None,
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
        base_depth: The depth at which the rate was tuned (CompleteP); None scales nothing by depth.
        settings: How to train.
        lr: The rate at the base width.
        seeds: Seeds of weights, batches and generated data.
        out: The folder for all files.
        resume: Whether to go on with the runs in `out`, which must all be of these settings; otherwise they are
            replaced.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.

    Returns:
        The rows of results.json.

    Raises:
        ValueError: If an argument does not fit, or `out` holds other runs; before any training.
        MemoryError: If the dense model or a batch does not fit this machine's memory.
    """
    outputs.require_folder(out)
    with distributed.session(device) as where:
        problem = make(model, data, text, seeds[0], where)
        dense = Run(DENSE, width, depth, lr=lr, base_depth=base_depth)
        require_memory(problem, dense, settings)
        budget = count(problem, dense) or 0
        runs = [
            with_factor(problem, Run(structure, width, depth, lr=lr, base_depth=base_depth)) for structure in structures
        ]
        if not same_width:
            runs = _matched(problem, runs, budget)
        require_members(problem, runs)
        problem_of = lru_cache(maxsize=1)(
            lambda seed: problem if seed == seeds[0] else make(model, data, text, seed, where)
        )
        todo = [replace(run, seed=seed) for seed in seeds for run in runs]
        rows, curves = _train(todo, problem_of, settings, out, resume, where)
    if distributed.is_first():
        plots.training(rows, curves, out / "loss.png")
        same = (
            f"at most {budget:,} MACs an example, those of dense at width {width}"
            if not same_width
            else f"width {width} for all"
        )
        console.print(results_table(f"{problem.name}: {same}", rows))
        outputs.say_files(console, out, "results.json", "loss.png")
    return rows


def _matched(problem: Problem, runs: Sequence[Run], budget: int) -> list[Run]:
    found = []
    with Progress(1, distributed.is_first()) as progress:
        progress.begin("choosing widths of equal MACs", len(runs))
        for run in runs:
            found.append(matched(problem, run, budget) if run.structure.family != "dense" else run)
            progress.update(len(found))
    return found


def _train(
    todo: Sequence[Run], problem_of: Callable[[int], Problem], settings: Settings, out: Path, resume: bool, device: Any
) -> tuple[list[Row], list[list[float]]]:
    """Rows and losses of all runs; whether the folder's earlier runs may be gone on with is asked before the first."""
    path, folders = out / "results.json", [out / "runs" / run.slug for run in todo]
    identities = [identity(problem_of(run.seed), run, settings) for run in todo]
    kept = kept_rows(path, identities, resume)
    losses = [_losses(folder, settings, ours) if resume else None for folder, ours in zip(folders, identities)]
    kept = [row if known else None for row, known in zip(kept, losses)]
    rows: list[Row] = []
    curves: list[list[float]] = []
    with Progress(len(todo), distributed.is_first()) as progress:
        say_kept(progress, kept, out)
        for run, folder, row, curve in zip(todo, folders, kept, losses):
            if row is None or curve is None:
                progress.begin(f"{run.label}, width {run.width}, seed {run.seed}", settings.steps)
                report = lambda step, loss: progress.update(step, f"loss {loss:.3f}")  # noqa: E731
                row, curve = execute(
                    problem_of(run.seed), run, settings, device=device, folder=folder, resume=resume, progress=report
                )
            progress.end()
            rows.append(row)
            curves.append(curve)
            if distributed.is_first():
                write_rows(path, rows, kept)
    return rows, curves


def _losses(folder: Path, settings: Settings, ours: Row) -> list[float] | None:
    """The loss at every step of a finished run."""
    state = earlier(folder, settings, ours)
    return state["losses"] if state and state["step"] == settings.steps else None


def results_table(title: str, rows: Sequence[dict[str, Any]]) -> Any:
    """The table of a training command: a row a structure, in order of train loss; over seeds mean ± standard deviation.

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
    caption += f" Mean ± standard deviation of {seeds} seeds." if several else ""
    caption += "\nlr factor: on the learning rates of the structured layers' weights (in dense: of the same layers), "
    caption += "tuned beforehand."
    return t.table(title, columns, cells, caption)
