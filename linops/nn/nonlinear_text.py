"""Structures that are no linear maps as text: a kind with options, as in ``chain:rank=64:activation=gelu``."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from linops.families.text import LONGEST
from linops.nn.nonlinear import MAKERS, Nonlinear


@dataclass(frozen=True)
class Target:
    """A kind and its options.

    Attributes:
        text: As written: ``"chain:rank=64:activation=gelu"``.
        family: The kind.
        options: Its options.
    """

    text: str
    family: str
    options: dict[str, Any] = field(default_factory=dict)

    def __call__(self, out_features: int, in_features: int, **more: Any) -> Nonlinear:
        """What there is of shape (out_features, in_features)."""
        if twice := self.options.keys() & more.keys():
            raise TypeError(f"structure {self.text!r}: got {', '.join(sorted(twice))} as an option too")
        return MAKERS[self.family](out_features, in_features, **self.options, **more)


def is_nonlinear(text: str) -> bool:
    """Whether a text names a kind, with options or without."""
    return text.strip().partition(":")[0] in MAKERS


def parse(text: str) -> Target:
    """A kind with options from its text: ``kind:option=value:option=value``.

    Args:
        text: The text.

    Returns:
        What makes it of any shape.

    Raises:
        ValueError: If there is no such kind or option, or a value is not written as the option takes it.

    Example:
        >>> print(parse("chain:rank=4:activation=gelu")(64, 16))
        Chain(rank 4, gelu)
    """
    kind, *given = text.strip().split(":")
    if kind not in MAKERS:
        raise ValueError(f"structure {text!r}: expected one of {', '.join(MAKERS)}")
    known, found = _options(kind), {}
    for option in given:
        name, _, value = option.partition("=")
        if name in found:
            raise ValueError(f"structure {text!r}: option {name!r} is given twice")
        if name not in known:
            raise ValueError(f"structure {text!r}: {kind} has no option {name!r}; it has {', '.join(known)}")
        form, read = _FORMS[known[name]]
        if not re.fullmatch(form, value, re.ASCII):
            raise ValueError(f"structure {text!r}: option {option!r}; expected {name}={known[name]}")
        found[name] = read(value)
    return Target(text.strip(), kind, found)


_FORMS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "integer": (rf"\d{{1,{LONGEST}}}", int),
    "number": (rf"\d{{0,{LONGEST}}}\.?\d{{1,{LONGEST}}}", float),
    "name": (r"[a-z_]+", str),
    "0 or 1": (r"[01]", lambda value: value == "1"),
}
_WORDS = {"int": "integer", "int | None": "integer", "float": "number", "bool": "0 or 1"}


def _options(kind: str) -> dict[str, str]:
    """The options of a kind that can be written, and how."""
    parameters = list(inspect.signature(MAKERS[kind]).parameters.values())[2:]
    found = {one.name: _WORDS.get(str(one.annotation), "") for one in parameters}
    found |= {"activation": "name"} if kind == "chain" else {"rank": "integer", "cores": "integer"}
    return {name: word for name, word in found.items() if word}
