"""Tables for the terminal, and numbers as people read them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from linops.lab.folding import Folding

NONE = "–"


def count(number: int | None) -> str:
    """An integer with separators.

    Args:
        number: The integer, or None.

    Returns:
        The text.

    Example:
        >>> count(1234567)
        '1,234,567'
    """
    return NONE if number is None else f"{number:,}"


def short(number: float) -> str:
    """A large number in three digits.

    Args:
        number: The number.

    Returns:
        The text.

    Example:
        >>> short(768), short(65536), short(1.05e6)
        ('768', '65.5k', '1.05M')
    """
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:g}"


def duration(seconds: float | None) -> str:
    """A time of three digits with its unit.

    Args:
        seconds: The time, or None.

    Returns:
        The text.

    Example:
        >>> duration(0.00123), duration(12.34), duration(4.5e-6)
        ('1.23 ms', '12.3 s', '4.50 µs')
    """
    if seconds is None:
        return NONE
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size or unit == "µs":
            value = seconds / size
            return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f} {unit}"
    raise AssertionError


def percent(share: float | None) -> str:
    """A share in percent.

    Args:
        share: The share, or None.

    Returns:
        The text.

    Example:
        >>> percent(0.5), percent(0.0123)
        ('50 %', '1.2 %')
    """
    return NONE if share is None else f"{100 * share:.{1 if share < 0.1 else 0}f} %"


def times(ratio: float | None) -> str:
    """A ratio.

    Args:
        ratio: The ratio, or None.

    Returns:
        The text.

    Example:
        >>> times(0.25)
        '0.25×'
    """
    return NONE if ratio is None else f"{ratio:.2f}×" if ratio < 10 else f"{ratio:.0f}×"


def rate(per_second: float, unit: str) -> str:
    """A rate in billions.

    Args:
        per_second: How many a second.
        unit: Of what.

    Returns:
        The text.

    Example:
        >>> rate(2e11, "FLOP")
        '200 GFLOP/s'
    """
    return f"{per_second / 1e9:.3g} G{unit}/s"


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], caption: str | None = None) -> Folding:
    """A table whose first column is text and whose others are numbers; it folds on a narrow terminal.

    Args:
        title: The line above.
        columns: Headings.
        rows: Cells, already text.
        caption: The lines below.

    Returns:
        The table, to be printed by rich.
    """
    return Folding(title, columns, rows, caption)
