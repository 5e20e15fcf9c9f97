"""Tensors multiplied with each other elementwise: how their product lies in memory, and views of them with its axes.

Loops run along the innermost axes. Factors of 2×2 have many axes of two numbers, so where a run of axes that the
tensors share is long it is put there, and the product is copied once to the order in which it acts: that makes the
product of three factors of a butterfly of size 4096 three times as fast.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from linops.plan.network import joined

Size = Callable[[Iterable[str]], int]
#: numbers in a row from which loops over them pay for a copy afterwards
LONG_RUN = 16


def layout(tensors: Sequence[str], held: str, wanted: str, first: str, size: Size) -> str:
    """The axes of a product of tensors, as it best lies in memory.

    Args:
        tensors: The axes of each.
        held: The axes of what it is to act on, as they lie.
        wanted: The axes that are needed after that.
        first: Axes in the order in which those that it adds are to stand.
        size: The product of the sizes of axes.

    Returns:
        All axes of the tensors: the blocks, rows and columns of its action, or where a run of blocks is long, that one
        innermost.

    Example:
        >>> size = {"a": 2, "b": 2, "c": 2, "d": 32}
        >>> layout(["dab", "dac"], "dbc", "da", "a", lambda axes: __import__("math").prod(map(size.get, axes)))
        'abcd'
    """
    own = "".join(dict.fromkeys("".join(tensors)))
    blocks = "".join([axis for axis in held if axis in own and axis in wanted])
    columns = "".join([axis for axis in held if axis in own and axis not in wanted])
    rows = "".join(sorted([axis for axis in own if axis not in held], key=first.find))
    runs = joined([*tensors, blocks, rows, columns])[len(tensors)]
    longest = max(runs, key=size, default="")
    if size(longest) < LONG_RUN:
        return blocks + rows + columns
    return "".join([run for run in runs if run != longest]) + rows + columns + longest


def views(terms: Sequence[str], after: str, size: Size) -> list[tuple[tuple[int, ...], tuple[int, ...] | None]]:
    """Tensors with the axes of their product, those that one lacks of size one.

    Args:
        terms: The axes of each tensor.
        after: Those of the product.
        size: The product of the sizes of axes.

    Returns:
        Of each tensor the shape to which it is viewed, and the order in which the axes of that are taken, or None where
        they stay.
    """
    *groups, whole = joined([*terms, after])
    return [_view(term, whole, size) for term in groups]


def _view(term: list[str], whole: list[str], size: Size) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """A tensor of these runs of axes with those of a product."""
    if not whole:  # single numbers
        return (1,), None
    there = [group for group in whole if group in term]
    if there == term:
        return tuple([size(group) if group in term else 1 for group in whole]), None
    lacking = iter(range(len(term), len(whole)))
    turn = tuple([term.index(group) if group in term else next(lacking) for group in whole])
    return (*map(size, term), *[1] * (len(whole) - len(term))), turn
