"""``docs/reliability.md`` from the rows of ``python -m benchmarks reliability``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.tables import markdown

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
TEMPLATE = Path(__file__).with_name("page.md")

Rows = Sequence[Mapping[str, Any]]


def page(rows: Rows) -> str:
    """The page.

    Args:
        rows: The rows.

    Returns:
        Markdown.
    """
    made = {"killed": _killed(rows), "faults": _faults(rows), "hostile": _hostile(rows)}
    return re.sub(r"\{\{(\w+)\}\}", lambda match: made[match[1]], TEMPLATE.read_text(encoding="utf-8"))


def _killed(rows: Rows) -> str:
    cells = [
        (
            f"`{row['command']}`",
            str(row["kills"]),
            "the same" if row["same"] else "**others**",
            "–" if row["steps_lost"] is None else str(row["steps_lost"]),
        )
        for row in rows
        if row["kind"] == "killed"
    ]
    return markdown(["command", "kills", "results", "most steps lost by one"], cells, left=3)


def _faults(rows: Rows) -> str:
    cells = [
        (row["fault"], f"`{row['command']}`", _text(row["said"], 160), "as it was" if row["kept"] else "**changed**")
        for row in rows
        if row["kind"] == "fault"
    ]
    return markdown(["fault", "command", "what it says, with status 1", "what was there"], cells, left=4)


def _hostile(rows: Rows) -> str:
    cells = [
        (row["file"], f"{row['bytes']:,}", row["error"] or "**read**", _text(row["message"], 120))
        for row in rows
        if row["kind"] == "hostile"
    ]
    return markdown(["file", "bytes", "error", "message"], cells, left=4)


def _text(text: str, most: int) -> str:
    """A text in one cell."""
    text = text.replace("|", "\\|").replace("<", "&lt;").replace("`", "'").replace("*", "\\*").replace("_", "\\_")
    return text if len(text) <= most else text[:most] + "…"
