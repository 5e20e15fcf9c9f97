"""Tables in text."""

from __future__ import annotations

from collections.abc import Sequence


def aligned(lines: Sequence[Sequence[str]], left: int = 1) -> str:
    """Cells in columns.

    Args:
        lines: The cells of each line.
        left: How many columns stand to the left; numbers stand to the right.

    Returns:
        The lines.

    Example:
        >>> print(aligned([("name", "bytes"), ("a", "12")]))
        name  bytes
        a        12
    """
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join(
        "  ".join(
            [
                cell.ljust(width) if place < left else cell.rjust(width)
                for place, (cell, width) in enumerate(zip(line, widths))
            ]
        ).rstrip()
        for line in lines
    )
