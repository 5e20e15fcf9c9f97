"""Expressions as of `numpy.einsum`: the axes of their tensors, and the cheapest order in which they act."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache

from linops.plan.contraction import Program, actions, constant, one_by_one, program, sizes_of

#: up to how many tensors all orders are compared
COMPARED = 8


@constant
def terms(expression: str) -> tuple[tuple[str, ...], str, str]:
    """The axes of the tensors, of the operand and of the result of an expression such as ``"ab,b->a"``.

    Args:
        expression: As for `numpy.einsum`, with the operand last; axes may be any letters.

    Returns:
        (axes of each tensor, axes of the operand, axes of the result).

    Raises:
        ValueError: If the expression is no such thing, or an axis is in one term alone.
    """
    inputs, arrow, out = expression.partition("->")
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


def sizer(
    expression: str, in_dims: tuple[int, ...], shapes: Iterable[tuple[int, ...]]
) -> Callable[[Iterable[str]], int]:
    """A function from axes to the product of their sizes.

    Args:
        expression: The expression; see `terms`.
        in_dims: The sizes of the operand's axes; none, if every axis is one of a tensor.
        shapes: Of the tensors.

    Returns:
        The function.
    """
    tensors, into, _ = terms(expression)
    sizes = dict(zip(into, in_dims))
    for axes, shape in zip(tensors, shapes):
        sizes.update(zip(axes, shape))
    return sizes_of(sizes)


def cheapest_order(expression: str, in_dims: tuple[int, ...], shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
    """The order of fewest MACs in which tensors act on the operand; of more than eight, the last acts first.

    Args:
        expression: The expression; see `terms`.
        in_dims: The sizes of the operand's axes; none, if every axis is one of a tensor.
        shapes: Of the tensors.

    Returns:
        Positions of tensors, the one that acts first first.
    """
    tensors, into, out = terms(expression)
    backwards = tuple(range(len(tensors) - 1, -1, -1))
    if len(tensors) == 1 or len(tensors) > COMPARED:
        return backwards
    size, everything = sizer(expression, in_dims, shapes), "".join(dict.fromkeys("".join([*tensors, into])))
    # of those that have acted, sorted: MACs and order
    best: dict[tuple[int, ...], tuple[int, tuple[int, ...]]] = {(): (0, ())}
    for _ in tensors:
        longer: dict[tuple[int, ...], tuple[int, tuple[int, ...]]] = {}
        for done, (macs, order) in best.items():
            waiting = [position for position in backwards if position not in done]
            wanted, seen = out + "".join([tensors[it] for it in waiting]), into + "".join([tensors[it] for it in done])
            for position in waiting:
                own = tensors[position]
                cost = macs + size([axis for axis in everything if axis in own or (axis in wanted and axis in seen)])
                now = tuple(sorted((*done, position)))
                if now not in longer or cost < longer[now][0]:
                    longer[now] = (cost, (*order, position))
        best = longer
    return best[tuple(range(len(tensors)))][1]


def einsum_program(
    expression: str, order: tuple[int, ...], in_dims: tuple[int, ...], shapes: tuple[tuple[int, ...], ...]
) -> Program:
    """What an einsum runs, each tensor acting on the operand.

    Args:
        expression: The expression; see `terms`.
        order: Positions of tensors, the one that acts first first.
        in_dims: The sizes of the operand's axes; none, if every axis is one of a tensor.
        shapes: Of the tensors.

    Returns:
        The program.
    """
    tensors, into, out = terms(expression)
    return program(actions(tensors, into, out, one_by_one(order)), into, out, sizer(expression, in_dims, shapes))


#: of constants; torch.compile does not look into caches, and its sizes may be symbols
cached_order: Callable[..., tuple[int, ...]] = lru_cache(maxsize=4096)(cheapest_order)
cached_program: Callable[..., Program] = lru_cache(maxsize=4096)(einsum_program)
