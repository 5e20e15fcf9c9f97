"""Tables that fold where the terminal is too narrow: into several, one below the other, so that no number is cut."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

#: columns between two cells
GAP = 1


class Folding:
    """A table whose first column is text and whose others are numbers.

    Attributes:
        title: The line above.
        columns: Headings.
        rows: Cells.
        caption: What stands below.
    """

    title: str
    columns: list[str]
    caption: str | None

    def __init__(
        self, title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], caption: str | None = None
    ) -> None:
        self.title, self.columns, self.caption = title, list(columns), caption
        self.rows: list[list[str]] = [list(map(str, row)) for row in rows]

    def parts(self, width: int) -> list[list[int]]:
        """Which columns stand beside each other: as many as fit, the first in every part.

        Args:
            width: Columns of the terminal.

        Returns:
            Numbers of columns, one list a part.

        Example:
            >>> Folding("", ["name", "time", "MACs"], [("btt", "12.3 ms", "4,096")]).parts(13)
            [[0, 1], [0, 2]]
        """
        widths = [max(cell_len(cell) for cell in column) for column in zip(self.columns, *self.rows)]
        parts: list[list[int]] = []
        room = 0
        for number in range(1, len(widths)):
            if not parts or room < widths[number] + GAP:
                parts.append([0])
                room = width - widths[0]
            parts[-1].append(number)
            room -= widths[number] + GAP
        return parts or [[0]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The title, the parts, the caption."""
        yield Text(self.title, style="bold")
        for number, part in enumerate(self.parts(options.max_width)):
            if number:
                yield Text()
            yield self._table(part)
        if self.caption:
            yield Text(self.caption, style="dim")

    def _table(self, part: Sequence[int]) -> Table:
        made = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")
        for number in part:
            made.add_column(self.columns[number], justify="right" if number else "left", overflow="fold")
        for row in self.rows:
            made.add_row(*(Text(row[number]) for number in part))
        return made
