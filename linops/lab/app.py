"""The commands of ``linops``, with typer and rich. Each imports what it needs when it runs, so that help is quick."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from linops.lab import options as o
from linops.lab.compress_command import compress
from linops.lab.console import console
from linops.lab.estimate_command import estimate
from linops.lab.failures import OneLine
from linops.lab.parsing import Structured

app: typer.Typer = typer.Typer(
    cls=OneLine,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def linops(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Structured matrices: count them, time them, train them.

    Begin with `linops compare 3072 768` or `linops train`; `linops COMMAND --help` says what a command takes.
    """
    if version:
        import linops

        typer.echo(f"linops {linops.__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def compare(
    out: Annotated[int, typer.Argument(metavar="OUT", help="Features out: rows of the matrix.", min=1)],
    into: Annotated[int, typer.Argument(metavar="IN", help="Features in: columns of the matrix.", min=1)],
    structures: Annotated[
        str | None,
        typer.Option(
            help="Families with options, as in `dense,btt:rank=4`; `btt:rank=all` sweeps its ranks. Default: all."
        ),
    ] = None,
    batch: Annotated[int, typer.Option(help="Number of vectors.", min=1)] = 256,
    backend: Annotated[o.Backend, typer.Option(help="Which library multiplies.")] = o.Backend.torch,
    dtype: Annotated[o.Dtype, typer.Option(help="Of parameters and vectors.")] = o.Dtype.float32,
    threads: Annotated[
        int | None,
        typer.Option(
            help="Threads that products may use. Default: the library's own choice.", min=1, max=o.MOST_THREADS
        ),
    ] = None,
    seconds: Annotated[
        float,
        typer.Option(
            help="About how long to measure, all structures together. "
            "However short, each is called twice, and twice with gradients.",
            min=0.1,
            max=86400,
            callback=o.finite,
        ),
    ] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Write a plot of time against MACs to this file (.png, .pdf, .svg, .jpg).")
    ] = None,
) -> None:
    """Compare the families at one shape: parameters, MACs, and measured time beside dense.

    Candidates take turns on the clock, so that ratios hold on a busy machine. *Roofline* is the least time that the
    FLOPs and bytes of a product need on this machine, as measured in the same run, over the time it took.
    """
    wanted = o.structures_of(structures, (out, into))
    if backend is o.Backend.jax and dtype in (o.Dtype.float64, o.Dtype.complex128):
        os.environ["JAX_ENABLE_X64"] = "1"
    from linops.lab import outputs, plots
    from linops.lab import threads as cpu
    from linops.lab.comparison import compare as measure
    from linops.lab.comparison_table import comparison_table
    from linops.lab.progress import Progress

    if plot is not None:
        outputs.require_plot(plot)
    if threads is not None:
        cpu.limit(threads, backend.value)
    with Progress(1) as progress:
        progress.begin(f"measuring for about {seconds:g} s", 1)
        shape = {"batch": batch, "backend": backend.value, "dtype": dtype.value}
        found = measure(out, into, wanted, **shape, seconds=seconds, tell=lambda text: progress.update(0, text))
    if plot is not None:
        plots.compare(found.to_dict(), plot)
    if as_json:
        typer.echo(json.dumps(found.to_dict() | {"threads": cpu.used(backend), "cpus": cpu.available()}, indent=1))
        return
    shown = console()
    shown.print(comparison_table(found, cpu.used(backend), cpu.available()))
    for name, reason in found.refused.items():
        shown.print(f"left out {name}: {reason}", style="dim", highlight=False, markup=False)
    if plot is not None:
        shown.print(f"plot: {plot}", highlight=False, markup=False, soft_wrap=True)


