"""What every rewrite of `simplify` must pass, whoever wrote it: the same map and kind, nothing dearer, some gain.

Something gained means a smaller count, or equal counts and a shorter expression. Counts and lengths are natural numbers
that only ever fall, so rewriting ends, also with rules that undo each other.
"""

from __future__ import annotations

from math import prod
from typing import Any

from linops import backends
from linops.expression import Expression
from linops.operator import LinearOperator
from linops.operators.product import Product
from linops.plan import natural_order

#: in the natural order every count is linear in the number of vectors, so that what holds for one and for many holds
#: between
BATCHES = (1, 1024)


def accepts(after: Any, before: LinearOperator, rest: tuple[LinearOperator, ...] = ()) -> bool:
    """Whether an operator may take the place of another.

    Args:
        after: What a rule makes of it, or None.
        before: The operator as it is.
        rest: Operators beside it in the same product or sum, which may keep up a dtype that would be lost otherwise.

    Returns:
        True if it may: same shape, dtype, backend and device, no count larger, and something gained.
    """
    if after is None or after is before or after.shape != before.shape:
        return False
    if not _same_kind((after,), (before,)) and not (rest and _same_kind((after, *rest), (before, *rest))):
        return False
    if before.is_symbolic and not _within(after, before):
        return False
    return _improves((*counts(after), _bytes(after)), (*counts(before), _bytes(before)), after, before)


def affordable(prototype: LinearOperator, before: LinearOperator) -> bool:
    """Whether an operator of a prototype's shapes would be accepted: rules ask before they compute large arrays.

    Args:
        prototype: A symbolic operator like the one that a rule would make.
        before: The operator as it is.

    Returns:
        True if its counts are accepted.
    """
    return _improves(counts(prototype), counts(before), prototype, before)


def _improves(after: tuple[int, ...], before: tuple[int, ...], *operators: LinearOperator) -> bool:
    if any(one > other for one, other in zip(after, before)):
        return False
    return after != before or length(operators[0]) < length(operators[1])


def counts(operator: LinearOperator) -> tuple[int, ...]:
    """Parameters; and MACs, FLOPs and numbers moved, for one vector and for many.

    Args:
        operator: An operator.

    Returns:
        The counts.
    """
    found = [operator.num_params]
    with natural_order():
        for batch in BATCHES:
            macs = other = moved = 0
            for step in operator._lower(batch):
                macs += step.macs
                other += step.other_flops
                moved += step.inputs + step.weights + step.outputs
            found += [macs, 2 * macs + other, moved]
    return tuple(found)


def length(operator: LinearOperator) -> int:
    """The length of an expression: its operators, and the axes of their arrays and the items of their other fields.

    Args:
        operator: An operator.

    Returns:
        The length.
    """
    return sum(1 + sum(map(_length_of_field, _values(node))) for _, node in operator._nodes())


def _values(node: Any) -> list[Any]:
    return [getattr(node, name) for name, _ in node._fields if name != "assumed"]


def _length_of_field(value: Any) -> int:
    if value is None or isinstance(value, Expression):
        return 0
    if isinstance(value, tuple):
        return sum(map(_length_of_field, value))
    return len(value.shape) if backends.is_array(value) else 1


def _bytes(operator: LinearOperator) -> int:
    """Bytes of the parameters, so that merging real numbers with complex ones does not count as free."""
    return sum(prod(leaf.shape) * backends.itemsize(leaf.dtype) for _, leaf in operator.named_leaves())


def _same_kind(after: tuple[LinearOperator, ...], before: tuple[LinearOperator, ...]) -> bool:
    """Whether operators that stand together have the backend, dtype and device of others."""
    one, two = (group[0] if len(group) == 1 else Product._unchecked(factors=group) for group in (after, before))
    if (one.backend, one.dtype, one._is_complex) != (two.backend, two.dtype, two._is_complex):
        return False
    # None: of no array, or of one that is traced
    return one.device == two.device or one.device is None or two.device is None


def _within(after: LinearOperator, before: LinearOperator) -> bool:
    """Whether the leaves of one are leaves of the other, in the same order: then `init` draws the same numbers."""
    theirs = (leaf for _, leaf in before.named_leaves())
    return all(any(leaf is other for other in theirs) for _, leaf in after.named_leaves())
