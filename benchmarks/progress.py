"""What a benchmark shows while it measures."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import track

T = TypeVar("T")


def progress(cells: Sequence[T], name: str) -> Iterable[T]:
    """The cells, with a bar on the terminal that says how many are done and how long the rest takes.

    Args:
        cells: What to measure, one after the other.
        name: The benchmark's name.

    Returns:
        The cells.
    """
    return track(cells, description=name, console=Console(stderr=True), disable=not sys.stderr.isatty())
