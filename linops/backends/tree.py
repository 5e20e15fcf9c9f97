"""Operators as pytrees: arrays are the children, everything else is the (hashable) context.

Numbers in the context are compared with their types, for the dtype of a product depends on them.

Index arrays of permutations and sparse structures belong to the context, so gradients with respect to an operator see
its parameters alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Iterable
from dataclasses import fields
from operator import attrgetter
from typing import Any

import numpy as np


class Frozen:
    """An index array as a hashable value: equal if the numbers are, whatever the dtype, as torch has int32 as well."""

    __slots__ = ("_hash", "array")

    def __init__(self, array: Any):
        self.array: Any = array
        self._hash: int | None = None

    def _numbers(self) -> np.ndarray:
        array = self.array
        return np.asarray(array.detach().cpu() if hasattr(array, "detach") else array)

    @property
    def _is_abstract(self) -> bool:
        """Whether the array has no numbers, as on torch's meta device: it then equals itself alone."""
        return bool(getattr(self.array, "is_meta", False))

    def __hash__(self) -> int:
        if self._hash is None:  # of some of the numbers: jax.jit asks at every call
            if self._is_abstract:
                self._hash = 0
            else:
                numbers = self._numbers().reshape(-1)
                some = numbers[:: max(1, len(numbers) // 64)].astype(np.int64)
                self._hash = hash((len(numbers), some.tobytes()))
        return self._hash

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Frozen):
            return False
        if self.array is other.array:
            return True
        return not (self._is_abstract or other._is_abstract) and np.array_equal(self._numbers(), other._numbers())


class Exact:
    """A Python number as a hashable value: equal if type and digits are; so 2 and 2.0, 0.0 and -0.0 are not."""

    __slots__ = ("number",)

    def __init__(self, number: Any):
        self.number: Any = number

    def __hash__(self) -> int:
        return hash(repr(self.number))  # of NaN the hash is that of the object

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Exact):
            return False
        a, b = self.number, other.number
        return type(a) is type(b) and repr(a) == repr(b)


_CLASSES: list[Any] = []
_FLATTENERS: dict[type, Callable[[Any], tuple[tuple[Any, ...], tuple[Any, ...]]]] = {}
_REGISTRARS: list[Callable[[Any], None]] = []
_RECORDS: list[tuple[Any, list[str], list[str]]] = []
_RECORD_REGISTRARS: list[Callable[[Any, list[str], list[str]], None]] = []


def classes() -> tuple[Any, ...]:
    """The classes of operators that are declared so far."""
    return tuple(_CLASSES)


