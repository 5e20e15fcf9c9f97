"""`estimate`: memory, FLOPs, bytes and time of a training step on many devices, from shapes alone."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, overload

from linops.nn.communication import STYLES, Communication
from linops.nn.description import DENSE, Description, Part, of_operators
from linops.nn.estimated import Estimate, Estimates, Memory
from linops.nn.hardware import Hardware
from linops.nn.hardware import hardware as hardware_of
from linops.nn.members import named
from linops.nn.mesh import mesh_of
from linops.nn.transformer import Transformer
from linops.nn.workload import Load, Rates, blocks_of, least_share, load
from linops.operator import LinearOperator
from linops.plan import transfer


class Precision(NamedTuple):
    """Which numbers there are of.

    Attributes:
        kind: The rate of products.
        product: Bytes of a number in products and activations.
        held: Bytes of a parameter, of its gradient, and of each number of the optimiser's state.
    """

    kind: str
    product: int
    held: int


PRECISIONS = {
    "mixed": Precision("bfloat16", 2, 4),
    "bfloat16": Precision("bfloat16", 2, 2),
    "tf32": Precision("tf32", 4, 4),
    "float32": Precision("float32", 4, 4),
}
#: the numbers that an optimiser keeps of a number of a matrix of a linear layer, and of another parameter
OPTIMIZERS = {"sgd": (0, 0), "momentum": (1, 1), "adamw": (2, 2), "muon": (1, 2)}
ENGINES = ("fsdp", "ddp")


@overload
def estimate(model: Any, mesh: Any, batch: int = ..., *, families: None = ..., **options: Any) -> Estimate: ...


@overload
def estimate(model: Any, mesh: Any, batch: int = ..., *, families: Sequence[Any], **options: Any) -> Estimates: ...


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
            name), or a PyTorch model, on the meta device too. Nothing is allocated.
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
        TypeError: If the model is of another kind.
        OSError: If a file cannot be read.

    Example:
        >>> import linops as lo
        >>> gpt = lo.nn.Transformer(d_model=4096, layers=32, vocab=32000, seq=2048)
        >>> found = lo.nn.estimate(gpt, {"data": 8, "model": 2}, batch=4, families=["dense", "btt:rank=4"])
        >>> [f"{one.num_params:,}" for one in found.values()], found["dense"].fits
        (['6,713,131,008', '748,888,064'], True)
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
        raise ValueError(f"estimate(styles=…): style {strange[0]!r}; expected one of {', '.join(STYLES)}")
    axes, machine = mesh_of(mesh), hardware_of(hardware)
    setting = _Setting(axes["data"], axes["model"], batch, machine, engine, optimizer, precision, checkpointing)
    made: dict[str, Estimate] = {}
    for family in [DENSE] if families is None else families:
        text = family if isinstance(family, str) else getattr(family, "text", getattr(family, "__name__", str(family)))
        described = _described(model, None if family == DENSE else named(family), where, exclude, example)
        made[text] = _estimate(text, described.styled(styles) if styles else described, setting)
    if not made:
        raise ValueError("estimate(families=[]): expected one at least, as 'dense' or 'btt:rank=4'")
    return made[DENSE] if families is None else Estimates(made)


class _Setting(NamedTuple):
    data: int
    model: int
    batch: int
    hardware: Hardware
    engine: str
    optimizer: str
    precision: str
    checkpointing: int


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
        raise TypeError(
            f"estimate({type(model).__name__}): expected lo.nn.Transformer, a config.json, operators or a PyTorch "
            "model; of another model, give the operators or the sizes"
        )
    return found if family is None else found.swapped(family, where, exclude)


def _estimate(text: str, model: Description, setting: _Setting) -> Estimate:
    precision, machine = PRECISIONS[setting.precision], setting.hardware
    order = "planned" if machine.name == "this CPU" else "natural"
    rates = Rates(machine.rate(precision.kind), machine.reach * machine.bandwidth, precision.product, order)
    tokens = setting.batch * model.tokens
    loads = _loads(model, tokens, setting.model, rates)
    whole = [part.name for part, one in loads if one.is_whole]
    memory = _memory(model, loads, setting, precision)
    sent = {"data": _data(model, loads, setting, precision), "model": Communication()}
    forward = backward = seconds = 0.0
    redone = {name: done / count for name, count, done in _checkpointed(model, setting)}
    for part, one in loads:
        count, again = model.count(part), redone.get(part.block, 0.0)
        forward += count * one.forward
        backward += count * (one.backward + again * one.forward)
        seconds += count * (one.seconds[0] * (1 + again) + one.seconds[1])
        sent["model"] += _times(one.sent, count, again)
    states = memory.optimizer / max(memory.parameters, 1)
    seconds += memory.parameters * (3 + 2 * states) / rates.bandwidth  # the optimiser's pass
    links = sum(
        [
            size / machine.sending(ranks, inner, collective)
            for axis, ranks, inner in (("data", setting.data, setting.model), ("model", setting.model, 1))
            for collective, size in sent[axis].items()
        ]
    )
    unsplit = _params(model, tokens)
    return Estimate(
        structure=text,
        model=model.name,
        mesh={"data": setting.data, "model": setting.model},
        batch=setting.batch,
        tokens=tokens,
        unit=model.unit,
        hardware=machine,
        options={
            "engine": setting.engine,
            "optimizer": setting.optimizer,
            "precision": setting.precision,
            "checkpointing": setting.checkpointing,
        },
        num_params=unsplit,
        memory=memory,
        forward_flops=round(forward),
        backward_flops=round(backward),
        sent=sent,
        compute_seconds=seconds,
        link_seconds=links,
        whole=tuple(whole),
    )


def _loads(model: Description, tokens: int, ranks: int, rates: Rates) -> list[tuple[Part, Load]]:
    """What a device has of each layer; what follows a block's layers is divided if all that are to be divided are."""
    found = {}
    for part in model.parts:
        if part.operator is not None:
            found[part.name] = load(part, tokens, ranks, rates, True)
    stuck = {part.block for part in model.parts if part.name in found and found[part.name].is_stuck}
    for part in model.parts:
        if part.operator is None:
            found[part.name] = load(part, tokens, ranks, rates, part.block not in stuck)
    return [(part, found[part.name]) for part in model.parts]


