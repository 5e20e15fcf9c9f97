"""Two tensors multiplied elementwise: how their product lies in memory, and views of both with its axes.

Loops run along the innermost axis. Factors of 2×2 have many axes of two numbers, so the longest run of axes that lie
side by side in both is put there: it makes the product of three factors of a butterfly of size 4096 three times as
fast, with the copy to the order in which blocks are multiplied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from linops.plan.network import joined


def layout(own: str, held: str, sizes: dict[str, int]) -> str:
    """The axes of the product of two tensors, as it lies in memory.

    Args:
        own: The axes of one.
        held: Those of the other.
        sizes: The size of each axis.

    Returns:
        The axes of both, the longest run of those that lie side by side in both innermost.

    Example:
        >>> layout("dab", "dac", {"a": 2, "b": 2, "c": 2, "d": 8})
        'bcda'
    """
    groups = dict.fromkeys([group for term in joined([own, held]) for group in term])
    lengths = {group: 1 for group in groups}
    for group in groups:
        for axis in group:
            lengths[group] *= sizes[axis]
    return "".join(sorted(groups, key=lambda group: lengths[group]))


def views(
    own: str, held: str, after: str, size: Callable[[Iterable[str]], int]
) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], tuple[tuple[int, ...], tuple[int, ...]]]:
    """Two tensors with the axes of their product, those that one lacks of size one.

    Args:
        own: The axes of one.
        held: Those of the other.
        after: Those of the product.
        size: The product of the sizes of axes.

    Returns:
        Of each: the shape to which it is viewed, and the order in which the axes of that are taken.
    """
    *terms, whole = joined([own, held, after])
    found = []
    for term in terms:
        lacking = iter(range(len(term), len(whole)))
        turn = tuple([term.index(group) if group in term else next(lacking) for group in whole])
        found.append(((*map(size, term), *[1] * (len(whole) - len(term))), turn))
    return found[0], found[1]
