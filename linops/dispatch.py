"""Functions over operators and arrays whose methods are chosen by class, at the cost of a look-up in a dict.

plum has the same methods, and is asked where none or several of them are the most specific; importing it takes two
fifths of the time of importing linops, so that waits until it is asked.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache, cached_property, wraps
from inspect import signature
from itertools import product
from types import UnionType
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin, get_type_hints

from linops.install import command, require_plum

if TYPE_CHECKING:
    import plum

#: the classes of the arguments that a method is for
Kinds = tuple[type, ...]


@cache
def dispatcher() -> plum.Dispatcher:
    """The library's own dispatcher of plum: primitives and the functions of the algebra live here."""
    try:
        import plum  # late: see above
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"linops needs the module plum: {command('plum')}") from error
    require_plum(plum)
    return plum.Dispatcher()


class Resolver:
    """The methods of a function, and which one holds for arguments.

    Args:
        function: The function: its name, arguments and docstring.
        count: How many of its arguments choose.
    """

    def __init__(self, function: Callable[..., Any], count: int) -> None:
        self.function, self.count = function, count
        self.registered: dict[Kinds, Callable[..., Any]] = {}
        self._methods: list[Callable[..., Any]] = []

    def register(self, method: Callable[..., Any]) -> None:
        """Add a method.

        Args:
            method: The method.

        Raises:
            TypeError: If it does not say what it is for, or takes other arguments.
        """
        found = dict(self.registered)  # another thread may be looking for a method in it
        for kinds in product(*map(kinds_of, _hints(self.function, method, self.count))):
            found[kinds] = method
        # the signatures of the most derived classes first
        self.registered = dict(sorted(found.items(), key=lambda item: -sum(len(kind.__mro__) for kind in item[0])))
        self._methods.append(method)
        if "plum" in self.__dict__:
            self.plum.dispatch(method)

    @cached_property
    def plum(self) -> plum.Function:
        """The function of plum of the same methods."""
        found = dispatcher().abstract(self.function)
        for method in self._methods:
            found.dispatch(method)
        return found

    def method(self, *arguments: Any) -> Callable[..., Any]:
        """The method for arguments: the one whose classes are subclasses of those of all others that fit.

        Args:
            *arguments: All arguments, those that choose first.

        Returns:
            The method.

        Raises:
            plum.NotFoundLookupError: If none fits.
            plum.AmbiguousLookupError: If several fit, and none is the most specific.
        """
        registered = self.registered
        fitting = [
            kinds
            for kinds in registered
            if all([isinstance(argument, kind) for argument, kind in zip(arguments, kinds)])  # noqa: C419  a list, for Dynamo
        ]
        first = fitting[0] if fitting else ()
        torch = sys.modules.get("torch")
        if fitting and (
            (torch is not None and torch.compiler.is_compiling())  # which cannot trace plum
            or all(issubclass(one, other) for kinds in fitting for one, other in zip(first, kinds))
        ):
            return registered[first]
        return self.plum.resolve_method(arguments)[0]


def generic(function: Callable[..., Any]) -> Any:
    """Declare a function that dispatches on its first argument; methods register with ``@name.dispatch``.

    A call is a look-up of the argument's type in a dict, so it costs what a dict costs and torch.compile can trace it;
    a type that is seen for the first time is resolved. The types of registered methods, and their direct subclasses (as
    torch's Parameter), are in the dict from the start.

    Args:
        function: Its name, arguments and docstring.

    Returns:
        The function.
    """
    resolver = Resolver(function, 1)
    methods: dict[type, Callable[..., Any]] = {}

    def call(first: Any, *rest: Any) -> Any:
        method = methods.get(type(first))
        if method is None:
            method = methods.setdefault(type(first), resolver.method(first, *rest))
        return method(first, *rest)

    def call_of_two(first: Any, second: Any) -> Any:  # as most are called: a third of the time
        method = methods.get(type(first))
        if method is None:
            method = methods.setdefault(type(first), resolver.method(first, second))
        return method(first, second)

    def call_of_three(first: Any, second: Any, third: Any) -> Any:
        method = methods.get(type(first))
        if method is None:
            method = methods.setdefault(type(first), resolver.method(first, second, third))
        return method(first, second, third)

    def call_of_four(first: Any, second: Any, third: Any, fourth: Any) -> Any:
        method = methods.get(type(first))
        if method is None:
            method = methods.setdefault(type(first), resolver.method(first, second, third, fourth))
        return method(first, second, third, fourth)

    calls: dict[int, Any] = {2: call_of_two, 3: call_of_three, 4: call_of_four}
    found: Any = wraps(function)(calls.get(function.__code__.co_argcount, call))
    if function.__code__.co_argcount in calls:
        found.__defaults__ = function.__defaults__

    def register(method: Callable[..., Any]) -> Any:
        resolver.register(method)
        chosen = {kind: method for (kind,), method in resolver.registered.items() if kind is not object}
        known = {
            subclass: method
            for kind, method in chosen.items()
            for subclass in kind.__subclasses__()
            if sum(issubclass(subclass, other) and not issubclass(kind, other) for other in chosen) == 0
        } | chosen
        for resolved in methods.keys() - known.keys():
            del methods[resolved]
        methods.update(known)  # what is there keeps its place, by which torch.compile guards it
        return method

    found.dispatch, found.resolver = register, resolver
    return found


def generic_pair(function: Callable[..., Any]) -> Any:
    """Declare a function that dispatches on its two arguments; see `generic`.

    Args:
        function: Its name, arguments and docstring.

    Returns:
        The function.
    """
    resolver = Resolver(function, 2)
    methods: dict[tuple[type, type], Callable[..., Any]] = {}

    @wraps(function)
    def call(first: Any, second: Any) -> Any:
        kinds = (type(first), type(second))
        if kinds in methods:
            return methods[kinds](first, second)
        return methods.setdefault(kinds, resolver.method(first, second))(first, second)

    def register(method: Callable[..., Any]) -> Any:
        resolver.register(method)
        methods.clear()
        return method

    call.dispatch, call.resolver = register, resolver  # type: ignore[attr-defined]
    return call


def _hints(function: Callable[..., Any], method: Callable[..., Any], count: int) -> list[Any]:
    """The annotations by which a method is chosen; without them it would stand for everything."""
    expected, code, hints = function.__code__.co_argcount, method.__code__, get_type_hints(method)

    def what() -> str:
        return f"{function.__name__}{signature(function)}: the method {method.__name__}"

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
