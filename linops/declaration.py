"""How operators are declared: frozen dataclasses whose fields say what is a parameter and what is structure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import partial, wraps
from typing import Any, Generic, Self, TypeVar, dataclass_transform, overload

from linops.backends import is_placeholder, is_symbol
from linops.backends.tree import register_class

Value = TypeVar("Value")


class remembered(Generic[Value]):
    """`functools.cached_property`, computed once an instance, without the lock, which torch.compile cannot trace."""

    def __init__(self, function: Callable[[Any], Value]) -> None:
        self.function = function
        self.name: str = function.__name__
        self.__doc__: str | None = function.__doc__

    @overload
    def __get__(self, instance: None, owner: Any = None) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: Any = None) -> Value: ...
    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        value = self.function(instance)
        instance.__dict__[self.name] = value
        return value


def tree(*, axes: Any = None, **options: Any) -> Any:
    """A field that holds an array, an operator, None, or a tuple of those: what training and transformations see.

    Args:
        axes: How many axes the array has, or each of a tuple; or a function of the operator that gives the number, or
            numbers for a tuple. Arrays with others, such as a stack of them that vmap returns, are an error where the
            operator's shape is asked for.
        **options: Those of `dataclasses.field`.

    Returns:
        The field.
    """
    return field(metadata={"kind": "tree", "axes": axes}, **options)


def scalar(**options: Any) -> Any:
    """A field that holds a Python number, which promotes by its type, or None: 2 and 2.0 are two structures."""
    return field(metadata={"kind": "number"}, **options)


def index(**options: Any) -> Any:
    """A field that holds an array of integers: structure, not parameters."""
    return field(metadata={"kind": "index"}, **options)


Class = TypeVar("Class", bound=type)


@overload
def declare(cls: Class) -> Class: ...
@overload
def declare(*, init: bool) -> Callable[[Class], Class]: ...
@dataclass_transform(frozen_default=True, eq_default=False, field_specifiers=(tree, index, scalar, field))
def declare(cls: Any = None, *, init: bool = True) -> Any:
    """Class decorator: an operator as a frozen dataclass, and a pytree in every framework that is present.

    Fields are `tree()` (arrays and operators), `index()` (integer arrays), or plain hashable values. Pickling, cost,
    repr, layers, initial scale and device moves follow from them.

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
    shape = cls.__dict__.get("shape")
    cls = dataclass(frozen=True, eq=False, repr=False, init=init)(cls)
    cls._axes = tuple((item.name, axes) for item in fields(cls) if (axes := item.metadata.get("axes")) is not None)
    if isinstance(shape, property):
        found: Any = shape.fget
        cls.shape = remembered(_of_own_leaves(found) if cls._axes else found)
    cls._is_declared = True
    cls._fields = tuple((item.name, item.metadata.get("kind", "static")) for item in fields(cls))
    register_class(cls)
    return cls


#: what says which map an operator is
MAP = ("shape", "_columns", "_rows", "_stacked", "_vector", "_natural", "_natural_rows", "_natural_vector", "_entries")
MAP += ("_trace", "_transpose", "_conj", "_is_zero")


def require_final(cls: type) -> None:
    """Raise where a class changes the map of a declared operator, whose rules and plans would not follow.

    Args:
        cls: A class that is being made.

    Raises:
        TypeError: If it does.
    """
    base = next((base for base in cls.__mro__[1:] if "_is_declared" in base.__dict__), None)
    changed = [name for name in MAP if name in cls.__dict__]
    if base is not None and changed:
        raise TypeError(
            f"{cls.__name__} is a {base.__name__} with a {changed[0]} of its own, which the rules and plans for "
            f"{base.__name__} would not follow. Derive it from lo.LinearOperator, or from a base that is not declared"
        )


def _of_own_leaves(shape: Any) -> Any:
    """A shape that is an error where leaves have other axes than the operator's."""

    @wraps(shape)
    def checked(self: Any) -> Any:
        if self._shared is None and not _fits(self) and (said := other_axes(self)):
            held = ", ".join([f"{name} {tuple(array)}" for name, array, _ in _arrays(self)])
            raise ValueError(
                f"{type(self).__name__}: {said}: {held}; "
                "a stack of operators, as vmap returns it, multiplies inside vmap"
            )
        return shape(self)

    return checked


def _fits(operator: Any) -> bool:
    """Whether an operator's own arrays have its axes, where that is seen at once."""
    for name, axes in operator._axes:
        value = getattr(operator, name)
        for item in value if type(value) is tuple else (value,):
            if item is not None and len(getattr(item, "shape", ())) != axes:
                return False
    return True


def _arrays(operator: Any) -> list[tuple[str, Any, int]]:
    """The names and shapes of an operator's own arrays, and how many axes they are to have."""
    found = []
    for name, axes in operator._axes:
        value = getattr(operator, name)
        if isinstance(value, tuple):
            counts: Any = axes(operator) if callable(axes) else (axes,) * len(value)
            named = [(f"{name}_{number}", item, count) for number, (item, count) in enumerate(zip(value, counts))]
        else:
            named = [(name, value, axes(operator) if callable(axes) else axes)]
        # other things may stand there while JAX rebuilds trees; operators count their own
        found += [
            (key, item.shape, count)
            for key, item, count in named
            if not hasattr(type(item), "_fields") and hasattr(item, "shape")
        ]
    return found


def other_axes(operator: Any) -> str:
    """What to say of an operator whose own arrays have other axes than they should; nothing where none has."""
    found = _arrays(operator)
    extra = {len(shape) - axes for _, shape, axes in found}
    if not extra or extra == {0}:
        return ""
    (more, *others), (_, shape, _) = extra, found[0]
    if others or more < 0:
        return "leaves do not have the axes that they should"
    return f"leaves carry {more} leading ax{'is' if more == 1 else 'es'} {tuple(shape[:more])}"


def _lenient(check: Callable[[Any], None]) -> Callable[[Any], None]:
    """A constructor's check that lets pass the placeholders that torch.compile puts in place of arrays and sizes."""

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
    """Replace the symbols that torch.compile makes of an operator's sizes by numbers; whether there were some."""
    symbols = [name for name, _ in operator._fields if is_symbol(getattr(operator, name))]
    for name in symbols:
        symbol = getattr(operator, name)
        object.__setattr__(operator, name, bool(symbol) if type(symbol).__name__ == "SymBool" else int(symbol))
    return bool(symbols)


def _has_placeholder(value: Any) -> bool:
    if isinstance(value, tuple):
        return any(map(_has_placeholder, value))
    if hasattr(type(value), "_fields"):  # an operator
        return any(_has_placeholder(getattr(value, name)) for name, _ in value._fields)
    return is_placeholder(value)
