"""Markdown tables of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from benchmarks.goals import number

Row = Mapping[str, Any]
Text = Callable[[Row], str]


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """A table.

    Args:
        columns: Headings.
        rows: Cells.
        left: How many columns are text.

    Returns:
        Markdown.

    Example:
        >>> print(markdown(["a", "b"], [["x", "1"]]))
        | a | b |
        |---|--:|
        | x | 1 |
    """
    lines = [
        f"| {' | '.join(columns)} |",
        "|" + "|".join("---" if k < left else "--:" for k in range(len(columns))) + "|",
    ]
    return "\n".join(lines + [f"| {' | '.join(cells)} |" for cells in rows])


def pivot(
    rows: Sequence[Row],
    corner: str,
    row_of: Callable[[Row], str],
    column_of: Callable[[Row], str],
    cell: Callable[[Row], str],
) -> str:
    """A table with a line for each of one property and a column for each of another.

    Args:
        rows: The rows.
        corner: The first heading.
        row_of: What lines are named by.
        column_of: What columns are named by.
        cell: The text of a cell.

    Returns:
        Markdown.
    """
    lines = list(dict.fromkeys(map(row_of, rows)))
    columns = list(dict.fromkeys(map(column_of, rows)))
    cells = {(row_of(row), column_of(row)): cell(row) for row in rows}
    return markdown(
        [corner, *columns], [[line, *(cells.get((line, column), "–") for column in columns)] for line in lines]
    )


def plain(rows: Sequence[Row]) -> str:
    """All rows and all columns.

    Args:
        rows: The rows.

    Returns:
        Markdown.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    names.sort(key=lambda name: not any(isinstance(row.get(name), str) for row in rows))  # text first, else in order
    texts = sum(any(isinstance(row.get(name), str) for row in rows) for name in names)
    return markdown(
        [name.replace("_", " ") for name in names], [[text_of(row.get(name)) for name in names] for row in rows], texts
    )


def text_of(value: Any) -> str:
    """A cell.

    Args:
        value: A value of a row.

    Returns:
        The text.
    """
    if value is None or value == "":
        return "–"
    return (
        number(value)
        if isinstance(value, float)
        else f"{value:,}"
        if isinstance(value, int)
        else str(value).replace("|", "\\|")
    )


def brief(value: float) -> str:
    """A ratio in two digits.

    Args:
        value: The ratio.

    Returns:
        The text.

    Example:
        >>> brief(123.4), brief(9.96), brief(1.23), brief(0.456)
        ('123', '10', '1.2', '0.46')
    """
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}" if value >= 0.995 else f"{value:.2f}"


def span(values: Iterable[float], unit: str = "") -> str:
    """The range of numbers.

    Args:
        values: The numbers.
        unit: Written after each.

    Returns:
        The text.

    Example:
        >>> span([2.0, 1.0], "×")
        '1.00× – 2.00×'
    """
    low, high = min(known := list(values)), max(known)
    return f"{number(low)}{unit}" if number(low) == number(high) else f"{number(low)}{unit} – {number(high)}{unit}"


def folded(title: str, text: str) -> str:
    """Text below a line that unfolds it, on the site and where Markdown alone is shown.

    Args:
        title: The line.
        text: Markdown.

    Returns:
        Markdown with HTML.
    """
    return f'<details class="note" markdown="1">\n<summary>{title}</summary>\n\n{text}\n\n</details>'
