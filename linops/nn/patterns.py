"""Which layers of a model to change: patterns over dotted names, the same in every framework. Needs no framework.

A name is the path of a layer in its model, joined by dots: ``"blocks.0.mlp.up"``. A pattern is

* a glob over the whole name, in which ``*`` also matches dots: ``"blocks.*.mlp.*"``;
* ``"re:"`` and a regular expression that must match the whole name: ``r"re:blocks\\.\\d+\\.mlp\\..*"``;
* a predicate ``(name, layer) -> bool``;
* several of these in a list or tuple: any may match.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Union, cast

from linops.nn.obstacles import brief
from linops.operator import LinearOperator

#: a function (out_features, in_features) → symbolic operator
Family = Callable[[int, int], LinearOperator]
Predicate = Callable[[str, Any], bool]
Pattern = Union[str, Predicate, Iterable[Union[str, Predicate]]]


def matches(pattern: Pattern, name: str, layer: Any = None) -> bool:
    """Whether a layer is meant by a pattern.

    Args:
        pattern: A glob, a ``"re:…"``, a predicate, or several in a list or tuple.
        name: The dotted name of the layer.
        layer: The layer, for predicates.

    Returns:
        True or False.

    Raises:
        TypeError: If the pattern is none of these.
        ValueError: If a regular expression is malformed.

    Example:
        >>> matches("blocks.*.up", "blocks.0.mlp.up"), matches(r"re:blocks\\.\\d\\.up", "blocks.0.mlp.up")
        (True, False)
    """
    if isinstance(pattern, str):
        if not pattern.startswith("re:"):
            return fnmatchcase(name, pattern)
        try:
            return re.fullmatch(pattern[3:], name) is not None
        except re.error as error:
            raise ValueError(f"pattern {pattern!r}: not a regular expression: {error}") from error
    if callable(pattern):
        return bool(pattern(name, layer))
    if isinstance(pattern, (list, tuple, set, frozenset)):
        return any(matches(item, name, layer) for item in pattern)
    raise TypeError(
        f"pattern {pattern!r}: expected a glob, 're:…', a predicate (name, layer) -> bool, or a list of these"
    )


def choose(
    name: str,
    layer: Any,
    family: Family | None,
    where: Pattern | Mapping[Any, Family | None] | None = None,
    exclude: Pattern | None = None,
) -> Family | None:
    """The family that a layer is to get, or None to leave it as it is.

    Args:
        name: The dotted name of the layer.
        layer: The layer, for predicates.
        family: The family of the layers that `where` selects; with a dict, of those that no key matches (None leaves
            them).
        where: A pattern, or a dict from patterns to families of which the first match wins and None leaves the layer;
            None selects all.
        exclude: A pattern of layers to leave, whatever `where` says.

    Returns:
        A family or None.

    Raises:
        TypeError: If a pattern or family is of no such kind, or there is no family to give.

    Example:
        >>> import linops as lo
        >>> where = {"*.head": None, "*.mlp.*": lo.monarch, "*": lo.btt}
        >>> choose("0.mlp.up", None, None, where).__name__, choose("0.head", None, None, where)
        ('monarch', None)
    """
    if family is None and not isinstance(where, Mapping):
        raise TypeError("no family given: pass one, such as 'btt' or lo.btt, or where={pattern: family}")
    if isinstance(family, Mapping):
        raise TypeError(
            "a dict is no family: a dict of pattern to family goes to where=, as in where={'*.mlp.*': 'btt'}"
        )
    if exclude is not None and matches(exclude, name, layer):
        return None
    chosen = family
    if isinstance(where, Mapping):
        chosen = next((value for pattern, value in where.items() if matches(pattern, name, layer)), family)
    elif where is not None and not matches(where, name, layer):
        chosen = None
    if chosen is not None and not callable(chosen):
        raise TypeError(
            f"{name}: family {chosen!r} is no function (out_features, in_features) -> operator; "
            "pass one, such as lo.btt"
        )
    return cast("Family | None", chosen)


def selects(where: Any, name: str, layer: Any = None) -> bool:
    """Whether `where` selects a layer itself, and not as one of all.

    Args:
        where: As for `choose`.
        name: The dotted name of the layer.
        layer: The layer, for predicates.

    Returns:
        True or False.

    Example:
        >>> selects(None, "head"), selects("*", "head"), selects({"*.up": "btt"}, "head")
        (False, True, False)
    """
    if isinstance(where, Mapping):
        return any(matches(pattern, name, layer) for pattern in where)
    return where is not None and matches(where, name, layer)


def is_text(pattern: Any) -> bool:
    """Whether a pattern consists of globs and regular expressions, which can be misspelt."""
    return isinstance(pattern, str) or (
        isinstance(pattern, (list, tuple, set, frozenset)) and len(pattern) > 0 and all(map(is_text, pattern))
    )


def astray(pattern: Any, names: Iterable[str], what: str) -> str | None:
    """What is to be said of a pattern that matches no name.

    Args:
        pattern: Globs and regular expressions; of predicates nothing is said.
        names: All names that there are.
        what: Whose names they are, as ``"the model's"``.

    Returns:
        A clause, or None where there is nothing to be said.

    Example:
        >>> astray("*.upp", ["0.up", "1.up"], "the model's")
        "'*.upp', which matches none of the model's 2, '*.up' (2); patterns are globs over the whole path"
    """
    known = list(names)
    if not is_text(pattern) or any(matches(pattern, name) for name in known):
        return None
    # of a plain Sequential's numbers the pattern would be '*' alone
    listed = ", ".join(map(repr, known)) if len(known) <= 8 and all(map(str.isdigit, known)) else brief(known)
    there = f"{what} {len(known)}, {listed}; patterns are globs over the whole path"
    return f"{pattern!r}, which matches none of {there}"


def warn_of_astray(
    where: str, names: Iterable[str], met: str, /, *, what: str = "the model's", stacklevel: int = 2, **arguments: Any
) -> None:
    """Warn of the patterns of arguments that match no name, so that they change nothing.

    Args:
        where: The public function that was given them.
        names: All names that there are.
        met: What it did because of that, as ``"met no layer"``.
        what: Whose names they are.
        stacklevel: Of the warning, as the caller would give it.
        **arguments: The arguments: a dict has a pattern a key, and in all else there is one, or none.

    Example:
        >>> import warnings
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     warn_of_astray("param_groups", ["0.up", "head"], "met no layer", adamw="haed", depth={"*.up": 4})
        >>> [str(one.message) for one in caught]  # doctest: +NORMALIZE_WHITESPACE
        ["param_groups met no layer for adamw='haed', which matches none of the model's 2, '0.up', 'head'; patterns are
        globs over the whole path"]
    """
    known = list(names)
    for argument, given in arguments.items():
        for pattern in given if isinstance(given, Mapping) else [given]:
            if why := astray(pattern, known, what):
                warnings.warn(f"{where} {met} for {argument}={why}", stacklevel=stacklevel + 1)


__all__ = ["Family", "Pattern", "astray", "choose", "is_text", "matches", "selects", "warn_of_astray"]
