"""Lists of structures as the command line writes them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from linops.families import FAMILIES, knob_of, members
from linops.families.text import NONLINEAR, Variant
from linops.families.text import parse as parse_family
from linops.nn import nonlinear_text
from linops.nn.nonlinear_text import Target

#: a structure of layers: a family with options, or what is no linear map
Structured = Variant | Target
#: the value of a family's size parameter that stands for all that are worth a look
ALL = "=all"


def parse_list(
    text: str | None,
    default: Iterable[str] = FAMILIES,
    shape: tuple[int, int] | None = None,
    of_layers: bool = False,
) -> list[Any]:
    """Structures from a list with commas.

    Args:
        text: As in ``"dense,btt:rank=2"``, or None. Where there is a shape, ``"btt:rank=all"`` stands for a sweep: the
            members of the family that are worth a look.
        default: What to take for None.
        shape: (out_features, in_features), where all structures are of one shape.
        of_layers: Whether layers get them, so that they need not be linear maps (``"chain"``).

    Returns:
        The structures, each once.

    Raises:
        ValueError: If the list is empty or an item is wrong.

    Example:
        >>> [structure.family for structure in parse_list("dense, btt:rank=2")]
        ['dense', 'btt']
        >>> [structure.text for structure in parse_list("btt:rank=all", shape=(64, 64))]
        ['btt:rank=1', 'btt:rank=2', 'btt:rank=3', 'btt:rank=4']
    """
    items = list(default) if text is None else [item for item in text.split(",") if item.strip()]
    if not items:
        raise ValueError(f"structures {text!r}: expected names with commas between, of {', '.join(FAMILIES)}")
    found = (structure for item in items for structure in _sweep(item.strip(), shape, of_layers))
    return list({structure.text: structure for structure in found}.values())


def _sweep(item: str, shape: tuple[int, int] | None, of_layers: bool) -> list[Any]:
    """The structures of one item: one, or all members of a family."""
    if not item.endswith(ALL):
        return [parse(item) if of_layers else parse_family(item)]
    family, _, option = item.removesuffix(ALL).rpartition(":")
    knob = knob_of(family)
    if knob is None or knob.name != option:
        sweep = f"its sweep is {family}:{knob.name}{ALL}" if knob else "it has no size parameter"
        raise ValueError(f"structure {item!r}: {family} has no sweep of {option}; {sweep}")
    if shape is None:
        raise ValueError(f"structure {item!r}: only where all are of one shape, as in linops compare; write a number")
    found = members(family, *shape)
    if not found:
        raise ValueError(f"structure {item!r}: no member of {shape[0]}×{shape[1]} costs as little as dense")
    return found


def parse(text: str) -> Structured:
    """The structure of a layer from its text.

    Args:
        text: As in ``"btt:rank=2"`` or ``"chain:rank=8"``.

    Returns:
        A function of sizes with its text, family and options.

    Raises:
        ValueError: If there is none of this name, or an option is wrong.
    """
    return nonlinear_text.parse(text) if nonlinear_text.is_nonlinear(text) else parse_family(text, NONLINEAR)


def parse_label(label: str) -> tuple[str, str]:
    """The structure and the rule of its rates in the label of a row (`linops.lab.runs.Run.label`).

    Args:
        label: As in ``"btt (naive)"``.

    Returns:
        Both; the rule is empty where none is named, for rates are static then.

    Example:
        >>> parse_label("btt:rank=2 (naive)"), parse_label("btt")
        (('btt:rank=2', 'naive'), ('btt', ''))
    """
    structure, _, rule = label.rstrip(")").partition(" (")
    return structure, rule


__all__ = ["Structured", "Variant", "parse", "parse_label", "parse_list"]
