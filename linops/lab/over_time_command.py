"""``linops coord-check --over-time``: table, JSON and plot of `linops.lab.over_time`."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from linops.families.text import NONLINEAR
from linops.lab import distributed, over_time_plot
from linops.lab import tables as t
from linops.lab.experiments import Options, Sizes, finish, problem_of, with_dense
from linops.lab.over_time import Way, curve, drift, greatest, grouped, jobs, level_drift
from linops.lab.rates import STATIC
from linops.lab.runs import require_members
from linops.lab.sweep import Job, Row, sweep
from linops.lab.train import Settings

#: of a whole check; and the steps of a look, which has the first width alone
WIDTHS, STEPS, QUICK_STEPS = (64, 256, 1024), 300, 30


def over_time_sizes(quick: bool, widths: Sequence[int] = (), steps: int | None = None) -> Sizes:
    """How large the check is.

    Args:
        quick: Whether a look is enough.
        widths: Of the models; empty takes those by `quick`.
        steps: How many; None takes those by `quick`.

    Returns:
        The sizes.
    """
    chosen = tuple(widths) or ((64,) if quick else WIDTHS)
    return Sizes(chosen, Settings(steps or (QUICK_STEPS if quick else STEPS), 128, cosine=False))


def run_over_time(console: Console, options: Options, sizes: Sizes, ways: Sequence[Way]) -> list[Row]:
    """The coordinate check over time: how far each step moves a layer, over steps and widths.

    Args:
        console: Where to print.
        options: What all experiments are told.
        sizes: How large it is.
        ways: Optimisers, rules and rates.

    Returns:
        What summary.json holds: a row for each optimiser, rate, structure, rule and width.

    Raises:
        ValueError: If a structure is no linear map, so that its steps have no spectral norm.
    """
    if unmeasured := [one.text for one in options.structures if one.family in NONLINEAR]:
        raise ValueError(
            f"--over-time measures matrices, and {unmeasured[0]} is no linear map: leave it out of --structures, or "
            "leave out --over-time"
        )
    with distributed.session(options.device) as device:
        work: list[Job] = []
        for seed in options.seeds:
            problem = problem_of(options, seed, device)
            runs = [
                (options.run(structure, width, seed=seed), way)
                for way in ways
                for structure in with_dense(options.structures)
                for width in sizes.widths
                if structure.family != "dense" or way.rule == STATIC
            ]
            require_members(problem, [run for run, _ in runs])
            work += jobs(problem, runs, sizes.settings, device)
        rows = sweep(options.out, work, options.resume)
    summary = []
    for (optimizer, lr, structure, rule, width), group in grouped(rows).items():
        changes = curve(group)
        summary.append(
            {
                "optimizer": optimizer,
                "lr": lr,
                "structure": structure,
                "rule": rule,
                "width": width,
                "first": changes[1],
                "last": changes[-1],
                "drift": max(drift(row["looks"], curve([row])) for row in group),
                "worst_drift": greatest(group, drift),
                "level_drift": greatest(group, level_drift),
                "output_drift": max(drift(row["looks"], curve([row], "output")) for row in group),
                "norm_growth": curve(group, "norm")[-1] / curve(group, "norm")[1],
                "train_loss": _mean([row["train_loss"] for row in group]),
            }
        )
    cells = [
        (
            f"{row['optimizer']} {row['lr']:g} {row['structure']}",
            row["rule"][:6],
            f"{row['width']}",
            f"{row['first']:.2f}",
            f"{row['last']:.2f}",
            t.times(row["drift"]),
            t.times(row["worst_drift"]),
            t.times(row["level_drift"]),
            t.NONE if row["train_loss"] is None else f"{row['train_loss']:.3f}",
        )
        for row in summary
    ]
    caption = (
        f"{sizes.settings.steps} steps, seeds {', '.join(map(str, options.seeds))}. ‖ΔW‖₂ / lr of the second step and "
        "the last,\nmean over layers and seeds; drift: greatest over least from step 20 on, of the mean\n"
        "over layers, and worst: of a single layer, both in the seed with most; level: worst\n"
        "of means over thirds of the steps; loss: on all training data."
    )
    columns = ["run", "rule", "width", "first", "last", "drift", "worst", "level", "loss"]
    table = t.table("Coordinate check over time: how far one step moves a layer", columns, cells, caption)
    finish(console, options, table, summary, rows, over_time_plot.over_time, "over_time.png")
    return summary


def _mean(losses: Sequence[float | None]) -> float | None:
    """The mean, None if a run has diverged."""
    known = [loss for loss in losses if loss is not None]
    return sum(known) / len(known) if len(known) == len(losses) else None
