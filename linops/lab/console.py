"""Where commands print their results."""

from __future__ import annotations

import os

from rich.console import Console


def console() -> Console:
    """Where results go: stdout, without a width where nobody's terminal says one."""
    made = Console()
    return made if made.is_terminal or "COLUMNS" in os.environ else Console(width=240)
