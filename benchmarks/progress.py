"""What a benchmark shows while it measures."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")


def say(text: str) -> None:
    """Print progress, apart from results.

    Args:
        text: What happens.
    """
    print(text, file=sys.stderr, flush=True)


def progress(cells: Sequence[T], name: str) -> Iterable[T]:
    """The cells, with a bar of what is done and how long the rest takes on a terminal; elsewhere a line now and then.

    Args:
        cells: What to measure, one after the other.
        name: The benchmark's name.

    Returns:
        The cells.
    """
    from linops.lab.progress import Progress  # not before CoLA, in processes that import it

    with Progress(1) as shown:
        shown.begin(name, len(cells))
        for number, cell in enumerate(cells):
            yield cell
            shown.update(number + 1)
