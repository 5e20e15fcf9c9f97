"""What plans of compression keep, beside simpler ways: the code of ``docs/compression.md`` with several seeds.

The page runs it with one seed, as a test; its table is of the rows that this command keeps.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "compression.md"
#: where the page's table begins and ends, and the number of seeds in its code
BEGIN, END = "<!-- from python -m benchmarks compression -->\n", "<!-- end -->\n"
ONE = "for seed in range(1):"

Rows = Sequence[Mapping[str, Any]]


def measure(seeds: int = 3) -> list[dict[str, Any]]:
    """Means over seeds.

    Args:
        seeds: How many, from 0 on.

    Returns:
        A row for each way: its share of the parameters, the accuracy before and after training on, and of each seed.
    """
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    names: dict[str, Any] = {}
    for block in blocks[: next(k for k, block in enumerate(blocks) if ONE in block) + 1]:
        exec(block.replace(ONE, f"for seed in range({seeds}):"), names)  # the page's own code
    rows = []
    for way, found in names["results"].items():
        before, after, shares = zip(*found)
        means = [sum(numbers) / len(numbers) for numbers in (before, after, shares)]
        rows.append(
            {"way": way, "share": means[2], "before": means[0], "after": means[1], "seeds": seeds}
            | {"each_before": list(before), "each_after": list(after)}
        )
    return rows


def page(rows: Rows) -> str:
    """The page with the table of rows.

    Args:
        rows: The rows.

    Returns:
        Markdown.
    """
    text = PAGE.read_text(encoding="utf-8")
    start, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    return text[:start] + table(rows) + text[end:]


def table(rows: Rows) -> str:
    """The table of rows: means, and the least and most of the seeds.

    Args:
        rows: The rows.

    Returns:
        Markdown.
    """

    def cell(row: Mapping[str, Any], name: str) -> str:
        each = row[f"each_{name}"]
        return f"{row[name]:.3f} ({min(each):.3f} … {max(each):.3f})"

    lines = ["", "| | parameters | accuracy | after two epochs more |", "|---|---|---|---|"]
    lines += [f"| {row['way']} | {row['share']:.3f} | {cell(row, 'before')} | {cell(row, 'after')} |" for row in rows]
    return "\n".join([*lines, "", ""])
