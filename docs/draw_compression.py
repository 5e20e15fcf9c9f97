"""Runs the code of docs/compression.md and draws its plot: python docs/draw_compression.py [folder]."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("compression.md")


def computed() -> dict[str, Any]:
    """What the page's code computes, by name."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for code in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        exec(code, names)
    return names


def main() -> None:
    """Draw it."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else PAGE.parent / "images"
    path = folder / "compression_pareto.png"
    computed()["plan"].plot(path)
    print(path)


if __name__ == "__main__":
    main()
