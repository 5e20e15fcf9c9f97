"""How operators are declared: frozen dataclasses whose fields say what is a parameter and what is structure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import partial, wraps
from typing import Any, TypeVar, dataclass_transform, overload

from linops.backends import is_placeholder, is_symbol
from linops.backends.tree import register_class


class remembered:
    """A property computed once an instance, like `functools.cached_property` without its lock, which torch.compile cannot trace."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function
        self.name = function.__name__
        self.__doc__ = function.__doc__

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        value = self.function(instance)
        instance.__dict__[self.name] = value
        return value


def tree(**options: Any) -> Any:
    """A field that holds an array, an operator, None, or a tuple of those: what training and transformations see."""
    return field(metadata={"kind": "tree"}, **options)


def index(**options: Any) -> Any:
    """A field that holds an array of integers: structure, not parameters."""
    return field(metadata={"kind": "index"}, **options)


Class = TypeVar("Class", bound=type)


@overload
def declare(cls: Class) -> Class: ...
@overload
def declare(*, init: bool) -> Callable[[Class], Class]: ...
@dataclass_transform(frozen_default=True, eq_default=False, field_specifiers=(tree, index, field))
def declare(cls: Any = None, *, init: bool = True) -> Any:
    """Class decorator: an operator as a frozen dataclass, and a pytree in every framework that is present.

    Fields are `tree()` (arrays and operators), `index()` (integer arrays), or plain hashable values. Pickling, cost, repr, layers,
    initial scale and device moves follow from them.

    Args:
        cls: The class, a subclass of `LinearOperator`.
        init: Whether to generate ``__init__``; one written by hand must accept every field by name.

    Returns:
        The class.
    """
    if cls is None:
        return partial(_declared, init=init)
    return _declared(cls, init)


def _declared(cls: Any, init: bool) -> Any:
    if "__post_init__" in cls.__dict__:
        cls.__post_init__ = _lenient(cls.__post_init__)
    if isinstance(cls.__dict__.get("shape"), property):
        cls.shape = remembered(cls.__dict__["shape"].fget)
    cls = dataclass(frozen=True, eq=False, repr=False, init=init)(cls)
    cls._fields = tuple((item.name, item.metadata.get("kind", "static")) for item in fields(cls))
    register_class(cls)
    return cls


def _lenient(check: Callable[[Any], None]) -> Callable[[Any], None]:
    """A constructor's check that lets the placeholders pass which torch.compile puts in the place of arrays and sizes."""

    @wraps(check)
    def __post_init__(self: Any) -> None:
        try:
            check(self)
        except Exception:
            if _take_numbers(self):
                check(self)
            elif not any(_has_placeholder(getattr(self, name)) for name, _ in self._fields):
                raise

    return __post_init__


def _take_numbers(operator: Any) -> bool:
    """Put integers in the place of the symbols that torch.compile makes of an operator's sizes; whether there were some."""
    symbols = [name for name, _ in operator._fields if is_symbol(getattr(operator, name))]
    for name in symbols:
        object.__setattr__(operator, name, int(getattr(operator, name)))
    return bool(symbols)


def _has_placeholder(value: Any) -> bool:
    if isinstance(value, tuple):
        return any(map(_has_placeholder, value))
    if hasattr(type(value), "_fields"):  # an operator
        return any(_has_placeholder(getattr(value, name)) for name, _ in value._fields)
    return is_placeholder(value)
