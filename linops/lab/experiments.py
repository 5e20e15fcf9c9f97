"""``linops coord-check``, ``lr-sweep`` and ``scaling``: the paper's experiments, each one command."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from linops.lab import coord_check, distributed, experiment_plots, lr_sweep, outputs, scaling_laws
from linops.lab import tables as t
from linops.lab.keeping import write_json
from linops.lab.parsing import Structured, parse
from linops.lab.problems import Problem, make
from linops.lab.progress import Progress
from linops.lab.rates import ADAM, MUON, NAIVE, STATIC, default
from linops.lab.runs import Run, require_members, with_factor
from linops.lab.sweep import Job, Row, sweep
from linops.lab.train import Settings


@dataclass(frozen=True)
class Sizes:
    """How large an experiment is.

    Attributes:
        widths: Widths; for scaling, of the dense models whose MACs are the budgets.
        settings: How to train.
        factors: For lr-sweep: factors on the rates of structured weights.
    """

    widths: tuple[int, ...]
    settings: Settings
    factors: tuple[float, ...] = ()


POWERS = (0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128)
#: on Muon's rate, which is .05
MUON_POWERS = (0.5, 1, 2, 4, 8, 16)
#: transformers take about 1000 tokens a step: 64 images of 16 patches, or 16 windows of 64 bytes
TOKENS = {"vit": 64, "gpt": 16}


def coord_check_sizes(model: str, quick: bool) -> Sizes:
    """How large the coordinate check is; `--quick` takes at most two minutes of two cores.

    Args:
        model: ``"mlp"``, ``"vit"`` or ``"gpt"``.
        quick: Whether a look is enough.

    Returns:
        The sizes.
    """
    if model in TOKENS:
        return Sizes((16, 64, 256), Settings(20 if quick else 60, TOKENS[model], cosine=False))
    return (
        Sizes((16, 64, 256), Settings(30, 256, cosine=False))
        if quick
        else Sizes((16, 64, 256, 1024), Settings(60, 256, cosine=False))
    )


def lr_sweep_sizes(model: str, quick: bool, optimizer: str = ADAM) -> Sizes:
    """How large the sweep of rates is; see `coord_check_sizes`.

    Args:
        model: ``"mlp"``, ``"vit"`` or ``"gpt"``.
        quick: Whether a look is enough.
        optimizer: ``"adam"`` or ``"muon"``.

    Returns:
        The sizes.
    """
    few, many = ((0.25, 1, 4), MUON_POWERS) if optimizer == MUON else ((2, 8, 32), POWERS[2:])
    if model in TOKENS:
        batch = TOKENS[model]
        if optimizer == ADAM:
            few, many = (0.5, 2, 8), POWERS[:6]
        return (
            Sizes((32, 128), Settings(60, batch), few) if quick else Sizes((64, 128, 256), Settings(300, batch), many)
        )
    return Sizes((64, 256), Settings(100, 128), few) if quick else Sizes((64, 256, 1024), Settings(300, 128), many)


def scaling_sizes(model: str, quick: bool) -> Sizes:
    """How large the scaling experiment is; see `coord_check_sizes`.

    Args:
        model: ``"mlp"``, ``"vit"`` or ``"gpt"``.
        quick: Whether a look is enough.

    Returns:
        The sizes.
    """
    if model in TOKENS:
        batch = TOKENS[model]
        return Sizes((32, 64), Settings(60, batch)) if quick else Sizes((32, 64, 128), Settings(300, batch))
    return (
        Sizes((32, 64, 128), Settings(200, 128))
        if quick
        else Sizes((32, 48, 64, 96, 128, 192, 256), Settings(1000, 128))
    )


@dataclass(frozen=True)
class Options:
    """What all experiments are told.

    Attributes:
        model: ``"mlp"``, ``"vit"`` or ``"gpt"``.
        data: As for `linops.lab.data.load`.
        text: As for `linops.lab.text.load_text`.
        structures: Of the layers that are structured; to coord-check and scaling, dense is added.
        seeds: Seeds of weights, batches and generated data.
        out: The folder for results.json, summary.json and the plot.
        resume: Whether to keep finished runs of results.json, which must all be of these settings; otherwise they are
            replaced.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        depth: Number of blocks.
        base_depth: The depth at which rates were tuned (CompleteP); None scales nothing by depth.
        optimizer: Of structured weights: ``"adam"`` or ``"muon"``.
        rules: How structured weights get their rates, for lr-sweep and scaling: of `linops.lab.rates`. Empty: what
            `linops.nn.param_groups` does by default, static for Adam and renormalised for Muon, and naive, in scaling
            naive for BTT alone.
    """

    model: str
    data: str | None
    text: str | None
    structures: Sequence[Structured]
    seeds: Sequence[int]
    out: Path
    resume: bool = True
    device: str = "auto"
    depth: int = 2
    base_depth: int | None = None
    optimizer: str = ADAM
    rules: Sequence[str] = ()

    def run(self, structure: Structured, width: int, **rest: Any) -> Run:
        """A run of this depth."""
        return Run(structure, width, self.depth, base_depth=self.base_depth, **rest)


def problem_of(options: Options, seed: int, device: Any) -> Problem:
    """The problem of an experiment.

    Args:
        options: What all experiments are told.
        seed: Of generated data and of the batches.
        device: Where.

    Returns:
        The problem.
    """
    return make(options.model, options.data, options.text, seed, device)


def _ruled(structures: Iterable[Structured], rules: Sequence[str] = (STATIC, NAIVE)) -> list[tuple[Structured, str]]:
    """Every structure by every rule of its rates; for dense they are one."""
    return [
        (structure, rule) for structure in structures for rule in ((STATIC,) if structure.family == "dense" else rules)
    ]


def with_dense(structures: Sequence[Structured]) -> list[Structured]:
    """Dense, and all others.

    Args:
        structures: Structures, dense among them or not.

    Returns:
        The structures, dense first.
    """
    return [parse("dense"), *(structure for structure in structures if structure.family != "dense")]


def run_coord_check(console: Console, options: Options, sizes: Sizes) -> Row:
    """The coordinate check: Δh against width.

    Args:
        console: Where to print.
        options: What all experiments are told.
        sizes: How large it is.

    Returns:
        What summary.json holds: slopes with standard errors and levels against dense.
    """
    with distributed.session(options.device) as device:
        jobs: list[Job] = []
        for seed in options.seeds:
            runs = [
                options.run(structure, width, seed=seed, rule=rule)
                for structure, rule in _ruled(with_dense(options.structures))
                for width in sizes.widths
            ]
            problem = problem_of(options, seed, device)
            require_members(problem, runs)
            jobs += coord_check.jobs(problem, runs, sizes.settings, device)
        rows = sweep(options.out, jobs, options.resume)
    fits, heads, levels = coord_check.slopes(rows), coord_check.slopes(rows, "feature_change"), coord_check.levels(rows)
    summary = {
        label: {
            "slope": law.exponent,
            "standard_error": law.standard_error,
            "feature_slope": heads[label].exponent,
            "least_of_dense": levels[label][0],
            "greatest_of_dense": levels[label][1],
        }
        for label, law in fits.items()
    }
    cells = [
        (label, str(law), str(heads[label]), f"{t.times(levels[label][0])} … {t.times(levels[label][1])}")
        for label, law in fits.items()
    ]
    caption = (
        f"Widths {_list(sizes.widths)}, {sizes.settings.steps} steps, seeds {_list(options.seeds)}. Near zero is right."
    )
    title = "Coordinate check: slope of log Δh in log width"
    table = t.table(title, ["structure", "layers' Δh", "features' Δh", "Δh of dense's"], cells, caption)
    finish(console, options, table, summary, rows, experiment_plots.coord_check, "coord_check.png")
    return summary


def run_lr_sweep(console: Console, options: Options, sizes: Sizes) -> Row:
    """Rate transfer: the best factor at each width.

    Args:
        console: Where to print.
        options: What all experiments are told.
        sizes: How large it is.

    Returns:
        What summary.json holds: best factors by width and how far they move.
    """
    with distributed.session(options.device) as device:
        jobs: list[Job] = []
        for seed in options.seeds:
            runs = [
                options.run(structure, width, seed=seed, factor=factor, rule=rule, optimizer=options.optimizer)
                for structure, rule in _ruled(options.structures, options.rules or (default(options.optimizer), NAIVE))
                for width in sizes.widths
                for factor in sizes.factors
            ]
            problem = problem_of(options, seed, device)
            require_members(problem, runs)
            jobs += lr_sweep.jobs(problem, runs, sizes.settings, device)
        rows = sweep(options.out, jobs, options.resume)
    best = lr_sweep.best_factors(rows)
    summary = {label: {"best_factors": factors, "drift": lr_sweep.drift(factors)} for label, factors in best.items()}
    cells = [
        (
            label,
            *(f"{factors[width]:g}" if width in factors else t.NONE for width in sizes.widths),
            t.times(lr_sweep.drift(factors)),
        )
        for label, factors in best.items()
    ]
    caption = f"{sizes.settings.steps} steps, factors {_list(sizes.factors)}, seeds {_list(options.seeds)}; "
    caption += "by train loss, mean over seeds."
    columns = ["structure", *(f"width {width}" for width in sizes.widths), "moves by"]
    table = t.table("Best factor on the rates of structured weights", columns, cells, caption)
    finish(console, options, table, summary, rows, experiment_plots.lr_sweep, "lr_sweep.png")
    return summary


def run_scaling(console: Console, options: Options, sizes: Sizes) -> Row:
    """Scaling: train loss against MACs.

    Args:
        console: Where to print.
        options: What all experiments are told.
        sizes: How large it is.

    Returns:
        What summary.json holds: exponents with standard errors, compute multipliers, and the curves.
    """
    named = _ruled(with_dense(options.structures), options.rules or (default(options.optimizer),))
    if not options.rules:
        named += [(structure, NAIVE) for structure, _ in named if structure.family == "btt"]
    with distributed.session(options.device) as device:
        first = problem_of(options, options.seeds[0], device)
        untuned = [options.run(one, first.base_width, rule=rule, optimizer=options.optimizer) for one, rule in named]
        runs = [with_factor(first, run) for run in untuned]
        with Progress(1, distributed.is_first()) as progress:
            progress.begin("choosing widths of equal MACs", len(sizes.widths))
            fitted = scaling_laws.matched_runs(first, runs, sizes.widths, progress.update)
        left_out = [run.label for run in runs if run.label not in {run.label for run, _ in fitted}]
        jobs: list[Job] = []
        for seed in options.seeds:
            seeded = [(replace(run, seed=seed), budget) for run, budget in fitted]
            jobs += scaling_laws.jobs(problem_of(options, seed, device), seeded, sizes.settings, device)
        rows = sweep(options.out, jobs, options.resume)
    summary, (columns, cells) = scaling_laws.summary(rows), scaling_laws.cells(rows)
    caption = (
        f"{sizes.settings.steps} steps, seeds {_list(options.seeds)}. Train loss, mean over seeds; "
        "exponent of its power law in MACs;\nless dense's: the gap where both curves bend alike; "
        "saves: MACs of the largest dense model over those for the same loss."
    )
    table = t.table("Scaling: train loss by MACs of an example", columns, cells, caption)
    finish(console, options, table, summary, rows, experiment_plots.scaling, "scaling.png")
    if left_out and distributed.is_first():
        console.print(
            f"left out {', '.join(left_out)}: no width costs as little as dense", highlight=False, markup=False
        )
    return summary


def finish(
    console: Console, options: Options, table: Any, summary: Any, rows: Sequence[Row], plot: Any, name: str
) -> None:
    """Writes summary.json and the plot of an experiment, and prints its table.

    Args:
        console: Where to print.
        options: What all experiments are told.
        table: The table.
        summary: Plain data.
        rows: Rows of results.json.
        plot: Of rows and a path.
        name: The plot's file.
    """
    if distributed.is_first():
        write_json(options.out / "summary.json", summary)
        plot(rows, options.out / name)
        console.print(table)
        outputs.say_files(console, options.out, "results.json", "summary.json", name)


def _list(values: Iterable[Any]) -> str:
    return ", ".join(f"{value:g}" for value in values)
