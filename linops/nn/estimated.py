"""`Estimate`: what a training step takes of each device, in numbers, as text and as plain data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from textwrap import wrap
from typing import Any

from linops.nn.columns import aligned
from linops.nn.hardware import Hardware
from linops.nn.sending import Communication

#: columns of what is printed
WIDTH = 80


@dataclass(frozen=True)
class Memory:
    """Bytes of a device.

    Attributes:
        parameters: As the optimiser has them.
        gradients: Of these.
        optimizer: Its state.
        copies: Of parameters for products: gathered, or in a narrower dtype.
        activations: Kept for the backward pass.
    """

    parameters: int
    gradients: int
    optimizer: int
    copies: int
    activations: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.parameters + self.gradients + self.optimizer + self.copies + self.activations


@dataclass(frozen=True)
class Estimate:
    """What a training step takes of each device. Times are estimates; the rest is counted from shapes.

    Attributes:
        structure: The structure of linear layers.
        model: What was estimated.
        mesh: Devices along ``"data"`` and ``"model"``.
        batch: Examples of a data rank.
        tokens: Tokens of a data rank, or vectors.
        unit: What these are.
        hardware: The device.
        options: Engine, optimiser, precision and checkpointing.
        num_params: Of the whole model.
        memory: Bytes of a device, by what they are for.
        forward_flops: Of a device.
        backward_flops: Of a device, with what is computed twice.
        sent: Bytes that a device sends, to others of the axis ``"data"`` and of ``"model"``, by collective.
        compute_seconds: Without sending.
        link_seconds: Of sending.
        whole: The layers that ranks of the model's axis were to divide, and hold whole.
    """

    structure: str
    model: str
    mesh: Mapping[str, int]
    batch: int
    tokens: int
    unit: str
    hardware: Hardware
    options: Mapping[str, Any]
    num_params: int
    memory: Memory
    forward_flops: int
    backward_flops: int
    sent: Mapping[str, Communication]
    compute_seconds: float
    link_seconds: float
    whole: tuple[str, ...] = field(default=())

    @property
    def devices(self) -> int:
        """How many devices."""
        return self.mesh["data"] * self.mesh["model"]

    @property
    def fits(self) -> bool:
        """Whether a device has so much memory."""
        return self.memory.total <= self.hardware.memory

    @property
    def flops(self) -> int:
        """FLOPs of a device in a step."""
        return self.forward_flops + self.backward_flops

    @property
    def bytes_sent(self) -> int:
        """Bytes that a device sends in a step."""
        return sum([one.total for one in self.sent.values()])

    @property
    def seconds(self) -> tuple[float, float]:
        """The estimated time of a step: sending wholly behind computing, and one after the other."""
        return max(self.compute_seconds, self.link_seconds), self.compute_seconds + self.link_seconds

    @property
    def tokens_per_second(self) -> tuple[float, float]:
        """Tokens a second and device, at these times: the lower, and the higher."""
        fast, slow = self.seconds
        share = self.tokens / self.mesh["model"]
        return share / slow, share / fast

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON.

        Returns:
            A dict of numbers, strings, lists and dicts.
        """
        known = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in ("hardware", "sent")}
        sent = {axis: {"forward": dict(one.forward), "backward": dict(one.backward)} for axis, one in self.sent.items()}
        return known | {
            "mesh": dict(self.mesh),
            "options": dict(self.options),
            "memory": asdict(self.memory) | {"total": self.memory.total},
            "hardware": asdict(self.hardware),
            "whole": list(self.whole),
            "sent": sent,
            "devices": self.devices,
            "fits": self.fits,
            "estimated_seconds": list(self.seconds),
            "estimated_tokens_per_second_a_device": list(self.tokens_per_second),
        }

    def __str__(self) -> str:
        memory = asdict(self.memory) | {"all": self.memory.total}
        capacity = f"of {quantity(self.hardware.memory, 'B')}{'' if self.fits else ': does not fit'}"
        lines = [("bytes of a device", quantity(size, "B"), name) for name, size in memory.items()]
        lines[-1] = ("", *lines[-1][1:2], f"all, {capacity}")
        lines[1:-1] = [("", *line[1:]) for line in lines[1:-1]]
        lines += [("FLOPs of a step", quantity(self.forward_flops, ""), "forward")]
        lines += [("", quantity(self.backward_flops, ""), "backward")]
        start = "bytes sent"
        for axis, one in self.sent.items():
            for name, size in one.items():
                lines.append((start, quantity(size, "B"), f"{name}, {axis}"))
                start = ""
        fast, slow = self.seconds
        lines.append(("time, an estimate", duration(fast), "sending behind computing"))
        lines.append(("", duration(slow), "one after the other"))
        body = [f"{one:<18} {two:>9}  {three}" for one, two, three in lines]
        notes = wrap(held_whole(self), WIDTH) if self.whole else []
        return "\n".join([*title(self), f"{self.structure}: {self.num_params:,} parameters", *body, *notes])


