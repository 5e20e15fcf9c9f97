"""What `replace_linear_` did: a row for each layer, which prints as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    """One replaced layer.

    Attributes:
        name: The layer's path in the model.
        structure: The new operator, in a few words.
        shape: (out_features, in_features).
        old_params: The number of parameters before, with the bias.
        new_params: And after.
        old_macs: Multiply-accumulates an input vector before, without the bias.
        new_macs: And after.
        fans: (fan_in, fan_out) of each new leaf.
        zero_init: Whether the layer was zero, so that the factor nearest the output now is.
        tied_to: The layer whose weights it shares, which counts them, or None.
    """

    name: str
    structure: str
    shape: tuple[int, int]
    old_params: int
    new_params: int
    old_macs: int
    new_macs: int
    fans: dict[str, tuple[int, int]]
    zero_init: bool = False
    tied_to: str | None = None


@dataclass(frozen=True)
class Report(Sequence):
    """The replaced layers in the model's order, and those left alone for a reason.

    Attributes:
        rows: The replaced layers.
        skipped: The path of each layer that was left alone, and why: a clause, as "shares its weight with 'embedding'".
    """

    rows: tuple[Row, ...] = ()
    skipped: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position):
        return self.rows[position]

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    @property
    def old_params(self) -> int:
        """The parameters of the replaced layers before."""
        return sum(row.old_params for row in self.rows)

    @property
    def new_params(self) -> int:
        """The parameters of the replaced layers now."""
        return sum(row.new_params for row in self.rows)

    @property
    def old_macs(self) -> int:
        """The MACs of the replaced layers before, for an input vector to each."""
        return sum(row.old_macs for row in self.rows)

    @property
    def new_macs(self) -> int:
        """The MACs of the replaced layers now, for an input vector to each."""
        return sum(row.new_macs for row in self.rows)

    def __str__(self) -> str:
        header = ("layer", "out×in", "structure", "parameters", "MACs", "fans (in→out)", "notes")
        lines = [header, *(_cells(row) for row in self.rows)]
        totals = f"{self.old_params:,} → {self.new_params:,}", f"{self.old_macs:,} → {self.new_macs:,}"
        lines.append((f"{len(self.rows)} layers", "", "", *totals, "", ""))
        widths = [max(map(len, column)) for column in zip(*lines)]
        table = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines]
        return "\n".join([*table, *(f"left alone: {name}: {reason}" for name, reason in self.skipped.items())])


def _cells(row: Row) -> tuple[str, ...]:
    notes = ["zero-init"] if row.zero_init else []
    notes += [f"tied to {row.tied_to}"] if row.tied_to else []
    return (
        row.name,
        f"{row.shape[0]}×{row.shape[1]}",
        row.structure,
        f"{row.old_params:,} → {row.new_params:,}",
        f"{row.old_macs:,} → {row.new_macs:,}",
        ", ".join(f"{name} {fan_in}→{fan_out}" for name, (fan_in, fan_out) in row.fans.items()),
        ", ".join(notes),
    )
