"""Where a long command is, on stderr: bars on a terminal, otherwise a line now and then."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from time import perf_counter
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

#: seconds between two lines
EVERY = 10.0


class Progress:
    """The progress of several pieces of work, one after the other; a context.

    Args:
        pieces: How many pieces there are.
        shown: Whether to show anything: of several processes, one does.
        file: Where; by default stderr.
        every: Seconds between two lines where it is no terminal.
        costs: About what each piece costs, in any unit: how long the rest takes is told by it.
    """

    pieces: int
    number: int
    every: float
    name: str
    total: int
    start: float
    said: float

    def __init__(
        self,
        pieces: int,
        shown: bool = True,
        file: TextIO | None = None,
        every: float = EVERY,
        costs: Sequence[float] = (),
    ) -> None:
        self.pieces, self.number, self.every = pieces, 0, every
        self.file: TextIO = sys.stderr if file is None else file
        self.name, self.total = "", 0
        self.start, self.said = perf_counter(), -every
        self.costs: Sequence[float] = costs
        self.lines: bool = shown and not self.file.isatty()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
        )
        shown = shown and not self.lines
        self.bars: Bars = Bars(
            *columns,
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(file=self.file),
            transient=True,
            disable=not shown,
        )
        self.overall: Any = self.bars.add_task("all", total=pieces, note="", visible=pieces > 1)
        self.bar: Any = None

    def __enter__(self) -> Progress:
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()
        if self.lines and self.number:
            self._print(f"{self.number} of {self.pieces} done in {self._elapsed()}")

    def say(self, line: str) -> None:
        """Prints a line that stays.

        Args:
            line: The line.
        """
        if self.lines:
            self._print(line)
        else:
            self.bars.print(line, markup=False, highlight=False, soft_wrap=True)

    def begin(self, name: str, total: int) -> None:
        """Says which piece of work comes next.

        Args:
            name: What it is.
            total: Its number of steps.
        """
        self.name, self.total = name, total
        self.bar = self.bars.add_task(name, total=total, note="")
        self._say("")

    def update(self, done: int, note: str = "") -> None:
        """Says how far it is.

        Args:
            done: How many steps are done.
            note: What else there is to say, such as the loss.
        """
        self.bars.update(self.bar, completed=done, note=note)
        parts = [f"{done} of {self.total}"] if self.total > 1 else []
        if left := self._left(done):
            self.bars.update(self.overall, note=left)
            note = f"{note}; {left}" if note and self.lines else note
        self._say(": " + ", ".join(parts + [note] * bool(note)))

    def end(self) -> None:
        """Says that the piece is done, or need not be."""
        self.number += 1
        if self.bar is not None:
            self.bars.remove_task(self.bar)
            self.bar = None
        self.bars.update(self.overall, completed=self.number)

    def _say(self, text: str) -> None:
        now = perf_counter() - self.start
        if self.lines and now - self.said >= self.every:
            self.said = now
            count = f"{self.number + 1} of {self.pieces}, " if self.pieces > 1 else ""
            self._print(f"{self._elapsed()}: {count}{self.name}{text}")

    def _elapsed(self) -> str:
        return _minutes(perf_counter() - self.start)

    def _left(self, done: int) -> str:
        """How long the rest takes, by the costs of pieces; nothing while that is unknown."""
        if not self.costs:
            return ""
        past = sum(self.costs[: self.number]) + self.costs[self.number] * done / self.total
        return f"about {_minutes((perf_counter() - self.start) * (sum(self.costs) / past - 1))} left" if past else ""

    def _print(self, line: str) -> None:
        print(line, file=self.file, flush=True)


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02}"
