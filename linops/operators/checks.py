"""What constructors admit: leaves, index arrays and seeds (`linops.backends.foreign` says what stands for an array)."""

from __future__ import annotations

import operator as operators
from contextlib import suppress
from typing import Any

import numpy as np

from linops import backends
from linops.expression import Expression

_NUMBERS = frozenset("?bBhHiIlLqQefdgFDG")


def require_array(operator: str, name: str, value: Any, ndim: int | None) -> Any:
    """The plain array that a leaf becomes.

    Args:
        operator: Whose argument it is.
        name: The argument's name.
        value: The argument: an array or spec, or what stands for a NumPy array, such as a list.
        ndim: How many axes it must have; None leaves that open.

    Returns:
        The array or spec itself. What stands for an array becomes one of NumPy, in this machine's byte order.

    Raises:
        TypeError: If it is no array of numbers.
        ValueError: If it has another number of axes.
    """
    kind = type(value)
    if kind is not np.ndarray and not backends.is_array(value):
        value = as_array(operator, name, value)
    if not backends.is_numeric(value.dtype):
        raise TypeError(f"{operator}: {name} must hold numbers, got an array of dtype {value.dtype}")
    if ndim is not None and len(value.shape) != ndim:
        raise ValueError(f"{operator}: {name} must have {ndim} ax{'is' if ndim == 1 else 'es'}, got shape {tuple(value.shape)}")
    if type(value) is np.ndarray:
        return backends.native(value)
    if backends.foreign_kind(value):
        raise TypeError(
            f"{operator}: {name} is a sparse tensor of shape {tuple(value.shape)}: lo.Sparse(S) takes it, .to_dense() writes it out"
        )
    return value


def as_array(operator: str, name: str, value: Any) -> Any:
    """The array of a backend that a value is or stands for.

    Args:
        operator: Whose argument it is.
        name: The argument's name.
        value: The argument.

    Returns:
        The array or spec itself, or the NumPy array of what stands for one.

    Raises:
        TypeError: If it is no array.
    """
    if backends.is_array(value):
        return value
    if isinstance(value, Expression):
        raise TypeError(f"{operator}: {name} must be an array, got the operator {value._short()}; A.to_dense() is its array")
    found = None if backends.foreign_kind(value) else backends.plain(value, f"{operator}: {name}")
    if found is None:
        hint = "; lo.aslinearoperator(S) makes it an operator" if backends.foreign_kind(value) else ""
        raise TypeError(
            f"{operator}: {name} must be a NumPy, torch or JAX array, a spec or a list of numbers, got {type(value).__name__}{hint}"
        )
    return found


def admit(operator: Expression, name: str, ndim: int | None) -> Any:
    """Puts in the place of a field the plain array that it becomes; see `require_array`.

    Args:
        operator: The operator, in its constructor.
        name: The field.
        ndim: How many axes it must have; None leaves that open.

    Returns:
        The array.

    Raises:
        TypeError: If it is no array of numbers.
        ValueError: If it has another number of axes.
    """
    given = getattr(operator, name)
    if type(given) is np.ndarray and given.ndim == ndim and given.dtype.char in _NUMBERS and given.dtype.isnative:
        return given  # as most are
    array = require_array(type(operator).__name__, name, given, ndim)
    if type(array) is np.ndarray and array is not given:
        object.__setattr__(operator, name, array)
    return array


def admit_all(operator: Expression, name: str, ndim: int) -> tuple[Any, ...]:
    """As `admit`, of a field that is a list of arrays, and becomes a tuple.

    Args:
        operator: The operator, in its constructor.
        name: The field.
        ndim: How many axes each must have.

    Returns:
        The arrays.

    Raises:
        TypeError: If one is no array of numbers.
        ValueError: If one has another number of axes.
    """
    kind = type(operator).__name__
    arrays = tuple([require_array(kind, f"{name}[{number}]", array, ndim) for number, array in enumerate(getattr(operator, name))])
    object.__setattr__(operator, name, arrays)
    return arrays


def generator(where: str, seed: Any) -> np.random.Generator:
    """NumPy's generator of a seed.

    Args:
        where: What asks, for errors.
        seed: An integer, or what `numpy.random.default_rng` takes.

    Returns:
        The generator.

    Raises:
        TypeError: If it is another thing, such as a key of JAX.
    """
    with suppress(TypeError):
        seed = operators.index(seed)
    try:
        return np.random.default_rng(seed)
    except TypeError:
        hints = {
            "torch": "; of a torch.Generator take generator.initial_seed()",
            "jax": "; of a key of JAX take int(jax.random.bits(key))",
            "linops": f"; write backend={seed!r} for the backend",
        }
        kind = "linops" if isinstance(seed, str) else type(seed).__module__.partition(".")[0].removesuffix("lib")
        given = repr(seed) if isinstance(seed, (str, float)) else type(seed).__name__
        raise TypeError(f"{where}: seed must be an integer or a numpy.random.Generator, got {given}{hints.get(kind, '')}") from None
