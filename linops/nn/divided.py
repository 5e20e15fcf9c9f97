"""What a model's layers send, when they are divided among ranks: a report that prints as a table."""

from __future__ import annotations

from dataclasses import dataclass

from linops.nn.columns import aligned
from linops.nn.rows import Rows
from linops.nn.sending import Communication, of_division
from linops.sharding import Division


@dataclass(frozen=True)
class Row:
    """A layer of a model that is divided among ranks.

    Attributes:
        name: Its path.
        style: What each rank has of the vectors that go in and come out; see `lo.nn.communication`.
        division: What each rank holds and runs.
        itemsize: The bytes of a number.
    """

    name: str
    style: str
    division: Division
    itemsize: int


@dataclass(frozen=True, repr=False)
class Divided(Rows[Row]):
    """The layers of a model that are divided among ranks, in the model's order; it prints as a table.

    Attributes:
        rows: The layers.
        ranks: How many ranks.
    """

    rows: tuple[Row, ...]
    ranks: int

    def communication(self, batch: int = 1) -> Communication:
        """The bytes that each rank sends in a step.

        Args:
            batch: How many vectors reach each layer.

        Returns:
            Bytes by collective, forward and backward; of a layer whose input has no gradient fewer are sent backward.
        """
        return sum((of_division(row.division, batch, row.itemsize) for row in self.rows), Communication())

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        lines = [("layer", "style", "split", "bytes, 1 vector")]
        for row in self.rows:
            split = (
                ", ".join([f"{name}:{axis}" for name, axis in row.division.axes.items() if axis is not None])
                or "nothing"
            )
            lines.append((row.name, row.style, split, f"{of_division(row.division, 1, row.itemsize).total:,}"))
        lines.append((f"{len(self.rows)} layers, {self.ranks} ranks", "", "", f"{self.communication().total:,}"))
        return aligned(lines, left=3)
