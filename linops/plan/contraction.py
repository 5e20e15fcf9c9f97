"""Contractions of tensors over named axes as matrix products: each step multiplies two of them in one batched product.

One of the tensors is the operand of a product with an operator; the vectors are one more axis of it, innermost in
memory. Nothing here depends on their number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import lru_cache, wraps
from math import prod
from typing import Any, NamedTuple

from linops.plan.network import joined
from linops.plan.outer import layout, views
from linops.plan.step import Step, copy_step, matmul_step
from linops.tracing import assume_constant_result

#: the place of the operand among the tensors
OPERAND = -1

#: numbers of an innermost axis up to which a copy to another order goes number by number
SHORT = 16

#: pairs (tensor, onto): each tensor in turn acts on another, or on the operand, and is then gone
Path = tuple[tuple[int, int], ...]


def constant(function: Callable[..., Any]) -> Any:
    """A function of hashable constants, cached; torch.compile, which ignores caches, takes its results as constants."""
    cached = lru_cache(maxsize=4096)(function)

    @assume_constant_result
    @wraps(function)
    def call(*arguments: Any) -> Any:
        return cached(*arguments)

    return call


class Action(NamedTuple):
    """How one tensor acts on another or on the operand, by names of axes.

    Attributes:
        tensor: Its position.
        onto: The position of what it acts on.
        own: Its axes as it lies in memory.
        kind: ``"bmm"``: blocks × (rows, columns) @ (columns, rest). ``"shared"``: (rows, columns) @ left × (columns,
            rest). ``"matmul"``: (rows, columns) @ (columns, rest). ``"scale"``: nothing is summed over, so the tensor
            multiplies the operand elementwise. ``"outer"``: the same of another tensor (`linops.plan.outer`).
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
    onto: int
    own: str
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

    def kernel(self, size: Callable[[Iterable[str]], int]) -> Kernel:
        """What runs, in numbers: sizes without vectors.

        Args:
            size: The product of the sizes of axes.

        Returns:
            The kernel.
        """
        if self.kind == "outer":
            (dims, turn), (split, order) = views((self.own, "".join(self.split)), self.after, size)
            shape = tuple([dims[place] for place in turn]) if turn else dims
            return Kernel(self.tensor, self.onto, self.kind, dims, turn, shape, split, order, None)
        blocks, rows, columns = size(self.blocks), size(self.rows), size(self.columns)
        shape, merged = (rows, columns), (columns, size(self.rest))
        if self.kind == "bmm":
            shape, merged = (blocks, *shape), (blocks, *merged)
        elif self.kind == "scale":
            shape = (*map(size, self.rows), *[size(axis) if axis in self.blocks else 1 for axis in self.split[:-1]], 1)
        split = tuple([size(group) for group in self.split])
        dims, turn = tuple([size(axis) for axis in self.own]), self.turn
        if turn:  # as few axes as there are
            scales = self.kind == "scale"
            groups = (self.rows, self.blocks) if scales else (self.blocks, self.rows, self.columns)
            runs, *turned = joined((self.own, *groups))
            dims, turn = tuple(map(size, runs)), tuple([runs.index(run) for group in turned for run in group])
        return Kernel(
            self.tensor,
            self.onto,
            self.kind,
            dims,
            turn,
            shape,
            split,
            self.order,
            merged if self.merged else None,
            not self.lies,
        )

    def steps(self, size: Callable[[Iterable[str]], int], batch: int) -> Iterator[Step]:
        """What runs, and what it costs.

        Args:
            size: The product of the sizes of axes.
            batch: Number of vectors.

        Returns:
            Copies and views, then the product.
        """
        found = self._steps(size, batch)
        return found if self.onto == OPERAND else (replace(step, merges=True) for step in found)

    def _steps(self, size: Callable[[Iterable[str]], int], batch: int) -> Iterator[Step]:
        blocks, rows, columns = size(self.blocks), size(self.rows), size(self.columns)
        count = batch if self.onto == OPERAND else 1
        rest, own, features = size(self.rest) * count, blocks * rows * columns, size("".join(self.split))
        operand = features * count
        if not self.lies:
            # of a tensor that several of short axes were multiplied to, as slow as they were
            is_short = min(size(self.own[-1:]), size(self.own[(self.turn or (-1,))[-1]])) < SHORT
            yield replace(copy_step(f"axes of tensors[{self.tensor}]", weights=own), merges=is_short)
        if self.order:
            detail = f"axes for tensors[{self.tensor}]"
            yield copy_step(detail, inputs=operand) if self.merged else Step("view", detail, viewed=operand)
        if self.kind in ("scale", "outer"):
            whole = rows * operand
            detail = f"({own}) · ({features}, {count})"
            yield Step("scale", detail, other_flops=whole, inputs=operand, weights=own, outputs=whole)
        elif self.kind == "shared":
            yield matmul_step(size(self.left), rows, columns, rest, weights=own)
        else:
            yield matmul_step(blocks, rows, columns, rest)


class Kernel(NamedTuple):
    """What an action runs, in numbers; see `Action`.

    Attributes:
        tensor: Its position.
        onto: The position of what it acts on.
        kind: The kernel.
        dims: The sizes of the tensor's axes.
        turn: Their order, or None.
        shape: Of the turned tensor, its axes joined.
        split: The shape of the operand, without vectors.
        order: The order of its groups, or None.
        merged: The shape to which it is then copied, or None.
        copies: Whether the turned tensor is copied, as no product reads it as it lies.
    """

    tensor: int
    onto: int
    kind: str
    dims: tuple[int, ...]
    turn: tuple[int, ...] | None
    shape: tuple[int, ...]
    split: tuple[int, ...]
    order: tuple[int, ...] | None
    merged: tuple[int, ...] | None
    copies: bool = False


