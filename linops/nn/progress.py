"""A line for each layer that is done, on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator


def printer(total: int, shown: bool) -> Callable[[Iterator[str]], None]:
    """What prints lines as a share of the whole.

    Args:
        total: How many layers there are.
        shown: Whether to print anything.

    Returns:
        A function of the lines of one layer.
    """
    done = 0

    def say(lines: Iterator[str]) -> None:
        nonlocal done
        done += 1
        for line in lines if shown else ():
            print(f"{done} of {total}  {line}", file=sys.stderr, flush=True)

    return say
