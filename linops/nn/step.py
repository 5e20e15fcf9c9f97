"""The numbers of an estimate: what a device holds, computes and sends in a training step, and how long that takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from linops.nn.cutting import most_of
from linops.nn.description import Description, Part
from linops.nn.estimated import Estimate, Memory
from linops.nn.hardware import Hardware
from linops.nn.sending import Communication
from linops.nn.workload import Load, Rates, blocks_of, load
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


class Setting(NamedTuple):
    """How a model is trained.

    Attributes:
        data: Data ranks.
        model: Ranks that divide layers.
        batch: Examples of a data rank.
        hardware: The devices.
        engine: ``"fsdp"`` or ``"ddp"``.
        optimizer: One of `OPTIMIZERS`.
        precision: One of `PRECISIONS`.
        checkpointing: Of every so many blocks one is computed twice; 0: none.
    """

    data: int
    model: int
    batch: int
    hardware: Hardware
    engine: str
    optimizer: str
    precision: str
    checkpointing: int


def step(text: str, model: Description, setting: Setting) -> Estimate:
    """What a training step takes of each device.

    Args:
        text: What the model's structure is called.
        model: The model.
        setting: How it is trained.

    Returns:
        The estimate.
    """
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
        num_params=_params(model),
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


def _params(model: Description) -> int:
    rates = Rates(1.0, 1.0, 1)
    return sum([model.count(part) * load(part, 0, 1, rates, False).params for part in model.parts])


def _checkpointed(model: Description, setting: Setting) -> list[tuple[str, int, int]]:
    return list(blocks_of([*model.blocks], [*model.blocks.values()], setting.checkpointing))


def _times(sent: Communication, count: int, again: float) -> Communication:
    """What layers of a kind send, a share of them forward twice."""
    forward = {name: round(count * size * (1 + again)) for name, size in sent.forward.items()}
    return Communication(forward, {name: count * size for name, size in sent.backward.items()})


def _memory(model: Description, loads: Sequence[tuple[Part, Load]], setting: Setting, precision: Precision) -> Memory:
    ranks = setting.data if setting.engine == "fsdp" else 1
    matrix, other = OPTIMIZERS[setting.optimizer]
    params = state = 0
    units: dict[str, int] = {}
    kept: dict[str, float] = {}
    for part, one in loads:
        count = model.count(part)
        for shape, is_matrix in one.shapes:
            numbers = count * most_of(shape, ranks)
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
    model: Description, loads: Sequence[tuple[Part, Load]], setting: Setting, precision: Precision
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
