"""`estimate`: memory, FLOPs, bytes and time of a training step on many devices, from shapes alone."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, overload

from linops.nn.description import DENSE, Description, of_operators
from linops.nn.estimated import Estimate, Estimates
from linops.nn.hardware import Hardware
from linops.nn.hardware import hardware as hardware_of
from linops.nn.members import named
from linops.nn.mesh import mesh_of
from linops.nn.obstacles import framework_of
from linops.nn.sending import STYLES
from linops.nn.step import ENGINES, OPTIMIZERS, PRECISIONS, Setting, step
from linops.nn.transformer import Transformer
from linops.operator import LinearOperator


@overload
def estimate(
    model: Any,
    mesh: Any,
    batch: int = 1,
    hardware: str | Path | Hardware = "h100",
    *,
    families: None = None,
    where: Any = None,
    exclude: Any = "*head*",
    engine: str = "fsdp",
    optimizer: str = "adamw",
    precision: str = "mixed",
    checkpointing: int = 0,
    styles: Mapping[str, str] | None = None,
    example: Any = None,
) -> Estimate: ...


@overload
def estimate(
    model: Any,
    mesh: Any,
    batch: int = 1,
    hardware: str | Path | Hardware = "h100",
    *,
    families: Sequence[Any],
    where: Any = None,
    exclude: Any = "*head*",
    engine: str = "fsdp",
    optimizer: str = "adamw",
    precision: str = "mixed",
    checkpointing: int = 0,
    styles: Mapping[str, str] | None = None,
    example: Any = None,
) -> Estimates: ...


def estimate(
    model: Any,
    mesh: Any,
    batch: int = 1,
    hardware: str | Path | Hardware = "h100",
    *,
    families: Sequence[Any] | None = None,
    where: Any = None,
    exclude: Any = "*head*",
    engine: str = "fsdp",
    optimizer: str = "adamw",
    precision: str = "mixed",
    checkpointing: int = 0,
    styles: Mapping[str, str] | None = None,
    example: Any = None,
) -> Estimate | Estimates:
    """What a training step takes of each device: memory, FLOPs and bytes from shapes, and a time that is an estimate.

    A time is that of a roofline: of each step of each layer the slower of its FLOPs at a share of the peak and of its
    bytes of memory, forward and backward, the optimiser's pass over its state, and all bytes sent by bandwidth: from
    full overlap of sending and computing to none.

    Args:
        model: `lo.nn.Transformer`, a config.json of Hugging Face (path or mapping), operators (one, in a list or by
            name), or a PyTorch model, on the meta device too. Nothing is allocated. Of a model of Flax or Equinox, give
            the operators of its layers.
        mesh: How many devices: a number of data ranks, ``{"data": 8, "model": 4}``, or a mesh of torch or JAX with
            these names; ``"model"`` divides layers as `lo.nn.communication` says.
        batch: Examples of a data rank in a step: rows of tokens, or vectors for operators.
        hardware: ``"h100"``, ``"h200"``, ``"b200"``, ``"a100"``, ``"tpu-v5p"``, ``"cpu"`` (this one, measured), a file,
            or `lo.nn.Hardware`.
        families: Structures to be estimated side by side, as ``["dense", "btt:rank=4", lo.monarch]``; ``"dense"``
            leaves the model as it is.
        where: Which linear layers get a structure; None means all. See `replace_linear_`.
        exclude: Which of these are left.
        engine: ``"fsdp"`` divides parameters, gradients and state among data ranks and gathers them for each pass;
            ``"ddp"`` has them whole.
        optimizer: ``"adamw"`` keeps two numbers a parameter, ``"momentum"`` one, ``"sgd"`` none, ``"muon"`` one of
            matrices and two of the rest.
        precision: ``"mixed"`` (parameters, gradients and state in float32, products and activations in bfloat16),
            ``"bfloat16"``, ``"tf32"`` or ``"float32"``.
        checkpointing: Of every so many blocks one keeps its input alone, and is computed twice: 1 is all, 2 every
            second, 0 none.
        styles: Patterns of names to styles of `lo.nn.communication`, where layers are to be divided otherwise.
        example: For a PyTorch model, an input of one example, or a tuple of inputs: the forward pass is run on the meta
            device, so that vectors and all tensors that are kept are counted. Without it each linear layer multiplies
            `batch` vectors, and linear layers and norms alone keep activations.

    Returns:
        The estimate; with `families`, one for each by name. Both print as a table of 80 columns.

    Raises:
        ValueError: If an argument is none of these, no layer is selected, or a family refuses one.
        TypeError: If the model is of another kind, or families are no list.
        OSError: If a file cannot be read.

    Example:
        >>> import linops as lo
        >>> gpt = lo.nn.Transformer(d_model=4096, layers=32, vocab=32000, seq=2048)
        >>> found = lo.nn.estimate(gpt, {"data": 8, "model": 2}, batch=4, families=["dense", "btt:rank=4"])
        >>> [f"{one.num_params:,}" for one in found.values()], found["dense"].fits
        (['6,714,695,680', '943,333,376'], True)
    """
    for name, value, known in (
        ("engine", engine, ENGINES),
        ("optimizer", optimizer, OPTIMIZERS),
        ("precision", precision, PRECISIONS),
    ):
        if value not in known:
            raise ValueError(f"estimate({name}={value!r}): expected one of {', '.join(known)}")
    for name, value, least in (("batch", batch, 1), ("checkpointing", checkpointing, 0)):
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"estimate({name}={value!r}): expected a whole number of at least {least}")
    if strange := [style for style in (styles or {}).values() if style not in STYLES]:
        raise ValueError(f"estimate(style=…): style {strange[0]!r}; expected one of {', '.join(STYLES)}")
    axes, machine = mesh_of(mesh), hardware_of(hardware)
    setting = Setting(axes["data"], axes["model"], batch, machine, engine, optimizer, precision, checkpointing)
    made: dict[str, Estimate] = {}
    if isinstance(families, str):
        raise TypeError(f"estimate(families={families!r}): expected a list of families, as [{families!r}]")
    for family in [DENSE] if families is None else families:
        text = family if isinstance(family, str) else getattr(family, "text", getattr(family, "__name__", str(family)))
        described = _described(model, None if family == DENSE else named(family), where, exclude, example)
        made[text] = step(text, described.styled(styles) if styles else described, setting)
    if not made:
        raise ValueError("estimate(families=[]): expected one at least, as 'dense' or 'btt:rank=4'")
    return made[DENSE] if families is None else Estimates(made)


def _described(model: Any, family: Any, where: Any, exclude: Any, example: Any) -> Description:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(model, torch.nn.Module):
        return import_module("linops.nn.torch.described").described(model, family, where, exclude, example)
    if example is not None:
        raise ValueError("estimate(example=…): only for a PyTorch model")
    if isinstance(model, str | Path) or (
        isinstance(model, Mapping) and any(isinstance(value, int | str) for value in model.values())
    ):
        model = Transformer.from_config(model)
    if isinstance(model, Transformer):
        found = model.description()
    elif isinstance(model, LinearOperator | Mapping | list | tuple):
        found = of_operators(model)
    else:
        if kind := framework_of(model):
            raise TypeError(
                f"estimate({type(model).__name__}): it is {kind}, of which there is no estimate: give the operators of "
                "its linear layers by name, as {'up': model.up.operator, 'head': lo.dense(10, 256)}, or the sizes of a "
                "transformer, lo.nn.Transformer(…)"
            )
        raise TypeError(
            f"estimate({type(model).__name__}): expected lo.nn.Transformer, a config.json, operators or a PyTorch "
            "model; of another model, give the operators or the sizes"
        )
    return found if family is None else found.swapped(family, where, exclude)
