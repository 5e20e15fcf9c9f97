"""What constructors admit: arrays, sizes, callables and seeds, all of one backend; see `linops.backends.foreign`."""

from __future__ import annotations

import operator as operators
from collections.abc import Callable, Iterable
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
        raise ValueError(
            f"{operator}: {name} must have {ndim} ax{'is' if ndim == 1 else 'es'}, got shape {tuple(value.shape)}"
        )
    if type(value) is np.ndarray:
        return backends.native(value)
    if backends.foreign_kind(value):
        raise TypeError(
            f"{operator}: {name} is a sparse tensor of shape {tuple(value.shape)}: "
            "lo.Sparse(S) takes it, .to_dense() writes it out"
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
        raise TypeError(
            f"{operator}: {name} must be an array, got the operator {value._short()}; A.to_dense() is its array"
        )
    found = None if backends.foreign_kind(value) else backends.plain(value, f"{operator}: {name}")
    if found is None:
        hint = "; lo.aslinearoperator(S) makes it an operator" if backends.foreign_kind(value) else ""
        raise TypeError(
            f"{operator}: {name} must be a NumPy, torch or JAX array, a spec or a list of numbers, "
            f"got {type(value).__name__}{hint}"
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
    arrays = tuple(
        [require_array(kind, f"{name}[{number}]", array, ndim) for number, array in enumerate(getattr(operator, name))]
    )
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
        raise TypeError(
            f"{where}: seed must be an integer or a numpy.random.Generator, got {given}{hints.get(kind, '')}"
        ) from None


def require_same_backend(where: str, operators: Iterable[Expression]) -> None:
    """Raise unless operators can stand in one expression: one backend, and in torch one dtype and device.

    Args:
        where: The name of the expression.
        operators: The operators to be joined.

    Raises:
        TypeError: If they cannot; the message names two that differ.
    """
    first = None
    for operator in operators:
        backend = operator.backend
        if backend is None or backend == "spec":
            continue
        if backend == operator._home == (first or operator).backend and operator.dtype is None:
            continue  # of callables without arrays: any dtype
        if first is None:
            first = operator
        elif backend != first.backend:
            raise TypeError(
                f"{where}: mixed backends of {first._short()} and {operator._short()}; "
                f"convert one, as in A.to(backend={first.backend!r})"
            )
        elif backend == "torch":
            _require_same_kind(where, first, operator, first._short, operator._short)


def require_joinable(where: str, left: tuple[Any, ...], right: tuple[Any, ...]) -> None:
    """As `require_same_backend` of two groups, each known to be of one kind.

    Args:
        where: The name of the expression.
        left: Operators of one kind.
        right: Operators of one kind.

    Raises:
        TypeError: If they cannot stand in one expression.
    """
    require_same_backend(where, (*_representative(left), *_representative(right)))


def _representative(operators: tuple[Any, ...]) -> tuple[Any, ...]:
    """The first operator whose backend is known, if there is one."""
    for operator in operators:
        if operator.backend not in (None, "spec"):
            return (operator,)
    return ()


def require_leaves(operator: Expression) -> None:
    """Raise unless an operator's own arrays are of one backend, and in torch of one dtype and device.

    Args:
        operator: The operator, with its arrays in place.

    Raises:
        TypeError: If they are not; the message names two that differ.
    """
    first: Any = None
    for name, leaf in operator._children():
        backend = backends.backend_of(leaf)
        if first is None:
            first, first_backend, first_name = leaf, backend, name
        elif backend != first_backend:
            raise TypeError(
                f"{type(operator).__name__}: mixed backends of {first_name}, a {first_backend} array of "
                f"shape {tuple(first.shape)}, and {name}, a {backend} array of shape {tuple(leaf.shape)}"
            )
        elif backend == "torch":
            _require_same_kind(
                type(operator).__name__, first, leaf, lambda name=first_name: name, lambda name=name: name
            )


def _require_same_kind(
    where: str, first: Any, other: Any, first_name: Callable[[], str], other_name: Callable[[], str]
) -> None:
    """Raise unless two torch operands have one dtype and device: torch mixes neither in a product."""
    if first.dtype is not other.dtype or first.device != other.device:
        raise TypeError(
            f"{where}: {first_name()} is {first.dtype} on {first.device}, {other_name()} is {other.dtype} on "
            f"{other.device}; torch does not mix dtypes or devices in a product; "
            "convert one, as in A.to(dtype=…, device=…)"
        )


def require_size(operator: str, name: str, value: Any) -> None:
    """Raise unless a value is a size: an integer that is not negative.

    Args:
        operator: Whose argument it is.
        name: The argument's name.
        value: The argument.

    Raises:
        TypeError: If it is no integer.
        ValueError: If it is negative.
    """
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
        raise TypeError(f"{operator}: {name} must be an integer, got {value!r}")
    if value < 0:
        raise ValueError(f"{operator}: {name} must not be negative, got {value}")


def callable_name(function: Any) -> str:
    """What a callable is called."""
    return getattr(function, "__name__", type(function).__name__)


def require_callable(where: str, name: str, value: Any) -> None:
    """Raise unless a value is a hashable callable, or None.

    Args:
        where: The operator, in a few words.
        name: The argument's name.
        value: The argument.

    Raises:
        TypeError: If it is not.
    """
    if value is None:
        return
    if not callable(value):
        raise TypeError(f"{where}: {name} must be a callable, got {type(value).__name__}")
    try:
        hash(value)
    except TypeError:
        raise TypeError(
            f"{where}: {name} must be hashable, for JAX compiles by it; {type(value).__name__} is not"
        ) from None


def require_params(where: str, params: Any) -> tuple[Any, ...]:
    """The params as a tuple of arrays or specs.

    Args:
        where: The operator's name.
        params: A tuple or list.

    Returns:
        The tuple.

    Raises:
        TypeError: If it is another thing.
    """
    if not isinstance(params, (tuple, list)):
        raise TypeError(f"{where}: params must be a tuple of arrays, got {type(params).__name__}")
    return tuple([as_array(where, f"params[{number}]", param) for number, param in enumerate(params)])
