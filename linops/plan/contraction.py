"""Einsum expressions lowered to matrix products: tensors act on an operand one after the other, each in one batched product.

Nothing here depends on the number of vectors, which are one more axis of the operand, innermost in memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import prod
from typing import NamedTuple

#: up to how many tensors all orders are compared
COMPARED = 8


class Action(NamedTuple):
    """How one tensor acts on the operand, by names of axes.

    Attributes:
        tensor: Its position.
        kind: ``"bmm"``: blocks × (rows, columns) @ (columns, rest); ``"shared"``: (rows, columns) @ left × (columns, rest); ``"matmul"``: the
            same without `left`; ``"scale"``: nothing is summed over, so the tensor multiplies elementwise.
        blocks: Axes of both that stay.
        rows: Axes of the tensor alone.
        columns: Axes of both that are summed over.
        left: Axes of the operand alone, left of `columns` in memory.
        rest: Other axes of the operand alone.
        turn: The order of the tensor's axes, or None where it stays.
        lies: Whether the tensor, turned and its axes joined, is a view.
        split: Groups of axes that the operand is reshaped to; the vectors join the last.
        order: The order of those, or None where it stays.
        merged: Whether the operand, reordered, must be copied to join its axes.
        after: The operand's axes in memory afterwards.
    """

    tensor: int
    kind: str
    blocks: str
    rows: str
    columns: str
    left: str
    rest: str
    turn: tuple[int, ...] | None
    lies: bool
    split: tuple[str, ...]
    order: tuple[int, ...] | None
    merged: bool
    after: str


def terms(expression: str) -> tuple[tuple[str, ...], str, str]:
    """The axes of the tensors, of the operand and of the result of an expression such as ``"ab,b->a"``.

    Args:
        expression: As for `numpy.einsum`, with the operand last; axes may be any letters.

    Returns:
        (axes of each tensor, axes of the operand, axes of the result).

    Raises:
        ValueError: If the expression is no such thing, or an axis is in one term alone.
    """
    inputs, arrow, out = "".join(expression.split()).partition("->")
    *tensors, into = inputs.split(",")
    everything = [*tensors, into, out]
    if not arrow or not tensors:
        raise ValueError(f"Einsum({expression!r}): expected tensors, the operand and the result, as in 'ab,b->a'")
    for term in everything:
        if not all(axis.isalpha() for axis in term) or len(set(term)) < len(term):
            raise ValueError(f"Einsum({expression!r}): the axes of a term must be different letters, got {term!r}")
    for axis in sorted(set("".join(everything))):
        if sum(axis in term for term in everything) < 2:
            raise ValueError(f"Einsum({expression!r}): axis {axis!r} is in one term alone; expected it in two or more")
    return tuple(tensors), into, out


def cheapest_order(tensors: Sequence[str], into: str, out: str, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """The order of fewest MACs in which tensors act on the operand; of more than eight, the last acts first.

    Args:
        tensors: The axes of each tensor.
        into: The axes of the operand.
        out: The axes of the result.
        sizes: The size of each axis.

    Returns:
        Positions of tensors, the one that acts first first.
    """
    count = len(tensors)
    backwards = tuple(range(count - 1, -1, -1))
    if count == 1 or count > COMPARED:
        return backwards
    best: dict[tuple[int, ...], tuple[int, tuple[int, ...]]] = {(): (0, ())}  # by the sorted positions of those that have acted
    for _ in tensors:
        longer: dict[tuple[int, ...], tuple[int, tuple[int, ...]]] = {}
        for done, (macs, order) in best.items():
            waiting = [position for position in backwards if position not in done]
            wanted = set(out).union(*[tensors[position] for position in waiting])
            held = wanted.intersection(into + "".join([tensors[position] for position in done]))
            for position in waiting:
                cost = macs + prod([sizes[axis] for axis in sorted(held.union(tensors[position]))])
                key = tuple(sorted((*done, position)))
                if key not in longer or cost < longer[key][0]:
                    longer[key] = (cost, (*order, position))
        best = longer
    return best[tuple(range(count))][1]


def actions(expression: str, order: tuple[int, ...]) -> tuple[Action, ...]:
    """How the tensors of an expression act on its operand in an order.

    Args:
        expression: The expression; see `terms`.
        order: Positions of tensors, the one that acts first first.

    Returns:
        The actions.
    """
    return _actions(expression, order)


# What torch.compiler.assume_constant_result does, where torch need not be there: arguments are constants of an expression, and torch.compile
# would not look into the cache.
setattr(actions, "_dynamo_marked_constant", True)


@lru_cache(maxsize=4096)
def _actions(expression: str, order: tuple[int, ...]) -> tuple[Action, ...]:
    tensors, held, out = terms(expression)
    found = []
    for place, position in enumerate(order):
        wanted = out + "".join([tensors[later] for later in order[place + 1 :]])
        action = _action(position, tensors[position], held, wanted)
        found.append(action)
        held = action.after
    return tuple(found)


def _action(position: int, own: str, held: str, wanted: str) -> Action:
    """How a tensor with axes `own` acts on an operand that lies in memory as `held`, if `wanted` is needed afterwards."""
    blocks = "".join([axis for axis in held if axis in own and axis in wanted])
    columns = "".join([axis for axis in held if axis in own and axis not in wanted])
    rows = "".join([axis for axis in own if axis not in held])
    rest = "".join([axis for axis in held if axis not in own])
    left, order, merged = "", None, False
    if not columns:  # (rows, 1 …) · (held …)
        kind, after = "scale", rows + held
        split = (*held, "")
    elif not blocks and columns in held:
        left, _, rest = held.partition(columns)
        kind, after = "shared" if left else "matmul", left + rows + rest
        split = (left, columns, rest) if left else (columns, rest)
    else:
        kind = "bmm" if blocks else "matmul"
        if held == blocks + columns + rest:
            split = (blocks, columns, rest)
        elif held == columns + blocks + rest:
            split, order = (columns, blocks, rest), (1, 0, 2)
        else:  # a copy, so in the order of the tensor
            blocks, columns = ("".join([axis for axis in own if axis in group]) for group in (blocks, columns))
            split, merged = (*held, ""), True
            order = (*[held.index(axis) for axis in blocks + columns + rest], len(held))
        after = blocks + rows + rest
    turn = tuple([own.index(axis) for axis in (rows + blocks if kind == "scale" else blocks + rows + columns)])
    lies = all(group in own for group in (blocks, rows, columns)) and not (blocks and own.endswith(blocks))
    moved = turn if turn != tuple(range(len(turn))) else None
    return Action(position, kind, blocks, rows, columns, left, rest, moved, kind == "scale" or lies, split, order, merged, after)
