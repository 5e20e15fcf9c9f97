"""Reports that are sequences of their rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar, overload

Row = TypeVar("Row")


class Rows(Sequence[Row], Generic[Row]):
    """What has rows, and is a sequence of them.

    Attributes:
        rows: The rows.
    """

    rows: tuple[Row, ...]

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, position: int) -> Row: ...
    @overload
    def __getitem__(self, position: slice) -> tuple[Row, ...]: ...
    def __getitem__(self, position: int | slice) -> Row | tuple[Row, ...]:
        return self.rows[position]

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)