def flatten(operator: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The children (field values that hold arrays and operators) and the context, both in the order of the fields."""
    flattener = _FLATTENERS.get(type(operator))
    if flattener is None:  # a subclass that is not declared
        flattener = _FLATTENERS.setdefault(type(operator), _flattener(type(operator)))
    return flattener(operator)


def _flattener(cls: Any) -> Callable[[Any], tuple[tuple[Any, ...], tuple[Any, ...]]]:
    """`flatten` for one class: jax.jit calls it for every operator of an expression at every call."""
    children = _attributes([name for name, kind in cls._fields if kind == "tree"])
    context = _attributes([name for name, kind in cls._fields if kind != "tree"])
    kinds = [kind for _, kind in cls._fields if kind != "tree"]
    if _VALUES.keys() & kinds:
        return lambda operator: (children(operator), tuple(map(as_value, kinds, context(operator))))
    return lambda operator: (children(operator), context(operator))


#: what stands for the fields of a kind where values are compared
_VALUES: dict[str, Any] = {"index": Frozen, "number": Exact}


def as_value(kind: str, field: Any) -> Any:
    """What stands for a field where it is compared and hashed.

    Args:
        kind: The field's kind, which is not ``"tree"``.
        field: What the field holds.

    Returns:
        Index arrays as `Frozen`, numbers as `Exact`, all else as it is.
    """
    value = _VALUES.get(kind)
    return field if value is None or field is None else value(field)


def own(value: Any) -> Any:
    """What a field holds, of what stands for it.

    Args:
        value: From `as_value`.

    Returns:
        The field.
    """
    return value.array if type(value) is Frozen else value.number if type(value) is Exact else value


def _attributes(names: list[str]) -> Callable[[Any], tuple]:
    """A function that gives the tuple of an object's attributes of these names."""
    if len(names) > 1:
        return attrgetter(*names)
    get = attrgetter(*names) if names else None
    return (lambda _: ()) if get is None else lambda operator: (get(operator),)


def unflatten(cls: Any, context: Any, children: Iterable[Any]) -> Any:
    """An operator of a class from context and children, unchecked: a tree may carry anything in place of an array."""
    trees, others = iter(children), iter(context)
    operator = object.__new__(cls)
    for name, kind in cls._fields:
        value = next(trees if kind == "tree" else others)
        operator.__dict__[name] = own(value)
    return operator


def _flatten_present(operator: Any) -> tuple[list, Hashable]:
    """As `flatten`, without the fields that are None: to torch None is a leaf."""
    children, context = flatten(operator)
    present = tuple(child is not None for child in children)
    return [child for child in children if child is not None], (present, context)


def _unflatten_present(cls: Any, context: Any, children: Iterable[Any]) -> Any:
    present, others = context
    supply = iter(children)
    return unflatten(cls, others, [next(supply) if there else None for there in present])


def register_class(cls: Any) -> None:
    """Make a class of operators a pytree in every framework that is loaded, and in those loaded later."""
    _CLASSES.append(cls)
    _FLATTENERS[cls] = _flattener(cls)
    for register in _REGISTRARS:
        register(cls)


def register_record(cls: Any, *statics: str) -> None:
    """Make a dataclass of numbers, told beside a result, a pytree in every framework.

    Args:
        cls: The class, a dataclass.
        *statics: The fields that are no arrays.
    """
    record = cls, [field.name for field in fields(cls) if field.name not in statics], list(statics)
    _RECORDS.append(record)
    for register in _RECORD_REGISTRARS:
        register(*record)


def _add(register: Callable[[Any], None], register_record: Callable[[Any, list[str], list[str]], None]) -> None:
    _REGISTRARS.append(register)
    for cls in _CLASSES:
        register(cls)
    _RECORD_REGISTRARS.append(register_record)
    for record in _RECORDS:
        register_record(*record)


def register_jax() -> None:
    """Register operators with JAX."""
    tree_util = sys.modules["jax"].tree_util

    def register(cls: Any) -> None:
        def with_keys(operator: Any) -> tuple[list, Hashable]:
            children, context = flatten(operator)
            names = [name for name, kind in cls._fields if kind == "tree"]
            return [(tree_util.GetAttrKey(name), child) for name, child in zip(names, children)], context

        tree_util.register_pytree_with_keys(
            cls, with_keys, lambda context, children: unflatten(cls, context, children), flatten_func=_FLATTENERS[cls]
        )

    _add(register, tree_util.register_dataclass)


def register_torch() -> None:
    """Register operators with torch."""
    from torch.utils import _pytree

    def register(cls: Any) -> None:
        _pytree.register_pytree_node(
            cls,
            _flatten_present,
            lambda children, context: _unflatten_present(cls, context, children),
            serialized_type_name=f"{cls.__module__}.{cls.__qualname__}",
        )

    def register_record(cls: Any, data: list[str], statics: list[str]) -> None:
        _pytree.register_pytree_node(
            cls,
            lambda record: (
                [getattr(record, name) for name in data],
                tuple([getattr(record, name) for name in statics]),
            ),
            lambda children, context: cls(**dict(zip(data, children)), **dict(zip(statics, context))),
            serialized_type_name=f"{cls.__module__}.{cls.__qualname__}",
        )

    _add(register, register_record)
