"""The options that several commands take, and what is checked of their values before a command runs."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from math import isfinite
from pathlib import Path
from typing import Annotated, Any

import typer

from linops.lab.parsing import parse_list

#: more than anyone means: a number with a digit too many is told so at once
MOST_WIDTH, MOST_DEPTH, MOST_STEPS, MOST_SEEDS, MOST_THREADS, MOST_SEED = 2**20, 1000, 10**9, 1000, 1024, 2**32 - 1


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


class Stepper(StrEnum):
    """What steps."""

    muon = "muon"
    adamw = "adamw"
    sgd = "sgd"


class Optimizer(StrEnum):
    """What steps structured weights; Adam steps the rest."""

    adam = "adam"
    muon = "muon"


class Rule(StrEnum):
    """How structured weights get their rates."""

    static = "static"
    naive = "naive"
    renormalized = "renormalized"


class Dtype(StrEnum):
    """What numbers are."""

    float16 = "float16"
    bfloat16 = "bfloat16"
    float32 = "float32"
    float64 = "float64"
    complex64 = "complex64"
    complex128 = "complex128"


class Criterion(StrEnum):
    """What a compression is to lose least of."""

    weight = "weight"
    activation = "activation"


def finite(value: float) -> float:
    """A number that is neither infinite nor NaN.

    Args:
        value: What was written.

    Returns:
        The number.

    Raises:
        BadParameter: If it is not finite.
    """
    if not isfinite(value):
        raise typer.BadParameter(f"expected a finite number, got {value}")
    return value


def structures_of(
    text: str | None, shape: tuple[int, int] | None = None, option: str = "--structures", of_layers: bool = False
) -> list[Any]:
    """The structures that were written, or all families.

    Args:
        text: As in ``"dense,btt:rank=2"``, or None.
        shape: (out_features, in_features), where all are of one shape.
        option: What errors call it.
        of_layers: Whether layers get them, so that they need not be linear maps.

    Returns:
        The structures.

    Raises:
        BadParameter: If a family or an option of it is unknown.
    """
    try:
        return parse_list(text, shape=shape, of_layers=of_layers)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=f"'{option}'") from None


def rules_of(rules: Iterable[Rule] | None) -> list[str]:
    """The rules that were written, each once.

    Args:
        rules: As written, or None.

    Returns:
        Their names.
    """
    return [rule.value for rule in dict.fromkeys(rules or ())]


def require_apply(context: typer.Context, mode: str, names: Iterable[str]) -> None:
    """Raise if options are written that a mode of a command does not heed.

    Args:
        context: Of the command.
        mode: What errors call the mode.
        names: The parameters that do not apply in it.

    Raises:
        BadParameter: With the options that were written.
    """
    ignored, given = set(names), []
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name) if parameter.name in ignored else None
        if source is not None and source.name == "COMMANDLINE":
            given.append(f"'{parameter.opts[0]}'")
    if given:
        raise typer.BadParameter(
            f"{mode} does not take {'it' if len(given) == 1 else 'them'}", param_hint=", ".join(given)
        )


Model = Annotated[Architecture, typer.Option(help="The paper's MLP, a ViT on images, or a GPT on text.")]
Data = Annotated[
    str | None,
    typer.Option(
        help="`mnist1d` (generated), `digits` (scikit-learn's), FILE.npz with x_train, y_train, "
        "x_test, y_test, or an archive of CIFAR. Default: mnist1d; for a ViT, digits."
    ),
]
Text = Annotated[
    str | None, typer.Option(help="For a GPT: a file or folder. Default: the source of Python's standard library.")
]
Structures = Annotated[
    str, typer.Option(help="Families with options, as in `btt:rank=2,monarch`; also `chain` and `btt_mixture`.")
]
Depth = Annotated[int, typer.Option(help="Number of residual blocks.", min=1, max=MOST_DEPTH)]
BaseDepth = Annotated[
    int | None,
    typer.Option(
        help="The depth at which rates were tuned: branches and Adam's epsilon follow CompleteP. "
        "Default: nothing is scaled by depth.",
        min=1,
        max=MOST_DEPTH,
    ),
]
Steps = Annotated[Optimizer, typer.Option("--optimizer", help="Of structured weights; Adam steps all others.")]
Rules = Annotated[
    list[Rule] | None,
    typer.Option(
        "--rule",
        help="How structured weights get their rates, may be repeated: structure-aware and static, naive, or "
        "structure-aware and renormalised as factors grow. Default: static and naive, under Muon renormalized and "
        "naive; in scaling, naive for BTT alone.",
    ),
]
Quick = Annotated[bool, typer.Option("--quick", help="Few widths and steps: a look, not a result.")]
Seed = Annotated[
    int, typer.Option(help="The first seed, of weights, batches and generated data.", min=0, max=MOST_SEED)
]
Seeds = Annotated[int, typer.Option(help="How many seeds, from SEED up.", min=1, max=MOST_SEEDS)]
Out = Annotated[Path, typer.Option(help="Folder for results.json, summary.json and the plot.")]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume/--force",
        help="Where OUT has runs: go on with them, or run them again. "
        "With --resume, runs of other settings are an error, and stay.",
    ),
]
Device = Annotated[str, typer.Option(help="`cpu`, `cuda`, or `auto`.")]
Threads = Annotated[
    int, typer.Option(help="CPU threads; models this small gain nothing from more than one.", min=1, max=MOST_THREADS)
]