def _params(model: Description, tokens: int) -> int:
    rates = Rates(1.0, 1.0, 1)
    return sum([model.count(part) * load(part, 0, 1, rates, False).params for part in model.parts])


def _checkpointed(model: Description, setting: _Setting) -> list[tuple[str, int, int]]:
    return list(blocks_of([*model.blocks], [*model.blocks.values()], setting.checkpointing))


def _times(sent: Communication, count: int, again: float) -> Communication:
    """What layers of a kind send, a share of them forward twice."""
    forward = {name: round(count * size * (1 + again)) for name, size in sent.forward.items()}
    return Communication(forward, {name: count * size for name, size in sent.backward.items()})


def _memory(model: Description, loads: Sequence[tuple[Part, Load]], setting: _Setting, precision: Precision) -> Memory:
    ranks = setting.data if setting.engine == "fsdp" else 1
    matrix, other = OPTIMIZERS[setting.optimizer]
    params = state = 0
    units: dict[str, int] = {}
    kept: dict[str, float] = {}
    for part, one in loads:
        count = model.count(part)
        for shape, is_matrix in one.shapes:
            numbers = count * least_share(shape, ranks)
            params += numbers
            state += numbers * (matrix if is_matrix else other)
        unit = part.block or part.name
        units[unit] = units.get(unit, 0) + one.params
        kept[part.block] = kept.get(part.block, 0.0) + one.kept * precision.product + one.singles * 4
    activations = kept.get("", 0.0)
    busiest = 0.0
    for name, count, done in _checkpointed(model, setting):
        entering = setting.batch * model.tokens * model.carried.get(name, 0) * precision.product
        activations += (count - done) * kept.get(name, 0.0) + done * entering
        busiest = max(busiest, kept.get(name, 0.0) if done else 0.0)
    if setting.engine == "fsdp":  # two units gathered at a time, and the gradient of one
        copies = 3 * max(units.values()) if setting.data > 1 or precision.product < precision.held else 0
    else:
        copies = sum([model.count(part) * one.params for part, one in loads])
        copies *= precision.product < precision.held
    return Memory(
        parameters=params * precision.held,
        gradients=params * precision.held,
        optimizer=state * precision.held,
        copies=copies * precision.product,
        activations=round(activations + busiest),
    )


def _data(
    model: Description, loads: Sequence[tuple[Part, Load]], setting: _Setting, precision: Precision
) -> Communication:
    """What data ranks send each other: gradients, and with FSDP parameters for both passes."""
    if setting.data == 1:
        return Communication()
    params = sum([model.count(part) * one.params for part, one in loads])
    if setting.engine == "ddp":
        size = transfer.sent(transfer.ALL_REDUCE, setting.data, params) * precision.held
        return Communication({}, {transfer.ALL_REDUCE: round(size)})
    share = transfer.sent(transfer.ALL_GATHER, setting.data, params)
    gathered, reduced = round(share * precision.product), round(share * precision.held)
    return Communication(
        {transfer.ALL_GATHER: gathered}, {transfer.ALL_GATHER: gathered, transfer.REDUCE_SCATTER: reduced}
    )