@app.command()
def train(
    model: o.Model = o.Architecture.mlp,
    data: o.Data = None,
    text: o.Text = None,
    structures: Annotated[str, typer.Option(help="Of the blocks' linear layers, as in `dense,btt:rank=2`.")] = (
        "dense,btt,monarch,kronecker,low_rank"
    ),
    width: Annotated[
        int,
        typer.Option(
            help="Width of the dense model; it sets the MACs that every structure may use.", min=1, max=o.MOST_WIDTH
        ),
    ] = 128,
    same_width: Annotated[
        bool, typer.Option("--same-width", help="Give every structure this width instead of the same MACs.")
    ] = False,
    depth: o.Depth = 2,
    base_depth: o.BaseDepth = None,
    steps: Annotated[int, typer.Option(help="Training steps.", min=1, max=o.MOST_STEPS)] = 1000,
    batch: Annotated[int, typer.Option(help="Examples a step.", min=1)] = 128,
    lr: Annotated[
        float,
        typer.Option(
            help="Adam's rate at base width 64; every leaf's own follows from its fans.", min=0, callback=o.finite
        ),
    ] = 3e-3,
    clip: Annotated[
        float, typer.Option(help="Largest gradient norm; 0 does not clip.", min=0, callback=o.finite)
    ] = 0.0,
    seed: o.Seed = 0,
    seeds: o.Seeds = 1,
    out: Annotated[Path, typer.Option(help="Folder for results.json, loss.png, logs and checkpoints.")] = Path(
        "linops-train"
    ),
    resume: o.Resume = True,
    device: o.Device = "auto",
    bf16: Annotated[bool, typer.Option("--bf16", help="Multiply in bfloat16.")] = False,
    compile_: Annotated[bool, typer.Option("--compile", help="Compile models by torch.compile.")] = False,
    threads: o.Threads = 1,
) -> None:
    """Train a model once for each structure, at the same MACs, with structure-aware scale and rates.

    The MLP is the paper's: a dense embedding, residual blocks [LayerNorm, w→4w, GELU, 4w→w], a head that starts at
    zero; the blocks' linear layers are structured. Ends with a table, a plot of loss against MACs, and results.json. A
    command that was stopped goes on where it was when it is given again. Runs under `torchrun --no-python` too.
    """
    wanted = o.structures_of(structures, of_layers=True)
    from linops.lab import threads as cpu
    from linops.lab.train import Settings
    from linops.lab.train_command import train_command

    cpu.limit(threads, "torch")
    train_command(
        console(),
        model=model.value,
        data=data,
        text=text,
        structures=wanted,
        width=width,
        same_width=same_width,
        depth=depth,
        base_depth=base_depth,
        settings=Settings(steps=steps, batch=batch, clip=clip, bf16=bf16, compile=compile_),
        lr=lr,
        seeds=range(seed, seed + seeds),
        out=out,
        resume=resume,
        device=device,
    )


EXPERIMENT_STRUCTURES = "btt,monarch,kronecker,low_rank"


@app.command()
def coord_check(
    context: typer.Context,
    model: o.Model = o.Architecture.mlp,
    data: o.Data = None,
    text: o.Text = None,
    structures: Annotated[
        str,
        typer.Option(
            help="Families with options, as in `btt:rank=2,monarch`; also `chain` and `btt_mixture`, but not with "
            "--over-time."
        ),
    ] = EXPERIMENT_STRUCTURES,
    over_time: Annotated[
        bool, typer.Option("--over-time", help="How far single steps move layers, all along training.")
    ] = False,
    over_depth: Annotated[
        bool,
        typer.Option(
            "--over-depth",
            help="How far a few steps move the features of each depth, without CompleteP and with it: "
            "the MLP on MNIST-1D, a table and no files.",
        ),
    ] = False,
    optimizers: Annotated[
        list[o.Stepper], typer.Option("--optimizer", help="Over time: which optimisers; may be repeated.")
    ] = [o.Stepper.muon, o.Stepper.adamw, o.Stepper.sgd],  # noqa: B006
    rates: Annotated[
        list[float] | None,
        typer.Option(
            "--lr", help="Over time: rates; may be repeated. Default: .05 for muon, .003 for adamw, .1 for sgd.", min=0
        ),
    ] = None,
    widths: Annotated[
        list[int] | None,
        typer.Option(
            "--width",
            help="Over time: widths of the model; may be repeated. Default: 64, 256 and 1024.",
            min=1,
            max=o.MOST_WIDTH,
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Over time: steps. Default: 300.", min=2, max=o.MOST_STEPS)] = None,
    depth: o.Depth = 2,
    base_depth: o.BaseDepth = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="Few widths and steps: a look, not a result. Over time: width 64 alone and 30 steps, unless --width "
            "or --steps are given; every structure, optimiser and rule.",
        ),
    ] = False,
    seed: o.Seed = 0,
    seeds: o.Seeds = 1,
    out: o.Out = Path("linops-coord-check"),
    resume: o.Resume = True,
    device: o.Device = "auto",
    threads: o.Threads = 1,
) -> None:
    """Coordinate check: how far a few steps move the features of each width, with naive and structure-aware rates.

    With `--over-time`: how far single steps move the layers all along training, and their norms, under Muon, AdamW and
    SGD, with rates that are right at the start and with those that follow the norms of factors.
    """
    if over_depth:
        kept = {"over_depth", "structures", "seed", "threads"}
        o.require_apply(context, "--over-depth", [name for name in context.params if name not in kept])
    elif not over_time:
        o.require_apply(context, "coord-check without --over-time", ["optimizers", "rates", "widths", "steps"])
    if over_depth:
        wanted = o.structures_of(structures, of_layers=True)
        from linops.lab import threads as cpu
        from linops.lab.depth_check import run_depth_check

        cpu.limit(threads, "torch")
        run_depth_check(console(), wanted, seed)
        return
    wanted = _begin(structures, out, threads)
    from linops.lab import experiments

    chosen = range(seed, seed + seeds)
    told = experiments.Options(model.value, data, text, wanted, chosen, out, resume, device, depth, base_depth)
    if not over_time:
        experiments.run_coord_check(console(), told, experiments.coord_check_sizes(model, quick))
        return
    from linops.lab import over_time as check
    from linops.lab.over_time_command import over_time_sizes, run_over_time

    names = [optimizer.value for optimizer in optimizers]
    run_over_time(console(), told, over_time_sizes(quick, widths or (), steps), check.ways(names, rates or ()))


