"""JSON of those who are not trusted: read within bounds of memory and time, and as the standard says it."""

from __future__ import annotations

import json
import math
from typing import Any

#: characters of a text
LONGEST = 1 << 24
#: objects and lists in a text: some hundred bytes of memory each
MOST = 1_000_000
#: digits of a number, which 64 bits have at most
DIGITS = 20


def loads(text: str | bytes) -> Any:
    """The value of a JSON text.

    Args:
        text: The text.

    Returns:
        Plain data.

    Raises:
        ValueError: If it is none by the standard (NaN and infinities are none), has a name twice in one object, numbers
            beyond 64 bits or float64, or is too long, too deep or of too many parts to be read safely.

    Cost: at most 16 MiB of text, a million objects and lists, and Python's depth of recursion.

    Example:
        >>> loads('{"a": [1, 2.5]}')
        {'a': [1, 2.5]}
        >>> loads('{"a": NaN}')
        Traceback (most recent call last):
        ValueError: NaN is no number of JSON
    """
    require_short(text)
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse, parse_int=_int, parse_float=_float)
    except RecursionError:
        raise ValueError("objects and lists stand too deep in each other") from None


def require_short(text: str | bytes) -> None:
    """Refuse a text that is too long, or of too many parts, to be read safely.

    Args:
        text: The text.

    Raises:
        ValueError: If it is.
    """
    if len(text) > LONGEST:
        raise ValueError(f"a text of {len(text):,} characters; at most {LONGEST:,} are read")
    openings = ("[", "{") if isinstance(text, str) else (b"[", b"{")
    if (parts := sum(text.count(one) for one in openings)) > MOST:  # pyright: ignore[reportArgumentType]
        raise ValueError(f"a text of {parts:,} objects and lists; at most {MOST:,} are read")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice")
    return found


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number of JSON")


def _int(digits: str) -> int:
    if len(digits) > DIGITS:
        raise ValueError(f"an integer of {len(digits)} digits; at most {DIGITS} are read")
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"the number {digits:.40} is beyond float64")
    return value
