"""What keeps a dense layer from being replaced, and what is said of it, in every framework. Needs none.

A layer with an obstacle is an error if `where` selects it, before anything is changed. With ``where=None`` it is left
alone, with one warning for all layers of a kind, and stands in the report. Where leaving it alone would be wrong too,
as in a sharded model, it is always an error.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Obstacle:
    """Why a layer cannot be replaced.

    Attributes:
        reason: A clause, as "shares its weight with 'embedding'".
        remedy: What to do about it, as "replace before sharding"; empty if there is nothing but to leave the layer.
        kind: What the reasons of one kind have in common; empty if that is the reason itself.
        fatal: Whether the model must not be changed at all.
        soft: Whether a layer that `where` selects, or whose weight is projected, is replaced all the same.
    """

    reason: str
    remedy: str = ""
    kind: str = ""
    fatal: bool = False
    soft: bool = False

    def __str__(self) -> str:
        return self.reason


def refuse(obstacles: Mapping[str, Obstacle], selected: Iterable[str]) -> None:
    """Raise if a layer that is selected by name has an obstacle, or any has one that is fatal.

    Args:
        obstacles: By the names of layers.
        selected: The layers that are selected by name.

    Raises:
        ValueError: With the first layer, the reason, the way out and the number of other layers.
    """
    chosen = set(selected)
    names = [name for name, one in obstacles.items() if one.fatal] or [name for name in obstacles if name in chosen]
    if not names:
        return
    first = obstacles[names[0]]
    others = f" (and {len(names) - 1} other layer{'s' * (len(names) > 2)} cannot be replaced)" if len(names) > 1 else ""
    way = first.remedy if first.fatal else f"{first.remedy}, or exclude it" if first.remedy else "exclude it"
    raise ValueError(f"layer {names[0]!r} {first.reason}{others}; {way}")


def warn(obstacles: Mapping[str, Obstacle], stacklevel: int) -> None:
    """One warning for each kind of obstacle.

    Args:
        obstacles: By the names of layers that were left alone.
        stacklevel: As in `warnings.warn`, of the caller.
    """
    kinds: dict[str, list[str]] = {}
    for name, one in obstacles.items():
        kinds.setdefault(one.kind or one.reason, []).append(name)
    for names in kinds.values():
        first = obstacles[names[0]]
        way = f"; {first.remedy}" if first.remedy else ""
        if len(names) == 1:
            message = f"replace_linear left layer {names[0]!r} alone, which {first.reason}{way}"
        else:
            message = (
                f"replace_linear left {len(names)} layers alone ({brief(names)}): {names[0]!r} {first.reason}{way}"
            )
        warnings.warn(message, stacklevel=stacklevel + 1)


_REPLACE = "flax.replace_linear", "equinox.replace_linear", "replace_linear_"


def elsewhere(model: Any, functions: tuple[str, ...] = _REPLACE) -> str | None:
    """What to do with a model of another framework than the caller's, whose modules build their layers otherwise.

    Args:
        model: A model, or what was taken for one.
        functions: What does for a model of Flax, Equinox and PyTorch what the caller does for another.

    Returns:
        A sentence, or None if it is of no other framework.
    """
    homes = [kind.__module__ for kind in type(model).__mro__]
    ways = {
        "flax.linen.": (
            "a Linen module holds no layers to replace, for it makes them at every call, and its parameters are apart: "
            "build the model with flax.nnx, or in the module make each leaf of an operator by self.param and put them "
            "in by operator.with_leaves"
        ),
        "flax.nnx.": f"it is a module of Flax NNX: use lo.nn.{functions[0]}",
        "equinox.": f"it is an Equinox module: use lo.nn.{functions[1]}",
        "torch.nn.": f"it is a PyTorch module: use lo.nn.{functions[2]}",
    }
    return next((way for home, way in ways.items() if any(one.startswith(home) for one in homes)), None)


def framework_of(model: Any) -> str | None:
    """What a model of Flax or Equinox is called in errors.

    Args:
        model: A model, or what was taken for one.

    Returns:
        A few words, or None if it is of neither.
    """
    homes = [kind.__module__ for kind in type(model).__mro__]
    kinds = {
        "flax.linen.": "a module of Flax Linen",
        "flax.nnx.": "a module of Flax NNX",
        "equinox.": "an Equinox module",
    }
    return next((kind for home, kind in kinds.items() if any(one.startswith(home) for one in homes)), None)


def star(name: str) -> str:
    """A dotted name with stars for its numbers."""
    return ".".join("*" if part.isdigit() else part for part in name.split("."))


def starred(names: Iterable[str]) -> dict[str, list[str]]:
    """Names in groups of those that differ in numbers alone, as patterns: ``"blocks.*.up"``.

    Args:
        names: Dotted names.

    Returns:
        A dict from patterns to names; a name that stands alone is its own pattern.

    Example:
        >>> starred(["blocks.0.up", "blocks.1.up", "head.0"])
        {'blocks.*.up': ['blocks.0.up', 'blocks.1.up'], 'head.0': ['head.0']}
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(star(name), []).append(name)
    found: dict[str, list[str]] = {}
    for group in groups.values():
        columns = zip(*(name.split(".") for name in group))
        found[".".join(column[0] if len(set(column)) == 1 else "*" for column in columns)] = group
    return found


def brief(names: Iterable[str], most: int = 8) -> str:
    """Names in a line, those that differ in numbers alone as one pattern.

    Args:
        names: Dotted names.
        most: How many patterns to show.

    Returns:
        A text, as ``'blocks.*.up' (12), 'head'``.
    """
    groups = [
        f"{pattern!r}" + (f" ({len(group)})" if len(group) > 1 else "") for pattern, group in starred(names).items()
    ]
    more = f" and {len(groups) - most} more" if len(groups) > most else ""
    return ", ".join(groups[:most]) + more


__all__ = ["Obstacle", "brief", "elsewhere", "framework_of", "refuse", "star", "starred", "warn"]
