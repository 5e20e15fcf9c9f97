"""`Structure`: an operator without its numbers, as one hashable value.

It holds the classes of an expression, its fixed fields, its index arrays, and the shapes and dtypes of its leaves. Two
are equal if all of these are; the numbers in leaves and the framework do not matter. It is what `lo.same_structure`
compares, and what the layers of Flax keep of an operator.

A structure is written flat, in the order of the expression: an opening for each operator and tuple, then what stands in
it. So it is made, compared, hashed and read without recursion, however deeply an expression is nested.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any, NamedTuple

from linops.backends.tree import as_value, own
from linops.expression import Expression
from linops.specs import Spec, dtype_name


class Opening(NamedTuple):
    """The start of an operator, or of a tuple of arrays and operators.

    Attributes:
        kind: The operator's class, or None of a tuple.
        count: How many values stand in it.
    """

    kind: type[Expression] | None
    count: int


class _Fixed(NamedTuple):
    value: Hashable


class Structure:
    """An operator without its numbers, as a value; the same for an operator and the symbolic operator of its sizes.

    Attributes:
        parts: What it consists of, flat: openings, fixed values, index arrays, and a spec for each leaf.

    Args:
        operator: Any operator whose leaves have a shape and a dtype.

    Cost: linear in the size of the expression.

    Example:
        >>> import linops as lo
        >>> A = lo.btt(16, 16)
        >>> Structure(A) == Structure(A.init(seed=0)), Structure(A) == Structure(2 * A)
        (True, False)
        >>> Structure(A).operator.shape
        (16, 16)
    """

    __slots__ = ("_hash", "_operator", "parts")

    def __init__(self, operator: Expression) -> None:
        self.parts = tuple(_parts(operator))
        self._hash: int | None = None
        self._operator: Any = None

    @property
    def operator(self) -> Any:
        """The symbolic operator of this structure."""
        if self._operator is None:
            self._operator = self.folded(own, _made)
        return self._operator

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its leaves, as `LinearOperator.named_leaves` gives them."""
        return tuple(name for name, _ in self.operator.named_leaves())

    def fill(self, leaves: Iterable[Any]) -> Any:
        """The operator over leaves, unchecked, for frameworks may carry anything in the place of an array.

        Args:
            leaves: In the order of `LinearOperator.named_leaves`.

        Returns:
            The operator.
        """
        supply = iter(leaves)
        return self.operator._map(lambda _: next(supply))

    def folded(self, value: Callable[[Any], Any], made: Callable[[Any, list[Any]], Any]) -> Any:
        """What the parts become, from the last to the first: what stands in an opening is there when it comes.

        Args:
            value: Of a part that is no opening.
            made: Of an operator's class, or None for a tuple, and of what its values became.

        Returns:
            What the whole became.
        """
        waiting: list[Any] = []
        for part in reversed(self.parts):
            if type(part) is Opening:
                waiting.append(made(part.kind, [waiting.pop() for _ in range(part.count)]))
            else:
                waiting.append(value(part))
        return waiting[0]

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, Structure) and hash(self) == hash(other) and self.parts == other.parts

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(self.parts)
        return self._hash

    def __reduce__(self) -> tuple:
        return Structure, (self.operator,)

    def __repr__(self) -> str:
        return f"Structure of {self.operator!r}"


def _parts(root: Expression) -> Iterable[Any]:
    stack: list[Any] = [root]
    while stack:
        value = stack.pop()
        if isinstance(value, Expression):
            fields = value._fields
            yield Opening(type(value), len(fields))
            for name, kind in reversed(fields):
                field = getattr(value, name)
                stack.append(field if kind == "tree" else _Fixed(as_value(kind, field)))
        elif type(value) is _Fixed:
            yield value.value
        elif isinstance(value, tuple):
            yield Opening(None, len(value))
            stack += value[::-1]
        else:
            yield None if value is None else Spec(tuple(value.shape), dtype_name(value.dtype))


def _made(kind: Any, values: list[Any]) -> Any:
    """The operator of a class, unchecked, or a tuple."""
    return (
        tuple(values)
        if kind is None
        else kind._unchecked(**{name: value for (name, _), value in zip(kind._fields, values)})
    )
