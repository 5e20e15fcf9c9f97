"""What optimisers admit as rates, decay, momenta and ε: numbers in their range. Needs no framework."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from math import inf, isfinite, prod
from typing import Any

#: what is at least zero, and what is less than one too
_POSITIVE, _SHARES = ("lr", "adamw_lr", "eps", "weight_decay"), ("momentum",)


def require_hyperparameters(where: str, **given: Any) -> None:
    """Raise unless all arguments of an optimiser are in their range.

    Args:
        where: The public name of what was given them, for errors.
        **given: ``lr``, ``adamw_lr``, ``eps`` and ``weight_decay``, finite and at least 0; ``momentum`` and the two
            ``betas``, at least 0 and less than 1. A number of any library will do, a tensor or array of one number too,
            and what JAX traces, whose value is not known.

    Raises:
        ValueError: If one is not; the message names it.

    Example:
        >>> require_hyperparameters("Muon", lr=0.02, betas=(0.9, 0.95))
        >>> require_hyperparameters("Muon", lr=-1)
        Traceback (most recent call last):
            ...
        ValueError: Muon(lr=-1): expected a finite number, at least 0
    """
    for name, value in given.items():
        if name == "betas":
            if not _are_two(value) or not all(_is_within(one, 1) for one in value):
                raise ValueError(f"{where}(betas={value!r}): expected two numbers, each at least 0 and less than 1")
        elif name in _SHARES:
            if not _is_within(value, 1):
                raise ValueError(f"{where}({name}={value!r}): expected a number, at least 0 and less than 1")
        elif name not in _POSITIVE:
            raise TypeError(f"require_hyperparameters: no argument of an optimiser is called {name!r}")
        elif not _is_within(value, inf):
            raise ValueError(f"{where}({name}={value!r}): expected a finite number, at least 0")


def require_schedule(where: str, name: str, value: Any) -> None:
    """As `require_hyperparameters` of one argument, which may be a schedule of optax too: a function of the step.

    Args:
        where: The public name of what was given it, for errors.
        name: The argument's name.
        value: The argument.

    Raises:
        ValueError: If it is neither.
    """
    if callable(value):
        return
    try:
        require_hyperparameters(where, **{name: value})
    except ValueError as error:
        raise ValueError(f"{error}, or a function from steps to numbers") from None


def plain(value: Any) -> Any:
    """A number of NumPy, JAX or PyTorch, or an array of one, as a number of Python.

    Args:
        value: The number, or anything else.

    Returns:
        The number; anything else, and what JAX traces, as it is.

    Example:
        >>> import numpy as np
        >>> plain(np.array([0.5])), plain(np.float32(2)), plain("0.5"), plain(None)
        (0.5, 2.0, '0.5', None)
    """
    if not _is_number(value) or not hasattr(value, "item") or _is_traced(value):
        return value
    return value.item()


def require_base(where: str, base: Any) -> Any:
    """Raise if a base width is no positive number; other bases are checked where they are read.

    Args:
        where: The public name of what was given it, for errors.
        base: A number, patterns to numbers, or another thing, which passes.

    Returns:
        The base, of numbers of Python.

    Raises:
        ValueError: If a number is not positive, or there is a string in its place.
    """
    base = {pattern: plain(width) for pattern, width in base.items()} if isinstance(base, Mapping) else plain(base)
    widths = base.values() if isinstance(base, Mapping) else [base]
    for width in widths:
        if isinstance(width, (str, bool)) or (_is_number(width) and not is_positive(width)):
            raise ValueError(
                f"{where}(base={base!r}): expected a model of the base shapes, a width that is a positive number, "
                "patterns to such widths, as {'*.attn.*': 64}, or None"
            )
    return base


def is_positive(value: Any) -> bool:
    """Whether a value is a finite number greater than 0."""
    return _is_within(value, inf) and bool(value > 0)


def _are_two(value: Any) -> bool:
    """Whether a value is two others in order: a tuple, list, array or the list of a configuration."""
    if isinstance(value, (str, bytes, Mapping)) or not (hasattr(value, "__len__") and hasattr(value, "__getitem__")):
        return False
    try:
        return len(value) == 2
    except TypeError:  # arrays without axes
        return False


def _is_number(value: Any) -> bool:
    return hasattr(value, "__float__") and not isinstance(value, bool) and prod(getattr(value, "shape", ())) == 1


def _is_within(value: Any, end: float) -> bool:
    """Whether a value is a finite number from 0 up to `end`, which is left out, or may be one: JAX traces it."""
    if not _is_number(value):
        return False
    if _is_traced(value):
        return True
    try:
        number = float(plain(value))
    except (TypeError, ValueError, RuntimeError):  # complex numbers, arrays of text
        return False
    return isfinite(number) and 0 <= number < end


def _is_traced(value: Any) -> bool:
    """Whether JAX traces a value, so that it is not known."""
    jax = sys.modules.get("jax")
    return jax is not None and isinstance(value, jax.core.Tracer)
