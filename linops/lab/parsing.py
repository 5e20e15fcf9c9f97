"""Lists of structures as the command line writes them."""

from __future__ import annotations

from collections.abc import Iterable

from linops.families import FAMILIES
from linops.families.text import Structure, parse


def parse_list(text: str | None, default: Iterable[str] = FAMILIES) -> list[Structure]:
    """Structures from a list with commas.

    Args:
        text: As in ``"dense,btt:rank=2"``, or None.
        default: What to take for None.

    Returns:
        The structures, each once.

    Raises:
        ValueError: If the list is empty or an item is wrong.

    Example:
        >>> [structure.family for structure in parse_list("dense, btt:rank=2")]
        ['dense', 'btt']
    """
    items = list(default) if text is None else [item for item in text.split(",") if item.strip()]
    if not items:
        raise ValueError(f"structures {text!r}: expected names with commas between, of {', '.join(FAMILIES)}")
    return list({structure.text: structure for structure in map(parse, items)}.values())


__all__ = ["Structure", "parse", "parse_list"]
