"""Functions over operators and arrays whose methods plum chooses, at the cost of a look-up in a dict."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from functools import wraps
from itertools import product
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import plum

from linops.install import require_plum

require_plum(plum)

#: linops' own dispatcher: primitives and the functions of the algebra live here
dispatch: plum.Dispatcher = plum.Dispatcher()


def generic(function: Callable[..., Any]) -> Any:
    """Declare a function that plum dispatches on its first argument; methods register with ``@name.dispatch``.

    A call is a look-up of the argument's type in a dict, so it costs what a dict costs and torch.compile can trace it;
    plum resolves a type that is seen for the first time. torch.compile cannot trace plum: the types of registered
    methods, and their direct subclasses (as torch's Parameter), are in the dict from the start, and of others the
    methods are tried in turn there.

    Args:
        function: Its name, arguments and docstring.

    Returns:
        The function.
    """
    resolver = dispatch.abstract(function)
    methods: dict[type, Callable[..., Any]] = {}
    registered: dict[tuple[type, ...], Callable[..., Any]] = {}

    def call(first: Any, *rest: Any) -> Any:
        method = methods.get(type(first))
        if method is None:
            method = methods.setdefault(type(first), _resolve(resolver, registered, first, *rest))
        return method(first, *rest)

    def call_of_two(first: Any, second: Any) -> Any:  # as most are called: a third of the time
        method = methods.get(type(first))
        if method is None:
            method = methods.setdefault(type(first), _resolve(resolver, registered, first, second))
        return method(first, second)

    def call_of_three(first: Any, second: Any, third: Any) -> Any:
        method = methods.get(type(first))
        if method is None:
            method = methods.setdefault(type(first), _resolve(resolver, registered, first, second, third))
        return method(first, second, third)

    def call_of_four(first: Any, second: Any, third: Any, fourth: Any) -> Any:
        method = methods.get(type(first))
        if method is None:
            method = methods.setdefault(type(first), _resolve(resolver, registered, first, second, third, fourth))
        return method(first, second, third, fourth)

    calls: dict[int, Any] = {2: call_of_two, 3: call_of_three, 4: call_of_four}
    found: Any = wraps(function)(calls.get(function.__code__.co_argcount, call))
    if function.__code__.co_argcount in calls:
        found.__defaults__ = function.__defaults__

    def register(method: Callable[..., Any]) -> Any:
        (hint,) = _hints(function, method, 1)
        for kind in kinds_of(hint):
            if kind is not object:
                registered[kind,] = method
        _specific_first(registered)
        known = {subclass: method for (kind,), method in registered.items() for subclass in kind.__subclasses__()}
        known.update({kind: method for (kind,), method in registered.items()})
        for resolved in methods.keys() - known.keys():
            del methods[resolved]
        methods.update(known)  # what is there keeps its place, by which torch.compile guards it
        return resolver.dispatch(method)

    found.dispatch, found.resolver = register, resolver
    return found


def generic_pair(function: Callable[..., Any]) -> Any:
    """Declare a function that plum dispatches on its two arguments; see `generic`.

    Args:
        function: Its name, arguments and docstring.

    Returns:
        The function.
    """
    resolver = dispatch.abstract(function)
    methods: dict[tuple[type, type], Callable[..., Any]] = {}
    registered: dict[tuple[type, ...], Callable[..., Any]] = {}

    @wraps(function)
    def call(first: Any, second: Any) -> Any:
        kinds = (type(first), type(second))
        if kinds in methods:
            return methods[kinds](first, second)
        return methods.setdefault(kinds, _resolve(resolver, registered, first, second))(first, second)

    def register(method: Callable[..., Any]) -> Any:
        for kinds in product(*map(kinds_of, _hints(function, method, 2))):
            registered[kinds] = method
        _specific_first(registered)
        methods.clear()
        return resolver.dispatch(method)

    call.dispatch, call.resolver = register, resolver  # type: ignore[attr-defined]
    return call


def _hints(function: Callable[..., Any], method: Callable[..., Any], count: int) -> list[Any]:
    """The annotations by which a method is chosen; without them it would stand for everything."""
    expected, code, hints = function.__code__.co_argcount, method.__code__, get_type_hints(method)

    def what() -> str:
        return f"{function.__name__}{inspect.signature(function)}: the method {method.__name__}"

    names = code.co_varnames[:count]
    if code.co_argcount != expected:
        raise TypeError(f"{what()} takes {code.co_argcount}, expected {expected} arguments")
    if bare := [name for name in names if name not in hints]:
        shown = ", ".join([f"{name}: lo.Dense" for name in names])
        raise TypeError(
            f"{what()} does not say which {' and '.join(bare)} it is for; annotate with classes, "
            f"as in def {method.__name__}({shown}{', …' if expected > count else ''})"
        )
    return [hints[name] for name in names]


def kinds_of(hint: Any) -> list[type]:
    """The classes that an annotation names, of a union several.

    Args:
        hint: An annotation, as `typing.get_type_hints` gives it.

    Returns:
        The classes; `object` where it names none.
    """
    named = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return [kind if isinstance(kind, type) and kind is not Any else object for kind in named]


def _specific_first(registered: dict[tuple[type, ...], Any]) -> None:
    """Put the signatures of the most derived classes first."""
    ordered = sorted(registered.items(), key=lambda item: -sum(len(kind.__mro__) for kind in item[0]))
    registered.clear()
    registered.update(ordered)


def _resolve(resolver: Any, registered: dict[tuple[type, ...], Any], *arguments: Any) -> Callable[..., Any]:
    torch = sys.modules.get("torch")
    if torch is not None and torch.compiler.is_compiling():
        for kinds, method in registered.items():
            if all([isinstance(argument, kind) for argument, kind in zip(arguments, kinds)]):  # noqa: C419  a list, for Dynamo
                return method
    return resolver.resolve_method(arguments)[0]
