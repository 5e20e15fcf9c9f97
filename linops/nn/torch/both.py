"""Products of a layer's operator before and after a step, both at once: what `difference_norm` takes, on bare tensors.

An operator whose tensors act on an operand one by one is a network (`linops.plan.network`): tensor t has axes of blocks
b, which it shares with the operand x and leaves, rows r, which are its own, and columns c, which are summed over, and
the operand has further axes o,

    y[b, r, o] = Σ_c t[b, r, c] x[b, c, o].

Two operators of one structure, A(W) and A(W + h D), are one network with an axis 2 of all tensors: they share x, which
does not have it, and it is an axis of rows of the first tensor and one of blocks of all others. So A(W) x and
A(W + h D) x are one product of twice the blocks a tensor, and their difference is that of the halves of the result. The
adjoints are the same tensors with rows and columns exchanged, from the last to the first,

    x[b, c, o] = Σ_r conj(t[b, r, c]) y[b, r, o].

A `Program` has the views of each step, found once for a structure; so a measurement is one pass over the tensors each
way, in calls of torch alone. Blocks of a few numbers, as of butterflies, are multiplied as sums of elementwise
products, with the vectors outermost (2048 blocks of 2×2 with four vectors take 17 µs so, and 150 µs by `torch.bmm`);
all others by `torch.bmm`, with the vectors innermost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from linops.kernels.chain import Acting, offsets, steps_of
from linops.nn.renormalizing import VECTORS
from linops.operators.chained import network_of
from linops.structure import Structure

#: the axes of vectors and of both operators, which are no letters
OPERANDS, BOTH = "*", "2"
#: numbers of a block up to which its product is a sum of elementwise ones
FEW = 16

Sizes = tuple[int, ...]


class View(NamedTuple):
    """How an array that lies without gaps is seen.

    Attributes:
        size: Of the view.
        stride: Likewise.
        shape: To which the view is copied where no view has it, else None.
    """

    size: Sizes
    stride: Sizes
    shape: Sizes | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """The array as it is seen."""
        seen = x.as_strided(self.size, self.stride)
        return seen if self.shape is None else seen.reshape(self.shape)


class Slices(NamedTuple):
    """How slices of an array that lies without gaps are seen, and where each starts."""

    size: Sizes
    stride: Sizes
    starts: Sizes


class Batched(NamedTuple):
    """A product of blocks: how the tensors of both operators, and the operand, are seen."""

    pair: View
    operand: View

    def __call__(self, pair: Tensor, x: Tensor) -> Tensor:
        """The product, without gaps."""
        return torch.bmm(self.pair(pair), self.operand(x))


class Elementwise(NamedTuple):
    """A sum of elementwise products: slices of the tensors of both operators, how the operand lies, and its slices."""

    pair: Slices
    laid: View
    operand: Slices

    def __call__(self, pair: Tensor, x: Tensor) -> Tensor:
        """The product, without gaps."""
        if self.laid.shape is not None:
            x = self.laid(x)
        size, stride, starts = self.pair
        found = x.new_empty(size)
        for start, other in zip(starts, self.operand.starts):
            factors = pair.as_strided(size, stride, start), x.as_strided(size, self.operand.stride, other)
            if start == starts[0]:
                torch.mul(*factors, out=found)
            else:
                found.addcmul_(*factors)
        return found


class Factor(NamedTuple):
    """One tensor of a program.

    Attributes:
        leaf: Which leaf of the structure it is.
        count: How many numbers both have.
        laid: How a leaf is seen.
        halves: How the tensors of both operators are, and where each starts.
        forward: The product.
        back: That of the adjoint.
    """

    leaf: int
    count: int
    laid: View
    halves: Slices
    forward: Batched | Elementwise
    back: Batched | Elementwise


class Program(NamedTuple):
    """The difference of two operators of one structure, and of their adjoints, as steps with bare tensors.

    Attributes:
        factors: In the order in which they act.
        shapes: Of the leaves.
        is_turned: Whether the first takes vectors (k, n).
        there: How the results of both operators are seen.
        others: The axes of their difference but that of vectors.
        back: As `there`, of the adjoints.
        home: How their difference is seen as (n, k).
    """

    factors: tuple[Factor, ...]
    shapes: tuple[Sizes, ...]
    is_turned: bool
    there: Slices
    others: Sizes
    back: Slices
    home: View

    def takes(self, leaves: Sequence[Any]) -> bool:
        """Whether leaves are plain tensors of its shapes, of one dtype and on one device."""
        first = leaves[0]
        return not torch.compiler.is_compiling() and all(
            type(leaf) is Tensor and leaf.shape == shape and leaf.dtype == first.dtype and leaf.device == first.device
            for leaf, shape in zip(leaves, self.shapes)
        )

    def pairs(self, leaves: Sequence[Tensor], moves: Sequence[tuple[Tensor, float] | None]) -> list[Tensor]:
        """The tensors of both operators.

        Args:
            leaves: Before the step, all of one dtype.
            moves: Of each leaf what is added to it, and how many times; None of one that stays.

        Returns:
            A tensor a factor.
        """
        found = []
        for factor in self.factors:
            pair = leaves[0].new_empty(factor.count)
            size, stride, starts = factor.halves
            before, after = (pair.as_strided(size, stride, start) for start in starts)
            leaf, move = factor.laid(leaves[factor.leaf].contiguous()), moves[factor.leaf]
            before.copy_(leaf)
            if move is None:
                after.copy_(leaf)
            else:
                torch.add(leaf, factor.laid(move[0].contiguous()), alpha=move[1], out=after)
            found.append(pair)
        return found

    def difference(self, pairs: Sequence[Tensor], x: Tensor) -> Tensor:
        """What the operator after the step gives more than that before, A_after x − A_before x.

        Args:
            pairs: Of `pairs`.
            x: (n, k).

        Returns:
            An array of several axes.
        """
        x = (x.mT if self.is_turned else x).contiguous()
        if x.storage_offset():
            x = x.clone()
        for factor, pair in zip(self.factors, pairs):
            x = factor.forward(pair, x)
        return _difference(x, self.there)

    def adjoint_difference(self, pairs: Sequence[Tensor], y: Tensor) -> Tensor:
        """Likewise of the adjoints.

        Args:
            pairs: Of `pairs`.
            y: Of `difference`.

        Returns:
            (n, k).
        """
        for factor, pair in zip(self.factors[::-1], pairs[::-1]):
            y = factor.back(pair.conj().resolve_conj() if pair.is_complex() else pair, y)
        return self.home(_difference(y, self.back))


def _difference(x: Tensor, halves: Slices) -> Tensor:
    """What the second half is more than the first, without gaps."""
    before, after = (x.as_strided(halves.size, halves.stride, start) for start in halves.starts)
    return after - before


def program(structure: Structure) -> Program | None:
    """The program of a structure.

    Args:
        structure: The structure, which keeps it.

    Returns:
        The program; None where the operator is no network of tensors that act one by one, as a sum is none.

    Example:
        >>> import linops as lo
        >>> A = lo.low_rank(8, 4, rank=2)
        >>> U, V = (torch.randn(leaf.shape) for _, leaf in A.named_leaves())
        >>> found, x = program(A.structure), torch.eye(4)
        >>> pairs = found.pairs([U, V], [(torch.ones(8, 2), 0.5), None])
        >>> torch.allclose(found.difference(pairs, x), torch.full((8, 2), 0.5) @ V, atol=1e-6)
        True
    """
    if "both" not in structure.known:
        structure.known["both"] = _found(structure)
    return structure.known["both"]


def _found(structure: Structure) -> Program | None:
    network = network_of(structure.operator) if structure.outline is structure else None
    if network is None or not network.tensors:
        return None
    steps = steps_of([own + BOTH for own in network.tensors], network.into, network.out + BOTH)
    if steps is None:
        return None
    axes = _Axes(network.sizes, network.into)
    is_turned = not axes.is_batched(steps[0])
    held = OPERANDS + network.into if is_turned else network.into + OPERANDS
    ahead = []
    for leaf, step in zip(network.leaves, steps):
        tensor = _Tensor(axes, leaf, step, held)
        ahead.append((tensor, tensor.forward(held)))
        held = tensor.result
    there = held
    held, factors = there.replace(BOTH, ""), []
    for tensor, forward in ahead[::-1]:
        factors.append(tensor.factor(forward, tensor.back(held)))
        held = tensor.adjoint_result
    halves = axes.halves(there)
    vectors = len(axes.dims(there.replace(BOTH, "").partition(OPERANDS)[0], there)[0])
    return Program(
        tuple(factors[::-1]),
        tuple([tuple(leaf.shape) for _, leaf in structure.operator.named_leaves()]),
        is_turned,
        halves,
        tuple([axis for axis in range(len(halves.size)) if axis != vectors]),
        axes.halves(held),
        axes.view(held.replace(BOTH, ""), [network.into, OPERANDS]),
    )


class _Axes:
    """The axes of a network, of vectors and of both operators, and how arrays of them are seen.

    An array without gaps is its axes, slowest first. An axis that it has not is one along which it is the same.
    """

    def __init__(self, sizes: Mapping[str, int], into: str) -> None:
        self.sizes = {**sizes, BOTH: 2}
        self.sizes[OPERANDS] = min(self.count(into), VECTORS)

    def count(self, axes: str) -> int:
        return prod([self.sizes[axis] for axis in axes])

    def is_batched(self, step: Acting) -> bool:
        _, rows, columns, _ = step.groups
        return self.count(rows.replace(BOTH, "") + columns) > FEW

    def dims(self, order: str, *held: str) -> tuple[Sizes, ...]:
        """Sizes of an order of axes and their strides in arrays; axes that are one in all are one, but for vectors."""
        found: list[list[int]] = []
        last = ""
        for axis in order:
            size = self.sizes[axis]
            strides = [self.stride(axis, one) for one in held]
            is_one = found and all(before == size * stride for before, stride in zip(found[-1][1:], strides))
            if is_one and OPERANDS not in (axis, last):
                size *= found.pop()[0]
            found.append([size, *strides])
            last = axis
        return tuple(zip(*found)) or ((),) * (1 + len(held))

    def stride(self, axis: str, held: str) -> int:
        return self.count(held.partition(axis)[2]) if axis in held else 0

    def view(self, held: str, groups: Sequence[str]) -> View:
        """A view with an axis for each group."""
        found = [self.dims(group, held) for group in groups]
        if all(len(size) <= 1 for size, _ in found):
            return View(*(tuple([(part or (1,))[0] for part in parts]) for parts in zip(*found)))
        size, stride = (sum(parts, ()) for parts in zip(*found))
        return View(size, stride, tuple(map(self.count, groups)))

    def halves(self, held: str) -> Slices:
        size, stride = self.dims(held.replace(BOTH, ""), held)
        return Slices(size, stride, offsets(BOTH, held, self.sizes))


class _Tensor:
    """A tensor, and how its operand is seen: in the order `lead`, columns, `tail`, in which rows replace the columns.

    For batched products `lead` is the blocks, for elementwise ones what is slower than the columns. Operands of the
    first tensor have no axis of both, and their products get it behind `lead`.
    """

    def __init__(self, axes: _Axes, leaf: int, step: Acting, held: str) -> None:
        blocks, rows, self.columns, _ = step.groups
        self.axes, self.leaf, self.own = axes, leaf, step.own.replace(BOTH, "")
        self.rows, both = rows.replace(BOTH, ""), BOTH if BOTH in rows else ""
        others = held.replace(OPERANDS, "")
        self.is_batched = axes.is_batched(step)
        if self.is_batched:
            self.lead = "".join([axis for axis in others if axis in blocks])
            self.tail = "".join([axis for axis in others if axis not in step.own]) + OPERANDS
        else:
            before, found, after = others.partition(self.columns) if self.columns else ("", "", others)
            if not found and self.columns:
                before, after = "", "".join([axis for axis in others if axis not in self.columns])
            if axes.count(before) > axes.count(after):  # a copy, so that what lies side by side is long
                before, after = "", after + before
            self.lead, self.tail = OPERANDS + before, after
        self.every = self.lead + both
        self.result = self.every + self.rows + self.tail
        self.adjoint_result = self.every + self.columns + self.tail
        if self.is_batched:
            self.stored = self.every + self.rows + self.columns
        else:
            self.stored = self.rows + self.columns + "".join([one for one in self.every + self.tail if one in step.own])

    def forward(self, held: str) -> Batched | Elementwise:
        """How an operand is multiplied, as it lies."""
        if not self.is_batched:
            return self._elementwise(held, self.lead + self.columns + self.tail, self.result, self.columns)
        both = self.every.removeprefix(self.lead)
        pair = self.axes.view(self.stored, [self.lead, both + self.rows, self.columns])
        return Batched(pair, self.axes.view(held, [self.lead, self.columns, self.tail]))

    def back(self, held: str) -> Batched | Elementwise:
        """How an operand of the adjoint is."""
        if not self.is_batched:
            return self._elementwise(held, self.result, self.adjoint_result, self.rows)
        pair = self.axes.view(self.stored, [self.every, self.columns, self.rows])
        return Batched(pair, self.axes.view(held, [self.every, self.rows, self.tail]))

    def _elementwise(self, held: str, wanted: str, result: str, summed: str) -> Elementwise:
        axes, wanted = self.axes, "".join([axis for axis in wanted if axis in held])
        laid = View(*axes.dims(wanted, held), None if held == wanted else (axes.count(wanted),))
        size, stride, other = axes.dims(result, self.stored, wanted)
        return Elementwise(
            Slices(size, stride, offsets(summed, self.stored, axes.sizes)),
            laid,
            Slices(size, other, offsets(summed, wanted, axes.sizes)),
        )

    def factor(self, forward: Batched | Elementwise, back: Batched | Elementwise) -> Factor:
        """What runs."""
        size, of_leaf, of_pair = self.axes.dims(self.stored.replace(BOTH, ""), self.own, self.stored)
        halves = Slices(size, of_pair, offsets(BOTH, self.stored, self.axes.sizes))
        return Factor(self.leaf, self.axes.count(self.stored), View(size, of_leaf), halves, forward, back)