class Estimates(Mapping[str, Estimate]):
    """Estimates of structures side by side, by their names.

    Args:
        found: The estimates, of one model on one mesh.
    """

    def __init__(self, found: Mapping[str, Estimate]) -> None:
        self._found = dict(found)

    def __getitem__(self, structure: str) -> Estimate:
        return self._found[structure]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def __repr__(self) -> str:
        return f"Estimates({', '.join(self)})"

    def __str__(self) -> str:
        head = ("structure", "params", "memory", "FLOPs", "sent", "estimated time", f"{self._unit}/s")
        rows = [head, *[_row(one) for one in self.values()]]
        table = aligned(rows)
        if max(map(len, table.splitlines())) > WIDTH:
            table = aligned([row[:-1] for row in rows])
        first = next(iter(self.values()))
        below = ["Of a device; times from full overlap of sending and computing to none."]
        if any(not one.fits for one in self.values()):
            below.append(f"* does not fit {quantity(first.hardware.memory, 'B')}.")
        for one in self.values():
            below += wrap(f"{one.structure}: {held_whole(one)}", WIDTH) if one.whole else []
        return "\n".join([*title(first), table, *below])

    @property
    def _unit(self) -> str:
        return next(iter(self.values())).unit


def _row(one: Estimate) -> Sequence[str]:
    low, high = one.tokens_per_second
    return (
        one.structure,
        quantity(one.num_params, ""),
        quantity(one.memory.total, "B") + ("" if one.fits else " *"),
        quantity(one.flops, ""),
        quantity(one.bytes_sent, "B"),
        between(*one.seconds),
        span(quantity(low, ""), quantity(high, "")),
    )


def title(one: Estimate) -> list[str]:
    """What was estimated, in lines."""
    axes = " × ".join([f"{size} {axis}" for axis, size in one.mesh.items()])
    options = one.options
    often = options["checkpointing"]
    kept = ", every block checkpointed" if often == 1 else f", 1 of {often} blocks checkpointed" if often else ""
    told = f"{one.tokens:,} {one.unit} a data rank, {options['engine']}, {options['optimizer']}, {options['precision']}"
    return [*wrap(f"{one.model} on {one.devices} × {one.hardware.name} ({axes})", WIDTH), *wrap(told + kept, WIDTH)]


def held_whole(one: Estimate) -> str:
    """What is said of layers that are not divided."""
    names = ", ".join(one.whole[:4]) + (f" and {len(one.whole) - 4} more" if len(one.whole) > 4 else "")
    return f"not divided, but held and run whole by all {one.mesh['model']} ranks: {names}"


def quantity(number: float, unit: str) -> str:
    """A number in three digits with its unit.

    Args:
        number: The number.
        unit: Of what.

    Returns:
        The text.

    Example:
        >>> quantity(8.03e9, ""), quantity(80e9, "B"), quantity(12, "B")
        ('8.03 G', '80 GB', '12 B')
    """
    for prefix, size in (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= 0.9995 * size:
            return f"{number / size:.3g} {prefix}{unit}"
    return f"{number:.3g} {unit}".rstrip()


def duration(seconds: float) -> str:
    """A time in three digits.

    Args:
        seconds: The time.

    Returns:
        The text.

    Example:
        >>> duration(2.5), duration(0.0123)
        ('2.5 s', '12.3 ms')
    """
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= 0.9995 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} µs"


def between(low: float, high: float) -> str:
    """Two times, or one where they are told the same.

    Args:
        low: A time.
        high: A time.

    Returns:
        The text.

    Example:
        >>> between(0.1, 0.12), between(0.9, 1.2), between(1.0, 1.0)
        ('100 – 120 ms', '900 ms – 1.2 s', '1 s')
    """
    return span(duration(low), duration(high))


def span(low: str, high: str) -> str:
    """Two quantities as one text, with the unit once if it is that of both."""
    if low == high:
        return low
    (first, _, unit), (_, _, other) = low.partition(" "), high.partition(" ")
    return f"{first if unit == other else low} – {high}"
