"""Families as text: a name with options, as in ``btt:rank=2``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from linops.families import FAMILIES


@dataclass(frozen=True)
class Structure:
    """A family and its options.

    Attributes:
        text: As written: ``"btt:rank=2"``.
        family: The family's name.
        options: Its options.
    """

    text: str
    family: str
    options: dict[str, Any] = field(default_factory=dict)

    def __call__(self, out_features: int, in_features: int, **more: Any) -> Any:
        """The member of the family of shape (out_features, in_features).

        Args:
            out_features: m.
            in_features: n.
            **more: Further options.

        Returns:
            A symbolic operator.
        """
        return FAMILIES[self.family](out_features, in_features, **self.options, **more)


def parse(text: str) -> Structure:
    """A structure from its text: ``family`` or ``family:option=value:option=value``.

    Args:
        text: The text.

    Returns:
        The structure.

    Raises:
        ValueError: If there is no such family, or an option is not written as ``name=integer``.

    Example:
        >>> parse("btt:rank=2")(64, 64).num_params
        2048
    """
    family, *options = text.strip().split(":")
    if family not in FAMILIES:
        raise ValueError(f"structure {text!r}: no family {family!r}; expected one of {', '.join(FAMILIES)}")
    return Structure(text.strip(), family, dict(_option(text, option) for option in options))


def _option(text: str, option: str) -> tuple[str, int]:
    name, _, value = option.partition("=")
    if not name.isidentifier() or not value.isdigit():
        raise ValueError(f"structure {text!r}: option {option!r}; expected name=integer, as in btt:rank=2")
    return name, int(value)
