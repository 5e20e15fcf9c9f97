"""`Structure`: an operator without its numbers, as one hashable value.

It holds the classes of an expression, its fixed fields, its index arrays, and the shapes and dtypes of its leaves. Two
are equal if all of these are; the numbers in leaves and the framework do not matter. It is what `lo.same_structure`
compares, what plans are kept by, what layers keep of an operator, and what is written as JSON (`linops.encoding`).

A structure is written flat, in the order of the expression: a node for each operator and tuple, then what stands in it.
So it is made, compared, hashed and read without recursion, however deeply an expression is nested. A node holds the
context that the operator has as a pytree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, NamedTuple

from linops.backends.tree import flatten, unflatten
from linops.backends.values import Frozen
from linops.expression import Expression
from linops.specs import Spec, dtype_name


class Node(NamedTuple):
    """An operator, or a tuple of arrays and operators; what stands in it follows.

    Attributes:
        kind: The operator's class, or None of a tuple.
        context: What the operator holds beside arrays and operators, as values.
        count: How many arrays, operators and tuples stand in it.
    """

    kind: type[Expression] | None
    context: tuple[Any, ...]
    count: int


class Outline:
    """A structure with index arrays by their shapes alone, and without callables: so it may be kept for long.

    Attributes:
        parts: Hashable values.

    Args:
        parts: The same.
    """

    __slots__ = ("_hash", "parts")

    def __init__(self, parts: Iterable[Any]) -> None:
        self.parts: tuple[Any, ...] = tuple(parts)
        self._hash: int | None = None

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return type(other) is type(self) and hash(self) == hash(other) and self.parts == other.parts

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(self.parts)
        return self._hash


class Structure(Outline):
    """An operator without its numbers, as a value; the same for an operator and the symbolic operator of its sizes.

    Attributes:
        parts: What it consists of, flat: nodes, and a spec for each leaf (None where a field holds none).
        known: What was found of operators that `fill` gives over leaves that are alike; no part of the value.

    Args:
        operator: Any operator whose leaves have a shape and a dtype.

    Cost: linear in the size of the expression.

    Example:
        >>> import linops as lo
        >>> A = lo.btt(16, 16)
        >>> A.structure == A.init(seed=0).structure, A.structure == (2 * A).structure
        (True, False)
        >>> A.structure.operator.shape
        (16, 16)
    """

    __slots__ = ("_operator", "_outline", "known")

    def __init__(self, operator: Expression) -> None:
        super().__init__(_parts(operator))
        self._operator: Any = None
        self._outline: Outline | None = None
        self.known: dict[Any, Any] = {}

    @property
    def operator(self) -> Any:
        """The symbolic operator of this structure."""
        if self._operator is None:
            self._operator = self.folded(lambda spec: spec, _made)
        return self._operator

    @property
    def outline(self) -> Outline:
        """What plans depend on: the structure itself, where it holds neither index arrays nor callables."""
        if self._outline is None:
            self._outline = Outline(map(_outlined, self.parts)) if any(map(_holds, self.parts)) else self
        return self._outline

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its leaves, as `LinearOperator.named_leaves` gives them."""
        return tuple(name for name, _ in self.operator.named_leaves())

    def fill(self, leaves: Iterable[Any], indices: Iterable[Any] | None = None, *, alike: bool = False) -> Any:
        """The operator over leaves, unchecked, for frameworks may carry anything in the place of an array.

        Args:
            leaves: In the order of `LinearOperator.named_leaves`.
            indices: What stands in the place of index arrays, in their order; None leaves them.
            alike: Whether the leaves are known to have the shapes and dtypes of this structure, and to be of the
                backend and on the device that all such leaves were: what was found of it, such as plans, then holds.

        Returns:
            The operator.
        """
        supply = iter(leaves)
        places = None if indices is None else iter(indices)
        move = None if places is None else lambda _: next(places)
        return self.operator._map(lambda _: next(supply), move, alike=alike)

    def folded(self, value: Callable[[Any], Any], made: Callable[[Node, list[Any]], Any]) -> Any:
        """What the parts become, from the last to the first: what stands in a node is there when the node comes.

        Args:
            value: Of a part that is no node.
            made: Of a node, and of what its values became.

        Returns:
            What the whole became.
        """
        waiting: list[Any] = []
        for part in reversed(self.parts):
            if type(part) is Node:
                waiting.append(made(part, [waiting.pop() for _ in range(part.count)]))
            else:
                waiting.append(value(part))
        return waiting[0]

    def __reduce__(self) -> tuple[Any, ...]:
        return Structure, (self.operator,)

    def __repr__(self) -> str:
        return f"Structure of {self.operator!r}"


def _parts(root: Expression) -> list[Any]:
    parts: list[Any] = []
    stack: list[Any] = [root]
    while stack:
        value = stack.pop()
        if isinstance(value, Expression):
            children, context = flatten(value)
            parts.append(Node(type(value), context, len(children)))
            stack += children[::-1]
        elif isinstance(value, tuple):
            parts.append(Node(None, (), len(value)))
            stack += value[::-1]
        else:
            parts.append(None if value is None else _spec(value.shape, value.dtype))
    return parts


def _holds(part: Any) -> bool:
    """Whether a part would keep an index array or a callable alive."""
    if type(part) is Node:
        for value in part.context:
            if type(value) is Frozen or callable(value):
                return True
    return False


def _outlined(part: Any) -> Any:
    """A part without what it would keep alive."""
    if not _holds(part):
        return part
    context = [
        tuple(value.array.shape) if type(value) is Frozen else None if callable(value) else value
        for value in part.context
    ]
    return part._replace(context=tuple(context))


@lru_cache(maxsize=4096)
def _spec(shape: Any, dtype: Any) -> Spec:
    return Spec(tuple(shape), dtype_name(dtype))


def _made(node: Node, values: list[Any]) -> Any:
    """The operator of a node, unchecked, or a tuple."""
    return tuple(values) if node.kind is None else unflatten(node.kind, node.context, values)
