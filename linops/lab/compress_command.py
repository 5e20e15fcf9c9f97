"""The command ``linops compress``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from linops.lab import options as o

#: what it writes
RESULTS = ("compressed.safetensors", "report.json", "pareto.png")


def compress(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A safetensors file of weights.")],
    budget: Annotated[
        float,
        typer.Option(
            help="Share of the selected weights' parameters to keep, or, above 1, their number.", callback=o.finite
        ),
    ] = 0.5,
    families: Annotated[
        str, typer.Option(help="Families with options or without, as in `low_rank,btt:rank=2`.")
    ] = "low_rank,btt,monarch",
    calibration: Annotated[
        Path | None,
        typer.Option(help="FILE.npz: by weight name a second moment (n, n) of its inputs, or inputs (N, n), N ≠ n."),
    ] = None,
    criterion: Annotated[
        o.Criterion | None,
        typer.Option(help="What is lost least of. Default: `activation` with --calibration, `weight` without."),
    ] = None,
    where: Annotated[list[str] | None, typer.Option(help="Names of weights, as `*.mlp.*`; default all.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Names to leave, as `*embed*`.")] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Prove that the choice is the best.")] = False,
    out: Annotated[Path, typer.Option(help=f"Folder for {', '.join(RESULTS)}.")] = Path("linops-compressed"),
    force: Annotated[bool, typer.Option("--force", help="Replace a result that is there.")] = False,
) -> None:
    """Compress a file of weights: the structure of each matrix is chosen under one budget, and projected.

    Matrices are taken as (out, in), as of torch.nn.Linear; all 2-D tensors are selected, embeddings too unless
    excluded. The rest is copied. `lo.load` gives the operators and the rest by name, `lo.nn.load` loads them into the
    model.
    """
    from linops.lab import compression

    wanted = tuple([one.strip() for one in families.split(",") if one.strip()])
    if criterion is o.Criterion.activation and calibration is None:
        raise typer.BadParameter("activation needs --calibration", param_hint="'--criterion'")
    chosen = criterion.value if criterion else "weight" if calibration is None else "activation"
    job = compression.Job(model, budget, wanted, calibration, chosen, where or [], exclude or [], exact, out, force)
    plan = compression.compress(job)
    typer.echo(f"{plan}\n" + ", ".join(str(out / name) for name in RESULTS))
