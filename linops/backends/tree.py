"""Operators as pytrees: arrays are the children, everything else is the (hashable) context.

Numbers in the context are compared with their types, for the dtype of a product depends on them.

Index arrays of permutations and sparse structures belong to the context, so gradients with respect to an operator see
its parameters alone.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from dataclasses import fields
from importlib import import_module
from operator import attrgetter
from typing import Any

from linops.backends.values import VALUES, as_value, from_plain, own, to_plain, to_tags

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
    """`flatten` for one class."""
    children = _attributes([name for name, kind in cls._fields if kind == "tree"])
    context = _attributes([name for name, kind in cls._fields if kind != "tree"])
    kinds = [kind for _, kind in cls._fields if kind != "tree"]
    if VALUES.keys() & kinds:
        return lambda operator: (children(operator), tuple(map(as_value, kinds, context(operator))))
    return lambda operator: (children(operator), context(operator))


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


def _flatten_present(operator: Any) -> tuple[list, Any]:
    """As `flatten`, without the fields that are None: to torch None is a leaf."""
    children, context = flatten(operator)
    present = tuple(child is not None for child in children)
    return [child for child in children if child is not None], (present, context)


def _unflatten_present(cls: Any, context: Any, children: Iterable[Any]) -> Any:
    present, others = context
    supply = iter(children)
    return unflatten(cls, others, [next(supply) if there else None for there in present])


def _name(cls: Any) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _written(cls: Any, context: Iterable[Any]) -> str:
    """A context as text, for programs that are exported with operators among their arguments."""
    names = [name for name, kind in cls._fields if kind != "tree"]
    return json.dumps([to_plain(value, f"{cls.__name__}.{name}") for name, value in zip(names, context)])


def _read(cls: Any, text: str | bytes) -> tuple[Any, ...]:
    fields = [(name, kind) for name, kind in cls._fields if kind != "tree"]
    values = json.loads(text)
    if not isinstance(values, list) or len(values) != len(fields):
        raise ValueError(f"{cls.__name__}: expected a list of {', '.join(dict(fields))}, got {text!r:.60}")
    return tuple([_value(name, kind, value) for (name, kind), value in zip(fields, values)])


def _value(name: str, kind: str, value: Any) -> Any:
    if value is None:
        return None
    return to_tags(value) if name == "assumed" else as_value(kind, from_plain(value, kind))


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
    export = import_module("jax.export")
    named: Counter[str] = Counter()

    def register(cls: Any) -> None:
        def with_keys(operator: Any) -> tuple[list, Hashable]:
            children, context = flatten(operator)
            names = [name for name, kind in cls._fields if kind == "tree"]
            return [(tree_util.GetAttrKey(name), child) for name, child in zip(names, children)], context

        tree_util.register_pytree_with_keys(
            cls,
            with_keys,
            lambda context, children: unflatten(cls, context, children),
            flatten_func=attrgetter("_flattened"),  # C alone, once it is remembered
        )
        name = _name(cls)
        named[name] += 1  # one that is declared anew, as in a notebook, is not the class that programs have
        export.register_pytree_node_serialization(
            cls,
            serialized_name=name if named[name] == 1 else f"{name}#{named[name]}",
            serialize_auxdata=lambda context: _written(cls, context).encode(),
            deserialize_auxdata=lambda text: _read(cls, text),
        )

    _add(register, tree_util.register_dataclass)


def register_torch() -> None:
    """Register operators with torch."""
    from torch.utils import _pytree

    def register(cls: Any) -> None:
        names = [name for name, kind in cls._fields if kind == "tree"]

        def with_keys(operator: Any) -> tuple[list, Hashable]:
            children, context = _flatten_present(operator)
            there = [name for name, present in zip(names, context[0]) if present]
            return [(_pytree.GetAttrKey(name), child) for name, child in zip(there, children)], context

        _pytree.register_pytree_node(
            cls,
            _flatten_present,
            lambda children, context: _unflatten_present(cls, context, children),
            serialized_type_name=_name(cls),
            to_dumpable_context=lambda context: [list(context[0]), _written(cls, context[1])],
            from_dumpable_context=lambda text: (tuple(text[0]), _read(cls, text[1])),
            flatten_with_keys_fn=with_keys,
        )

    def register_record(cls: Any, data: list[str], statics: list[str]) -> None:
        _pytree.register_pytree_node(
            cls,
            lambda record: (
                [getattr(record, name) for name in data],
                tuple([getattr(record, name) for name in statics]),
            ),
            lambda children, context: cls(**dict(zip(data, children)), **dict(zip(statics, context))),
            serialized_type_name=_name(cls),
        )

    _add(register, register_record)
