"""The commands of ``linops``, with typer and rich. Each imports what it needs when it runs, so that ``linops --help`` is quick."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer(
    help="Structured matrices: count them, time them, train them.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
console = Console()


class Backend(StrEnum):
    """Where arrays live."""

    numpy = "numpy"
    torch = "torch"
    jax = "jax"


class Architecture(StrEnum):
    """What learns."""

    mlp = "mlp"
    vit = "vit"
    gpt = "gpt"


Model = Annotated[Architecture, typer.Option(help="The paper's MLP, a ViT on images, or a GPT on text.")]
Data = Annotated[
    str | None,
    typer.Option(
        help="`mnist1d` (generated), `digits` (scikit-learn's), FILE.npz with x_train, y_train, x_test, y_test, or a CIFAR python archive. "
        "Default: mnist1d; for a ViT, digits."
    ),
]
Text = Annotated[str | None, typer.Option(help="For a GPT: a file or folder. Default: the source of Python's standard library.")]


@contextmanager
def plain_errors() -> Iterator[None]:
    """Errors of the user's making as one line, without a traceback."""
    try:
        yield
    except (ValueError, TypeError, FloatingPointError) as error:
        console.print(f"[bold red]error:[/] {error}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None


@app.command()
def compare(
    out: Annotated[int, typer.Argument(metavar="OUT", help="Features out: rows of the matrix.", min=1)],
    into: Annotated[int, typer.Argument(metavar="IN", help="Features in: columns of the matrix.", min=1)],
    structures: Annotated[str | None, typer.Option(help="Families with options, as in `dense,btt:rank=4`. Default: all.")] = None,
    batch: Annotated[int, typer.Option(help="Number of vectors.", min=1)] = 256,
    backend: Annotated[Backend, typer.Option(help="Which library multiplies.")] = Backend.torch,
    dtype: Annotated[str, typer.Option(help="Of parameters and vectors.")] = "float32",
    threads: Annotated[int | None, typer.Option(help="Threads that products may use. Default: the library's own choice.", min=1)] = None,
    seconds: Annotated[float, typer.Option(help="About how long to measure.", min=0.1)] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Write a plot of time against MACs to this file (.png, .pdf, .svg).")] = None,
) -> None:
    """Compare the families at one shape: parameters, MACs, and measured time beside dense.

    Candidates take turns on the clock, so that ratios hold on a busy machine. *Roofline* is the least time that the FLOPs and bytes of a
    product need on this machine, as measured in the same run, over the time it took.
    """
    from linops.lab import structures as parsing
    from linops.lab import threads as cpu
    from linops.lab.compare import compare as measure

    with plain_errors():
        if backend is Backend.jax and dtype in ("float64", "complex128"):
            os.environ["JAX_ENABLE_X64"] = "1"
        if threads is not None:
            cpu.limit(threads, backend.value)
        wanted = parsing.parse_list(structures)
        status = Console(stderr=True).status(f"measuring for about {seconds:g} s …")
        with status:
            found = measure(out, into, wanted, batch=batch, backend=backend.value, dtype=dtype, seconds=seconds)
        if plot is not None:
            from linops.lab import plots

            plots.compare(found.to_dict(), plot)
    if as_json:
        typer.echo(json.dumps(found.to_dict() | {"threads": threads, "cpus": cpu.available()}, indent=1))
        return
    console.print(_comparison_table(found, threads or "default", cpu.available()))
    for name, reason in found.refused.items():
        console.print(f"[dim]left out[/] {name}: {reason}", highlight=False)
    if plot is not None:
        console.print(f"plot: {plot}", highlight=False)


def _comparison_table(found, threads, cpus):
    from linops.lab import tables as t

    columns = ["structure", "params", "MACs", "FLOPs", "share", "forward", "ratio", "fwd+bwd", "ratio", "roofline"]
    rows = [
        (
            row.structure,
            t.short(row.num_params),
            t.short(row.macs),
            t.short(row.flops),
            t.percent(row.share),
            t.duration(row.forward),
            t.times(row.forward_ratio),
            t.duration(row.forward_backward),
            t.times(row.forward_backward_ratio),
            t.percent(row.roofline_share),
        )
        for row in found.rows
    ]
    vectors = f"{found.batch} vector{'' if found.batch == 1 else 's'}"
    title = f"{found.out_features}×{found.in_features}, {vectors}, {found.backend}, {found.dtype}, {cpus} CPUs, threads: {threads}"
    roof = f"{t.rate(found.roofline.flops_per_second, 'FLOP')}, {t.rate(found.roofline.bytes_per_second, 'B')}"
    caption = (
        "MACs and FLOPs of one vector, share of dense's FLOPs; median times of the batch, ratio to dense.\n"
        f"Roofline: share of what this machine allows, measured at {roof}."
    )
    return t.table(title, columns, rows, caption)


@app.command()
def train(
    model: Model = Architecture.mlp,
    data: Data = None,
    text: Text = None,
    structures: Annotated[str, typer.Option(help="Of the blocks' linear layers, as in `dense,btt:rank=2`.")] = (
        "dense,btt,monarch,kronecker,low_rank"
    ),
    width: Annotated[int, typer.Option(help="Width of the dense model; it sets the MACs that every structure may use.", min=1)] = 128,
    same_width: Annotated[bool, typer.Option("--same-width", help="Give every structure this width instead of the same MACs.")] = False,
    depth: Annotated[int, typer.Option(help="Number of residual blocks.", min=1)] = 2,
    steps: Annotated[int, typer.Option(help="Training steps.", min=1)] = 1000,
    batch: Annotated[int, typer.Option(help="Examples a step.", min=1)] = 128,
    lr: Annotated[float, typer.Option(help="Adam's rate at base width 64; every leaf's own follows from its fans.", min=0)] = 3e-3,
    clip: Annotated[float, typer.Option(help="Largest gradient norm; 0 does not clip.", min=0)] = 0.0,
    seed: Annotated[int, typer.Option(help="Of weights, batches and generated data.", min=0)] = 0,
    seeds: Annotated[int, typer.Option(help="How many seeds, from SEED up.", min=1)] = 1,
    out: Annotated[Path, typer.Option(help="Folder for results.json, loss.png, logs and checkpoints.")] = Path("linops-train"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoints in OUT.")] = False,
    device: Annotated[str, typer.Option(help="`cpu`, `cuda`, or `auto`.")] = "auto",
    bf16: Annotated[bool, typer.Option("--bf16", help="Multiply in bfloat16.")] = False,
    compile_: Annotated[bool, typer.Option("--compile", help="Compile models by torch.compile.")] = False,
    threads: Annotated[int, typer.Option(help="CPU threads; models this small gain nothing from more than one.", min=1)] = 1,
) -> None:
    """Train a model once for each structure, at the same MACs, with structure-aware scale and rates.

    The MLP is the paper's: a dense embedding, residual blocks [LayerNorm, w→4w, GELU, 4w→w], a head that starts at zero; the blocks' linear
    layers are structured. Ends with a table, a plot of loss against MACs, and results.json. Runs under `torchrun --no-python` too.
    """
    from linops.lab import threads as cpu
    from linops.lab.structures import parse_list
    from linops.lab.train import Settings
    from linops.lab.train_command import train_command

    with plain_errors():
        cpu.limit(threads, "torch")
        settings = Settings(steps=steps, batch=batch, clip=clip, bf16=bf16, compile=compile_)
        train_command(
            console,
            model=model.value,
            data=data,
            text=text,
            structures=parse_list(structures),
            width=width,
            same_width=same_width,
            depth=depth,
            settings=settings,
            lr=lr,
            seeds=range(seed, seed + seeds),
            out=out,
            resume=resume,
            device=device,
        )


EXPERIMENT_STRUCTURES = "btt,monarch,kronecker,low_rank"
Structures = Annotated[str, typer.Option(help="As in `btt:rank=2,monarch`.")]
Quick = Annotated[bool, typer.Option("--quick", help="Few widths and steps: a look, not a result.")]
Seed = Annotated[int, typer.Option(help="The first seed.", min=0)]
Seeds = Annotated[int, typer.Option(help="How many seeds, from SEED up.", min=1)]
Out = Annotated[Path, typer.Option(help="Folder for results.json, summary.json and the plot.")]
Resume = Annotated[bool, typer.Option("--resume", help="Keep the finished runs of OUT.")]
Device = Annotated[str, typer.Option(help="`cpu`, `cuda`, or `auto`.")]
Threads = Annotated[int, typer.Option(help="CPU threads.", min=1)]


@app.command()
def coord_check(
    model: Model = Architecture.mlp,
    data: Data = None,
    text: Text = None,
    structures: Structures = EXPERIMENT_STRUCTURES,
    quick: Quick = False,
    seed: Seed = 0,
    seeds: Seeds = 1,
    out: Out = Path("linops-coord-check"),
    resume: Resume = False,
    device: Device = "auto",
    threads: Threads = 1,
) -> None:
    """Coordinate check: how far a few steps move the features of each width, with naive and structure-aware rates."""
    with plain_errors():
        experiments, options = _experiment(model, data, text, structures, range(seed, seed + seeds), out, resume, device, threads)
        experiments.run_coord_check(console, options, experiments.coord_check_sizes(model, quick))


@app.command()
def lr_sweep(
    model: Model = Architecture.mlp,
    data: Data = None,
    text: Text = None,
    structures: Structures = "btt",
    quick: Quick = False,
    seed: Seed = 0,
    seeds: Seeds = 1,
    out: Out = Path("linops-lr-sweep"),
    resume: Resume = False,
    device: Device = "auto",
    threads: Threads = 1,
) -> None:
    """Rate transfer: the best factor on the rates of structured weights at several widths, naive and structure-aware."""
    with plain_errors():
        experiments, options = _experiment(model, data, text, structures, range(seed, seed + seeds), out, resume, device, threads)
        experiments.run_lr_sweep(console, options, experiments.lr_sweep_sizes(model, quick))


@app.command()
def scaling(
    model: Model = Architecture.mlp,
    data: Data = None,
    text: Text = None,
    structures: Structures = EXPERIMENT_STRUCTURES,
    quick: Quick = False,
    seed: Seed = 0,
    seeds: Seeds = 1,
    out: Out = Path("linops-scaling"),
    resume: Resume = False,
    device: Device = "auto",
    threads: Threads = 1,
) -> None:
    """Scaling: train loss against MACs of each structure, fitted exponents, and what each saves against dense."""
    with plain_errors():
        experiments, options = _experiment(model, data, text, structures, range(seed, seed + seeds), out, resume, device, threads)
        experiments.run_scaling(console, options, experiments.scaling_sizes(model, quick))


def _experiment(model, data, text, structures, seeds, out, resume, device, threads):
    from linops.lab import experiments
    from linops.lab import threads as cpu
    from linops.lab.structures import parse_list

    cpu.limit(threads, "torch")
    return experiments, experiments.Options(model.value, data, text, parse_list(structures), seeds, out, resume, device)
