"""Structures as JSON, and back: what is saved beside the numbers of a model.

A list of operators, each after those that it is made of, so that nothing nests and nothing can refer to itself::

    {"format": "linops.structure", "version": 1, "operators": [
        {"class": "Dense", "matrix": {"shape": [4, 3], "dtype": "float32"}},
        {"class": "Scaled", "base": {"operator": 0}, "number": 2.0}]}

The last is the whole, and each other is part of one that follows it: there is no way to say much in few words. Fields
at their default of nothing (null) are left out. Index arrays are in the text, in base64 and in the smallest integers
that hold them, or are kept beside it by a name. Reading constructs operators as a user would, so that what does not fit
is refused; it imports no module, calls no callable, and makes no array larger than some times the text that holds it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from linops import strict_json
from linops.backends.tree import classes
from linops.backends.values import from_plain, to_plain, to_tags
from linops.specs import Spec, dtype_name, spec
from linops.structure import Node, Structure
from linops.tags import Tag

FORMAT, VERSION = "linops.structure", 1
#: how often leaves stand in operators, each once a level: so long are their names, all together
MOST_NAMED = 1 << 22
#: levels of operators in operators that are written and read
DEEPEST = 1000


def to_json(structure: Structure, keep: Callable[[np.ndarray], str | None] = lambda _: None) -> str:
    """A structure as JSON text; see `document`.

    Args:
        structure: The structure.
        keep: Takes an index array, and says by which name it is kept beside the text; None leaves it in there.

    Returns:
        The text.

    Raises:
        TypeError: If an operator holds what no text can, such as the callable of `Function`.

    Example:
        >>> import linops as lo
        >>> A = lo.btt(64, 16)
        >>> from_json(to_json(A.structure)) == A.structure
        True
    """
    return json.dumps(document(structure, keep), allow_nan=False)


def document(structure: Structure, keep: Callable[[np.ndarray], str | None] = lambda _: None) -> dict[str, Any]:
    """A structure as plain data, of which JSON is made.

    Args:
        structure: The structure.
        keep: Takes an index array, and says by which name it is kept elsewhere; None leaves it in there.

    Returns:
        Dicts, lists, texts and numbers.

    Raises:
        TypeError: If an operator holds what no text can, such as the callable of `Function`.
        ValueError: If operators are nested more than 1000 deep.
    """
    require_small(structure)
    written: list[dict[str, Any]] = []

    def made(node: Node, values: list[Any]) -> Any:
        kind: Any = node.kind
        if kind is None:
            return _Items(values)
        record = {"class": _name(kind)}
        trees, others = iter(values), iter(node.context)
        for name, field in kind._fields:
            value = next(trees if field == "tree" else others)
            if value is not None and not (name == "assumed" and value == Tag.NONE):
                record[name] = _written(value, field, f"{kind.__name__}.{name}", keep)
        written.append(record)
        return _Written(len(written) - 1)

    structure.folded(lambda part: part, made)
    return {"format": FORMAT, "version": VERSION, "operators": written}


def from_json(text: str, kept: Callable[[str], np.ndarray] | None = None) -> Structure:
    """The structure that a text holds.

    Args:
        text: From `to_json`, or from anyone: it is not trusted.
        kept: Gives the index arrays that are kept beside the text, by name.

    Returns:
        The structure.

    Raises:
        ValueError: If it is no such text; the message says where.
    """
    try:
        return from_document(strict_json.loads(text), kept)
    except ValueError as error:
        raise ValueError(f"no structure of linops: {error}") from None


def from_document(given: Any, kept: Callable[[str], np.ndarray] | None = None) -> Structure:
    """The structure that plain data say.

    Args:
        given: From `document`, or from anyone: it is not trusted.
        kept: Gives the index arrays that are kept elsewhere, by name.

    Returns:
        The structure.

    Raises:
        ValueError: If it is none; the message says where.
    """
    if not isinstance(given, dict) or given.get("format") != FORMAT:
        raise ValueError(f"expected an object with format {FORMAT!r}")
    version = given.get("version")
    if type(version) is not int or not 1 <= version <= VERSION:
        raise ValueError(
            f"a structure of version {version!r:.60}; this linops reads 1 to {VERSION}: install a newer one"
        )
    records = given.get("operators")
    if not isinstance(records, list) or not records:
        raise ValueError("it lists no operators")
    known = {_name(kind): kind for kind in classes()}
    shelf = _Shelf(kept)
    for place, record in enumerate(records):
        where = f"operator {place} of {len(records)}"
        said = record.get("class") if isinstance(record, dict) else record
        kind: Any = known.get(said) if isinstance(said, str) and isinstance(record, dict) else None
        if kind is None:
            raise ValueError(f"{where}: no operator {said!r:.60}; import the module that declares it first")
        fields = dict(kind._fields)
        try:
            if unknown := [name for name in record if name != "class" and name not in fields]:
                raise ValueError(f"no field {unknown[0]!r:.60}")
            present = {name: value for name, value in record.items() if name != "class" and value is not None}
            values = {name: _read(value, fields[name], shelf) for name, value in present.items()}
            for name, value in values.items():  # elsewhere all of its terms would be written out
                if type(value) is range and "range" not in str(kind.__dataclass_fields__[name].type):
                    raise ValueError(f"{name} is no range")
            if missing := [name for name in kind._completed if values.get(name) is None]:
                raise ValueError(f"{missing[0]} is missing: a text holds all arrays that it stands for")
            if "assumed" in values:
                values["assumed"] = to_tags(values["assumed"])
            operator = kind(**values)
            _ = operator.shape
            shelf.put(operator)
        except Exception as error:
            raise ValueError(f"{where}, {kind.__name__}: {type(error).__name__}: {error!s:.400}") from None
    structure = Structure(shelf.last())
    require_small(structure)
    return structure


class _Shelf:
    """Operators that are built so far, each to be taken once by one that follows it."""

    def __init__(self, kept: Callable[[str], np.ndarray] | None) -> None:
        self.kept = kept
        self._built: list[Any] = []

    def take(self, place: Any) -> Any:
        """The operator at a place."""
        if type(place) is not int or not 0 <= place < len(self._built):
            raise ValueError(f"operator {place!r:.60} does not stand before it")
        operator, self._built[place] = self._built[place], None
        if operator is None:
            raise ValueError(f"operator {place} is part of two")
        return operator

    def put(self, operator: Any) -> None:
        """Add one."""
        self._built.append(operator)

    def last(self) -> Any:
        """The last, of which all others are part."""
        if any(one is not None for one in self._built[:-1]):
            raise ValueError("it lists operators that are no part of the last")
        return self._built[-1]


def require_small(structure: Structure) -> None:
    """Refuse operators that are nested deeper than is written and read, or have too many leaves deep in them.

    Args:
        structure: The structure; nothing is asked of it that is as long as the leaves' names.

    Raises:
        ValueError: If operators are nested more than 1000 deep, or leaves, each counted once a level, are more than 4
            million.
    """
    named = 0

    def made(node: Node, values: list[tuple[int, int]]) -> tuple[int, int]:
        nonlocal named
        depth, leaves = max((depth for depth, _ in values), default=0), sum(leaves for _, leaves in values)
        if node.kind is None:
            return depth, leaves
        named += leaves
        return depth + 1, leaves

    depth, _ = structure.folded(lambda part: (0, int(part is not None)), made)
    if depth > DEEPEST:
        raise ValueError(f"operators are nested more than {DEEPEST:,} deep, which is neither saved nor loaded")
    if named > MOST_NAMED:
        raise ValueError(f"{named:,} levels over all leaves, of which {MOST_NAMED:,} are saved and loaded")


class _Written(int):
    """The place of an operator that is written."""


class _Items(list):
    """Values of a tuple of arrays and operators."""


def _name(kind: Any) -> str:
    """A class by its name; those of other modules with the module."""
    return (
        kind.__qualname__
        if kind.__module__.startswith("linops.operators.")
        else f"{kind.__module__}:{kind.__qualname__}"
    )


def _written(value: Any, field: str, where: str, keep: Callable[[np.ndarray], str | None]) -> Any:
    if isinstance(value, _Written):
        return {"operator": int(value)}
    if isinstance(value, _Items):
        return [None if item is None else _written(item, field, where, keep) for item in value]
    if field == "tree":
        return {"shape": [int(size) for size in value.shape], "dtype": dtype_name(value.dtype)}
    return to_plain(value, where, keep)


def _read(value: Any, field: str, shelf: _Shelf) -> Any:
    if isinstance(value, list):
        return tuple([_read(item, field, shelf) for item in value])
    if field == "tree":
        if value is None:
            return None
        if "operator" in value:
            return shelf.take(value["operator"])
        return _leaf(value)
    return from_plain(value, field, shelf.kept)


def _leaf(value: dict[str, Any]) -> Spec:
    sizes = value["shape"]
    if not all(type(size) is int for size in sizes):
        raise ValueError(f"no shape {sizes!r:.60}")
    return spec(*sizes, dtype=str(value["dtype"]))
