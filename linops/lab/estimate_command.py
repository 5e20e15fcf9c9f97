"""The command ``linops estimate``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from linops.lab import options as o

#: what it writes
RESULTS = ("estimate.json", "estimate.png")
#: the devices that are looked at where no mesh is given
SWEEP = "1,8,64,512,4096"
#: what a config says too
_SIZES = ("model", "d_model", "layers", "heads", "kv_heads", "ff", "vocab")


class Shape(StrEnum):
    """Which kind of decoder."""

    gpt = "gpt"
    llama = "llama"


class Optimizer(StrEnum):
    """What keeps state."""

    adamw = "adamw"
    muon = "muon"
    momentum = "momentum"
    sgd = "sgd"


class Precision(StrEnum):
    """Of what numbers are."""

    mixed = "mixed"
    bfloat16 = "bfloat16"
    tf32 = "tf32"
    float32 = "float32"


class Engine(StrEnum):
    """How data ranks share a model."""

    fsdp = "fsdp"
    ddp = "ddp"


def estimate(
    context: typer.Context,
    model: Annotated[
        Shape, typer.Option(help="LayerNorm, GELU, biases and learned positions, or RMSNorm and SwiGLU.")
    ] = Shape.gpt,
    d_model: Annotated[int, typer.Option(help="Width.", min=1, max=o.MOST_WIDTH)] = 4096,
    layers: Annotated[int, typer.Option(help="Blocks.", min=1, max=o.MOST_DEPTH)] = 32,
    heads: Annotated[int | None, typer.Option(help="Heads. Default: of 64 numbers each.", min=1)] = None,
    kv_heads: Annotated[int | None, typer.Option(help="Heads of keys and values. Default: as many.", min=1)] = None,
    ff: Annotated[int | None, typer.Option(help="Width of the MLP. Default: 4 times the width.", min=1)] = None,
    vocab: Annotated[int, typer.Option(help="Tokens that there are.", min=1)] = 50257,
    seq: Annotated[int | None, typer.Option(help="Tokens in a row. Default: 2048, or the config's.", min=1)] = None,
    config: Annotated[
        Path | None,
        typer.Option("--from", help="CONFIG.json of Hugging Face, like Llama's or GPT-2's, instead of sizes."),
    ] = None,
    families: Annotated[
        str, typer.Option(help="Of linear layers but the head, as in `dense,btt:rank=4`; side by side.")
    ] = "dense,btt:rank=4,low_rank",
    mesh: Annotated[
        str | None, typer.Option(help="Devices by axis, as in `data=8,model=4`; `model` divides layers.")
    ] = None,
    devices: Annotated[
        str | None, typer.Option(help=f"Numbers of devices, with the mesh's `model`. Default without a mesh: {SWEEP}.")
    ] = None,
    batch: Annotated[int, typer.Option(help="Rows of tokens of a data rank in a step.", min=1)] = 1,
    hardware: Annotated[
        str, typer.Option(help="`a100`, `h100`, `h200`, `b200`, `tpu-v5p`, `cpu` (measured), or FILE.toml or .json.")
    ] = "h100",
    engine: Annotated[Engine, typer.Option(help="Whether data ranks divide the model's state.")] = Engine.fsdp,
    optimizer: Annotated[Optimizer, typer.Option(help="What keeps state.")] = Optimizer.adamw,
    precision: Annotated[
        Precision, typer.Option(help="`mixed`: products in bfloat16, state in float32.")
    ] = Precision.mixed,
    checkpointing: Annotated[
        int, typer.Option(help="One of so many blocks is computed twice: 1 all, 2 every second, 0 none.", min=0)
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    out: Annotated[Path | None, typer.Option(help=f"Folder for {' and '.join(RESULTS)}.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a result that is there.")] = False,
) -> None:
    """Estimate training on many devices: memory, FLOPs, bytes and time of a step, for structures side by side.

    Memory, FLOPs and bytes are counted from shapes, and nothing is allocated. Times are estimates, by a roofline.
    """
    from linops.lab import estimating
    from linops.nn.transformer import Transformer

    if config is not None:
        shapes = Transformer.from_config(config, seq)
        beside = [name for name in _SIZES if _is_given(context, name)]
        if beside:
            option = f"--{beside[0].replace('_', '-')}"
            raise typer.BadParameter(f"{config} says it; give one of the two", param_hint=f"'{option}'")
    else:
        gated = model is Shape.llama
        shapes = Transformer(d_model, layers, heads or 0, kv_heads, None, ff, vocab, seq or 2048, gated)
    options = {
        "engine": engine.value,
        "optimizer": optimizer.value,
        "precision": precision.value,
        "checkpointing": checkpointing,
    }
    meshes = estimating.meshes_of(mesh, devices, SWEEP)
    wanted = [structure.text for structure in o.structures_of(families, option="--families")]
    estimating.require_room(out, RESULTS, force)
    found = estimating.estimates(shapes, meshes, batch, wanted, hardware, options)
    estimating.show(found, as_json, out, RESULTS)


def _is_given(context: typer.Context, name: str) -> bool:
    """Whether an option was written on the command line."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
