"""Families as text: a name with options, as in ``btt:rank=2``."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from linops.families.registry import FAMILIES, declaration_of

#: digits of an option's value
LONGEST = 12
#: structures that are no linear maps, which layers have (`linops.nn.nonlinear`)
NONLINEAR = ("chain", "btt_mixture")


@dataclass(frozen=True)
class Variant:
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


def parse(text: str, others: tuple[str, ...] = ()) -> Variant:
    """A structure from its text: ``family`` or ``family:option=value:option=value``.

    Args:
        text: The text.
        others: Names that the caller knows beside families, which the error about an unknown one lists.

    Returns:
        The structure.

    Raises:
        ValueError: If there is no such family, it has no such option, or an option is not written as ``name=integer``,
            or with a decimal point where it takes such numbers.

    Example:
        >>> parse("btt:rank=2")(64, 64).num_params
        2048
        >>> parse("low_rank_sparse:density=0.05").options
        {'density': 0.05}
    """
    family, *options = text.strip().split(":")
    if family in NONLINEAR:
        raise ValueError(
            f"structure {text!r}: {family} is no linear map, and so no family of operators; lo.nn.replace_linear_ "
            "makes layers of it, with weights that are drawn"
        )
    if family not in FAMILIES:
        raise ValueError(f"structure {text!r}: no family {family!r}; expected one of {', '.join((*FAMILIES, *others))}")
    known, found = options_of(family), {}
    for option in options:
        name, value = _option(text, option, declaration_of(family))
        if name not in known:
            raise ValueError(
                f"structure {text!r}: {family} has no option {name!r}; it has {', '.join(known) or 'none'}"
            )
        if name in found:
            raise ValueError(f"structure {text!r}: option {name!r} is given twice")
        found[name] = value
    return Variant(text.strip(), family, found)


def options_of(family: str) -> list[str]:
    """The options of a family that are written with a number, most with an integer.

    Args:
        family: Its name.

    Returns:
        The names.

    Example:
        >>> options_of("btt"), options_of("dense")
        (['rank', 'cores', 'allow_dearer'], [])
    """
    declared = declaration_of(family)
    return [] if declared is None else declared.options


def _option(text: str, option: str, declared: Any) -> tuple[str, int | float]:
    name, _, value = option.partition("=")
    if (
        declared is not None
        and name in declared.decimals
        and re.fullmatch(rf"[0-9]{{0,{LONGEST}}}\.[0-9]{{1,{LONGEST}}}", value)
    ):
        return name, float(value)
    if not name.isidentifier() or not (value.isascii() and value.isdigit() and len(value) <= LONGEST):
        raise ValueError(
            f"structure {text!r}: option {option!r}; expected name=integer, as in btt:rank=2 or btt:rank=2:cores=3"
        )
    if int(value) < 1 and name not in ("allow_dearer", "seed"):
        raise ValueError(f"structure {text!r}: option {option!r}; expected at least 1")
    return name, int(value)
