"""Einsum expressions lowered to matrix products: tensors act on an operand one after the other, each in one batched product.

Nothing here depends on the number of vectors, which are one more axis of the operand, innermost in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, wraps
from math import prod
from typing import Any, NamedTuple

from linops.plan.step import Step, matmul_step

#: up to how many tensors all orders are compared
COMPARED = 8


def constant(function: Callable[..., Any]) -> Any:
    """A function of hashable constants, cached; torch.compile takes its results as constants too, for it would not look into the cache."""
    cached = lru_cache(maxsize=4096)(function)

    @wraps(function)
    def call(*arguments: Any) -> Any:
        return cached(*arguments)

    setattr(call, "_dynamo_marked_constant", True)  # as torch.compiler.assume_constant_result does, but torch need not be there
    return call


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


def sizer(expression: str, in_dims: tuple[int, ...], shapes: Iterable[tuple[int, ...]]) -> Callable[[Iterable[str]], int]:
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
    return lambda axes: prod([sizes[axis] for axis in axes])


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
    best: dict[tuple[int, ...], tuple[int, tuple[int, ...]]] = {(): (0, ())}  # of those that have acted, sorted: MACs and order
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


class Action(NamedTuple):
    """How one tensor acts on the operand, by names of axes.

    Attributes:
        tensor: Its position.
        kind: ``"bmm"``: blocks × (rows, columns) @ (columns, rest). ``"shared"``: (rows, columns) @ left × (columns, rest).
            ``"matmul"``: (rows, columns) @ (columns, rest). ``"scale"``: nothing is summed over, so the tensor multiplies elementwise.
        blocks: Axes of both that stay.
        rows: Axes of the tensor alone.
        columns: Axes of both that are summed over.
        left: Axes of the operand alone that are left of `columns` in memory, for ``"shared"``.
        rest: The other axes of the operand alone.
        turn: The order in which the tensor's axes are taken, or None where it stays.
        lies: Whether the tensor, turned and its axes joined, is a view.
        split: Groups of axes to which the operand is reshaped; the vectors join the last.
        order: The order of the groups, or None where it stays.
        merged: Whether the operand, reordered, is copied to join its axes.
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

    def kernel(self, size: Callable[[Iterable[str]], int]) -> tuple[Any, ...]:
        """What runs, in numbers: (tensor, kind, turn, shape of the turned tensor, split, order, merged), sizes without vectors.

        Args:
            size: The product of the sizes of axes.

        Returns:
            The fields of that name with sizes; `merged` is None where nothing is copied.
        """
        blocks, rows, columns = size(self.blocks), size(self.rows), size(self.columns)
        shape, merged = (rows, columns), (columns, size(self.rest))
        if self.kind == "bmm":
            shape, merged = (blocks, *shape), (blocks, *merged)
        elif self.kind == "scale":
            shape = (*map(size, self.rows), *[size(axis) if axis in self.blocks else 1 for axis in self.split[:-1]], 1)
        split = tuple([size(group) for group in self.split])
        return self.tensor, self.kind, self.turn, shape, split, self.order, merged if self.merged else None

    def steps(self, size: Callable[[Iterable[str]], int], batch: int) -> Iterator[Step]:
        """What runs, and what it costs.

        Args:
            size: The product of the sizes of axes.
            batch: Number of vectors.

        Yields:
            Copies and views, then the product.
        """
        blocks, rows, columns, rest = size(self.blocks), size(self.rows), size(self.columns), size(self.rest) * batch
        own, operand = blocks * rows * columns, size("".join(self.split))
        if not self.lies:
            yield Step("copy", f"axes of tensors[{self.tensor}]", weights=own, outputs=own)
        if self.order:
            moved = operand * batch if self.merged else 0
            yield Step("copy" if moved else "view", f"axes for tensors[{self.tensor}]", inputs=moved, outputs=moved)
        if self.kind == "scale":
            whole = rows * operand * batch
            detail = f"({own}) · ({operand}, {batch})"
            yield Step("scale", detail, other_flops=whole, inputs=operand * batch, weights=own, outputs=whole)
        elif self.kind == "shared":
            yield matmul_step(size(self.left), rows, columns, rest, weights=own)
        else:
            yield matmul_step(blocks, rows, columns, rest)


@constant
def actions(expression: str, order: tuple[int, ...]) -> tuple[Action, ...]:
    """How the tensors of an expression act on its operand in an order.

    Args:
        expression: The expression; see `terms`.
        order: Positions of tensors, the one that acts first first.

    Returns:
        The actions.
    """
    tensors, held, out = terms(expression)
    found = []
    for place, position in enumerate(order):
        wanted = out + "".join([tensors[later] for later in order[place + 1 :]])
        found.append(_action(position, tensors[position], held, wanted))
        held = found[-1].after
    return tuple(found)


class Program(NamedTuple):
    """What an einsum runs, in numbers.

    Attributes:
        shape: (m, n).
        kernels: `Action.kernel` of every tensor in the order in which they act.
        dims: The axes of the result as the last kernel leaves them, without vectors.
        turn: Their order, the vectors' axis last, or None where it stays.
    """

    shape: tuple[int, int]
    kernels: tuple[tuple[Any, ...], ...]
    dims: tuple[int, ...]
    turn: tuple[int, ...] | None


def program(expression: str, order: tuple[int, ...], in_dims: tuple[int, ...], shapes: tuple[tuple[int, ...], ...]) -> Program:
    """What an einsum runs.

    Args:
        expression: The expression; see `terms`.
        order: Positions of tensors, the one that acts first first.
        in_dims: The sizes of the operand's axes; none, if every axis is one of a tensor.
        shapes: Of the tensors.

    Returns:
        The program.
    """
    size = sizer(expression, in_dims, shapes)
    _, into, out = terms(expression)
    found = actions(expression, order)
    held = found[-1].after
    turn = None if held == out else (*[held.index(axis) for axis in out], len(out))
    dims = tuple([size(axis) for axis in held]) if turn else (size(out),)
    return Program((size(out), size(into)), tuple([action.kernel(size) for action in found]), dims, turn)


#: of constants; torch.compile does not look into caches, and its sizes may be symbols
cached_order, cached_program = lru_cache(maxsize=4096)(cheapest_order), lru_cache(maxsize=4096)(program)


def _action(position: int, own: str, held: str, wanted: str) -> Action:
    """How a tensor with axes `own` acts on an operand that lies in memory as `held`, if `wanted` is needed afterwards."""
    blocks = "".join([axis for axis in held if axis in own and axis in wanted])
    columns = "".join([axis for axis in held if axis in own and axis not in wanted])
    rows = "".join([axis for axis in own if axis not in held])
    rest = "".join([axis for axis in held if axis not in own])
    left, order, merged = "", None, False
    if not columns:
        kind, split, after = "scale", (*held, ""), rows + held
    elif not blocks and columns in held:
        left, _, rest = held.partition(columns)
        kind, split, after = ("shared", (left, columns, rest), left + rows + rest) if left else ("matmul", (columns, rest), rows + rest)
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
    joined = all(group in own for group in (blocks, rows, columns))
    lies = kind == "scale" or (joined and not (blocks and own.endswith(blocks)))  # no product reads blocks that lie innermost
    moved = turn if turn != tuple(range(len(turn))) else None
    return Action(position, kind, blocks, rows, columns, left, rest, moved, lies, split, order, merged, after)
