"""What constructors check of their arguments."""

from __future__ import annotations

from typing import Any

from linops import backends


def require_array(operator: str, name: str, value: Any, ndim: int) -> None:
    """Raise unless a value is an array or spec with a number of axes.

    Args:
        operator: Whose argument it is.
        name: The argument's name.
        value: The argument.
        ndim: How many axes it must have.

    Raises:
        TypeError: If it is no array of numbers.
        ValueError: If it has another number of axes.
    """
    if not backends.is_array(value):
        raise TypeError(f"{operator}: {name} must be a NumPy, torch or JAX array or a spec, got {type(value).__name__}")
    if getattr(value.dtype, "kind", "f") in "OSUMm":
        raise TypeError(f"{operator}: {name} must hold numbers, got an array of dtype {value.dtype}")
    if len(value.shape) != ndim:
        raise ValueError(f"{operator}: {name} must have {ndim} ax{'is' if ndim == 1 else 'es'}, got shape {tuple(value.shape)}")