@app.command()
def lr_sweep(
    model: o.Model = o.Architecture.mlp,
    data: o.Data = None,
    text: o.Text = None,
    structures: o.Structures = "btt",
    depth: o.Depth = 2,
    base_depth: o.BaseDepth = None,
    optimizer: o.Steps = o.Optimizer.adam,
    rules: o.Rules = None,
    quick: o.Quick = False,
    seed: o.Seed = 0,
    seeds: o.Seeds = 1,
    out: o.Out = Path("linops-lr-sweep"),
    resume: o.Resume = True,
    device: o.Device = "auto",
    threads: o.Threads = 1,
) -> None:
    """Rate transfer: the best factor on structured weights' rates at several widths, naive and structure-aware."""
    wanted = _begin(structures, out, threads)
    from linops.lab import experiments

    chosen, by = range(seed, seed + seeds), o.rules_of(rules)
    told = experiments.Options(
        model.value, data, text, wanted, chosen, out, resume, device, depth, base_depth, optimizer.value, by
    )
    experiments.run_lr_sweep(console(), told, experiments.lr_sweep_sizes(model, quick, optimizer.value))


@app.command()
def scaling(
    model: o.Model = o.Architecture.mlp,
    data: o.Data = None,
    text: o.Text = None,
    structures: o.Structures = EXPERIMENT_STRUCTURES,
    depth: o.Depth = 2,
    base_depth: o.BaseDepth = None,
    optimizer: o.Steps = o.Optimizer.adam,
    rules: o.Rules = None,
    quick: o.Quick = False,
    seed: o.Seed = 0,
    seeds: o.Seeds = 1,
    out: o.Out = Path("linops-scaling"),
    resume: o.Resume = True,
    device: o.Device = "auto",
    threads: o.Threads = 1,
) -> None:
    """Scaling: train loss against MACs of each structure, fitted exponents, and what each saves against dense."""
    wanted = _begin(structures, out, threads)
    from linops.lab import experiments

    chosen, by = range(seed, seed + seeds), o.rules_of(rules)
    told = experiments.Options(
        model.value, data, text, wanted, chosen, out, resume, device, depth, base_depth, optimizer.value, by
    )
    experiments.run_scaling(console(), told, experiments.scaling_sizes(model, quick))


app.command()(compress)
app.command()(estimate)


def _begin(structures: str, out: Path, threads: int) -> list[Structured]:
    """The structures of an experiment, once it is clear that it can run."""
    wanted = o.structures_of(structures, of_layers=True)
    from linops.lab import outputs
    from linops.lab import threads as cpu

    outputs.require_folder(out)
    cpu.limit(threads, "torch")
    return wanted