class Program(NamedTuple):
    """What a product runs, in numbers.

    Attributes:
        shape: (m, n).
        kernels: Kernels in the order in which they run.
        dims: The axes of the result as the last kernel leaves them, without vectors.
        turn: Their order, the vectors' axis last, or None where it stays.
    """

    shape: tuple[int, int]
    kernels: tuple[Kernel, ...]
    dims: tuple[int, ...]
    turn: tuple[int, ...] | None


@constant
def actions(
    tensors: tuple[str, ...], into: str, out: str, path: Path, sizes: tuple[tuple[str, int], ...] = ()
) -> tuple[Action, ...]:
    """How the tensors act on each other and on the operand along a path.

    Args:
        tensors: The axes of each tensor.
        into: The axes of the operand.
        out: The axes of the result.
        path: The path.
        sizes: The size of each axis; needed where tensors act on each other.

    Returns:
        The actions.
    """
    held = {OPERAND: into, **dict(enumerate(tensors))}
    found, size = [], sizes_of(dict(sizes))
    goals: dict[int, str] = {}
    for place, (tensor, onto) in enumerate(path):
        if onto != OPERAND and onto not in goals:
            group = _merging(path[place:], onto)
            others = "".join([axes for position, axes in held.items() if position not in (OPERAND, *group)])
            terms = [tensors[member] for member in group]
            goal = layout(terms, held[OPERAND], out + others, out + into + "".join(tensors), size)
            goals |= dict.fromkeys(group, goal)
        own = held.pop(tensor)
        wanted = out + "".join([axes for position, axes in held.items() if position != onto])
        found.append(_action(tensor, onto, own, held[onto], wanted, goals.get(tensor, "")))
        held[onto] = found[-1].after
    return tuple(found)


def _merging(path: Path, member: int) -> list[int]:
    """The tensors that are multiplied with each other, this one among them, before one of them acts on the operand."""
    groups: dict[int, list[int]] = {}
    for tensor, onto in path:
        group = groups.pop(tensor, [tensor])
        if onto == OPERAND:
            if member in group:
                return group
        else:
            groups.setdefault(onto, [onto]).extend(group)
    return groups[member]


def program(found: tuple[Action, ...], into: str, out: str, size: Callable[[Iterable[str]], int]) -> Program:
    """What a product runs.

    Args:
        found: The actions, the last of which is one on the operand.
        into: The axes of the operand.
        out: The axes of the result.
        size: The product of the sizes of axes.

    Returns:
        The program.
    """
    held = found[-1].after
    turn = None if held == out else (*[held.index(axis) for axis in out], len(out))
    dims = tuple([size(axis) for axis in held]) if turn else (size(out),)
    return Program((size(out), size(into)), tuple([action.kernel(size) for action in found]), dims, turn)


def one_by_one(order: Iterable[int]) -> Path:
    """The path on which each tensor acts on the operand.

    Args:
        order: Positions of tensors, the one that acts first first.

    Returns:
        The path.
    """
    return tuple([(tensor, OPERAND) for tensor in order])


def sizes_of(sizes: dict[str, int]) -> Callable[[Iterable[str]], int]:
    """A function from axes to the product of their sizes.

    Args:
        sizes: The size of each axis.

    Returns:
        The function.
    """
    return lambda axes: prod([sizes[axis] for axis in axes])


def _action(position: int, onto: int, own: str, held: str, wanted: str, goal: str = "") -> Action:
    """How a tensor with axes `own` acts on what lies in memory as `held`, if `wanted` is needed afterwards.

    If both are tensors, `goal` is how their product with others is to lie.
    """
    blocks = "".join([axis for axis in held if axis in own and axis in wanted])
    columns = "".join([axis for axis in held if axis in own and axis not in wanted])
    rows = "".join([axis for axis in own if axis not in held])
    rest = "".join([axis for axis in held if axis not in own])
    left, order, merged = "", None, False
    if not columns and onto != OPERAND:
        after = "".join([axis for axis in goal if axis in own or axis in held])
        return Action(position, onto, own, "outer", blocks, rows, "", "", rest, None, True, (held,), None, False, after)
    if not columns:
        kind, split, after = "scale", (*held, ""), rows + held
    elif not blocks and columns in held:
        left, _, rest = held.partition(columns)
        kind, split, after = (
            ("shared", (left, columns, rest), left + rows + rest) if left else ("matmul", (columns, rest), rows + rest)
        )
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
    # no product reads blocks that lie innermost
    lies = kind == "scale" or (joined and not (blocks and own.endswith(blocks)))
    if not lies and onto == OPERAND:  # it is copied, so in the order in which its rows are wanted
        ordered = "".join(sorted(rows, key=wanted.find))
        rows, after = ordered, after.replace(rows, ordered)
        turn = tuple([own.index(axis) for axis in blocks + rows + columns])
    moved = turn if turn != tuple(range(len(turn))) else None
    return Action(
        position, onto, own, kind, blocks, rows, columns, left, rest, moved, lies, split, order, merged, after
    )
