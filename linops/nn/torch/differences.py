"""The difference that a step makes to a layer's operator, on bare tensors: as `difference_norm` takes it, in few calls.

An operator whose tensors act on an operand one by one is a network (`linops.plan.network`): tensor t has axes of blocks
b, which it shares with the operand x and leaves, rows r, which are its own, and columns c, which are summed over, and
the operand has further axes o,

    y[b, r, o] = (t x)[b, r, o] = Σ_c t[b, r, c] x[b, c, o].

The adjoint is the same tensors with rows and columns exchanged and conjugated, from the last to the first. A step adds
h D to each t, with h of `linops.nn.renormalizing.STEP`. There are two ways to the quotient of the difference that this
makes to the product, Δ x = (A(t + h D) x − A(t) x) / h, which are the same but for rounding:

* `Blocks`: with u what the operator gives before the step, and δ the quotient of what it gives more after it,

      δ ← t δ + D (u + h δ),    u ← t u,    from  u = x, δ = 0.

  These are batched products of views of leaves and directions, and nothing is subtracted.
* `Pairs`, where all blocks have few numbers, as those of butterflies: both operators are one network, with an axis 2 of
  all tensors. x does not have it; it is an axis of rows of the first tensor, and one of blocks of all others. Products
  are sums of elementwise ones, with the vectors outermost: 2048 blocks of 2×2 with four vectors take 17 µs so, and 150
  µs by `torch.bmm`.

How arrays are seen is found once for a structure, so a measurement takes one pass over the tensors each way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from linops.kernels.chain import Acting, offsets, steps_of
from linops.nn.renormalizing import STEP, VECTORS
from linops.operators.chained import network_of
from linops.plan.network import Network
from linops.structure import Structure

#: the axes of vectors and of both operators, which are no letters
OPERANDS, BOTH = "*", "2"
#: numbers of a block up to which its product is a sum of elementwise ones
FEW = 16

Sizes = tuple[int, ...]
Product = Callable[[Tensor], Tensor]
#: of a leaf its direction and rate; None where it stays
Move = tuple[Tensor, float] | None


class Program(Protocol):
    """What gives Δ of leaves and their moves.

    Attributes:
        others: The axes of Δ x but that of vectors.
    """

    others: Sizes

    def products(self, leaves: Sequence[Tensor], moves: Sequence[Move]) -> tuple[Product, Product]:
        """Δ x and Δᴴ y.

        Args:
            leaves: Before the step, plain tensors of one dtype on one device.
            moves: Of each leaf.

        Returns:
            Functions from (n, k) to an array of several axes, and from such ones to (n, k).
        """
        ...


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


class Block(NamedTuple):
    """A tensor of `Blocks`.

    Attributes:
        leaf: Which leaf of the structure it is.
        matrices: How it is seen, and how in the adjoint.
        operand: Likewise its operand.
    """

    leaf: int
    matrices: tuple[View, View]
    operand: tuple[View, View]


class Blocks(NamedTuple):
    """Δ by batched products.

    Attributes:
        blocks: The tensors in the order in which they act.
        there: The shape of Δ x, of which the second axis is that of vectors.
        home: How Δᴴ y is seen as (n, k).
    """

    blocks: tuple[Block, ...]
    there: Sizes
    home: View

    @property
    def others(self) -> Sizes:
        """As of `Program`."""
        return 0, 2

    def products(self, leaves: Sequence[Tensor], moves: Sequence[Move]) -> tuple[Product, Product]:
        """As of `Program`."""
        leaves = [leaf.contiguous() for leaf in leaves]
        moves = [move and (move[0].contiguous(), move[1]) for move in moves]

        def adjoint(y: Tensor) -> Tensor:
            return self.home(self._passed(leaves, moves, y, 1))

        def forward(x: Tensor) -> Tensor:
            return self._passed(leaves, moves, x.mT.contiguous(), 0).view(self.there)

        return forward, adjoint

    def _passed(self, leaves: Sequence[Tensor], moves: Sequence[Move], x: Tensor, way: int) -> Tensor:
        """One pass over the tensors; the way is 0, or 1 for the adjoint."""
        blocks = self.blocks[::-1] if way else self.blocks
        more: Any = None
        for block in blocks:
            matrices, operand = block.matrices[way], block.operand[way]
            tensor, move = _seen(matrices, leaves[block.leaf], way), moves[block.leaf]
            found = None if more is None else torch.bmm(tensor, operand(more))
            if move is not None:
                after = operand(x if more is None else torch.add(x, more, alpha=STEP))
                direction = _seen(matrices, move[0], way)
                if found is None:
                    found = torch.bmm(direction, after).mul_(move[1])
                else:
                    found.baddbmm_(direction, after, alpha=move[1])
            if block is not blocks[-1]:
                x = torch.bmm(tensor, operand(x))
            more = found
        return more


def _seen(matrices: View, leaf: Tensor, way: int) -> Tensor:
    seen = matrices(leaf)
    return seen.conj() if way and seen.is_complex() else seen


class Slices(NamedTuple):
    """How slices of an array that lies without gaps are seen, and where each starts."""

    size: Sizes
    stride: Sizes
    starts: Sizes

    def __call__(self, x: Tensor) -> list[Tensor]:
        """The slices of an array that starts where its storage does."""
        return [x.as_strided(self.size, self.stride, start) for start in self.starts]


class Sum(NamedTuple):
    """A sum of elementwise products: slices of a tensor, how the operand is laid, and its slices."""

    pair: Slices
    laid: View | None
    operand: Slices

    def __call__(self, pair: Tensor, x: Tensor) -> Tensor:
        """The sum, without gaps."""
        if self.laid is not None:
            x = self.laid(x)
        found, is_first = x.new_empty(self.pair.size), True
        for one, other in zip(self.pair(pair), self.operand(x)):
            if is_first:
                torch.mul(one, other, out=found)
                is_first = False
            else:
                found.addcmul_(one, other)
        return found


class Pair(NamedTuple):
    """A tensor of both operators.

    Attributes:
        leaf: Which leaf of the structure it is.
        count: How many numbers both have.
        laid: How a leaf is seen.
        halves: How the tensors before and after the step are.
        sums: The product, and that of the adjoint.
    """

    leaf: int
    count: int
    laid: View
    halves: Slices
    sums: tuple[Sum, Sum]


class Pairs(NamedTuple):
    """Δ by elementwise products.

    Attributes:
        pairs: The tensors in the order in which they act.
        halves: How the results of both operators are seen, and of both adjoints.
        home: As of `Blocks`.
    """

    pairs: tuple[Pair, ...]
    halves: tuple[Slices, Slices]
    home: View

    @property
    def others(self) -> Sizes:
        """As of `Program`."""
        return (1,)

    def products(self, leaves: Sequence[Tensor], moves: Sequence[Move]) -> tuple[Product, Product]:
        """As of `Program`."""
        tensors = []
        for pair in self.pairs:
            both = leaves[0].new_empty(pair.count)
            before, after = pair.halves(both)
            leaf, move = pair.laid(leaves[pair.leaf].contiguous()), moves[pair.leaf]
            before.copy_(leaf)
            if move is None:
                after.copy_(leaf)
            else:
                torch.add(leaf, pair.laid(move[0].contiguous()), alpha=STEP * move[1], out=after)
            tensors.append(both)

        def adjoint(y: Tensor) -> Tensor:
            for pair, tensor in zip(self.pairs[::-1], tensors[::-1]):
                y = pair.sums[1](tensor.conj().resolve_conj() if tensor.is_complex() else tensor, y)
            return self.home(_quotient(*self.halves[1](y)))

        def forward(x: Tensor) -> Tensor:
            y = x.mT.contiguous()
            if y.storage_offset():
                y = y.clone()
            for pair, tensor in zip(self.pairs, tensors):
                y = pair.sums[0](tensor, y)
            return _quotient(*self.halves[0](y)).view(x.shape[1], -1)

        return forward, adjoint


def _quotient(before: Tensor, after: Tensor) -> Tensor:
    """The quotient of a difference, without gaps."""
    return (after - before).div_(STEP)


def program(structure: Structure, leaves: Sequence[Tensor]) -> Blocks | Pairs | None:
    """The program of a structure, if it takes these leaves.

    Args:
        structure: The structure, which keeps it.
        leaves: In the order of the structure.

    Returns:
        The program; None where the operator is no network of tensors that act one by one, as a sum is none, or leaves
        are not plain tensors of its shapes, of one dtype and on one device.

    Example:
        >>> import linops as lo
        >>> A = lo.low_rank(16, 32, rank=2)
        >>> U, V = (torch.randn(leaf.shape) for _, leaf in A.named_leaves())
        >>> apply, adjoint = program(A.structure, [U, V]).products([U, V], [(torch.ones(16, 2), 0.5), None])
        >>> x = torch.eye(32)[:, :4]  # four vectors, as it is made for
        >>> torch.allclose(apply(x).squeeze(-1), torch.full((16, 2), 0.5) @ V @ x, atol=1e-5)
        True
    """
    if torch.compiler.is_compiling():
        return None
    if "program" not in structure.known:
        structure.known["program"] = _found(structure)
    found, shapes = structure.known["program"]
    first = leaves[0]
    for leaf, shape in zip(leaves, shapes):
        if type(leaf) is not Tensor or leaf.shape != shape or leaf.dtype != first.dtype or leaf.device != first.device:
            return None
    return found


def _found(structure: Structure) -> tuple[Blocks | Pairs | None, list[Sizes]]:
    """The program, if there is one, and the shapes of leaves."""
    shapes = [tuple(leaf.shape) for _, leaf in structure.operator.named_leaves()]
    network = network_of(structure.operator) if structure.outline is structure else None
    if network is None or {*network.leaves} != {*range(len(shapes))}:
        return None, shapes
    axes = _Axes(network.sizes, network.into)
    steps = steps_of(network.tensors, network.into, network.out)
    if steps is None:
        return None, shapes
    are_few = all(axes.count(rows + columns) <= FEW for _, rows, columns, _ in [step.groups for step in steps])
    return (_pairs if are_few else _blocks)(axes, network, steps), shapes


class _Axes:
    """The axes of a network, of vectors and of both operators, and how arrays of them are seen.

    An array without gaps is its axes, slowest first. An axis that it has not is one along which it is the same.
    """

    def __init__(self, sizes: Mapping[str, int], into: str) -> None:
        self.sizes = {**sizes, BOTH: 2}
        self.sizes[OPERANDS] = min(self.count(into), VECTORS)

    def count(self, axes: str) -> int:
        return prod([self.sizes[axis] for axis in axes])

    def stride(self, axis: str, held: str) -> int:
        return self.count(held.partition(axis)[2]) if axis in held else 0

    def dims(self, order: str, *held: str) -> tuple[Sizes, ...]:
        """Sizes of axes and their strides in arrays; axes that are one in all of them are one."""
        found: list[list[int]] = []
        for axis in order:
            size, strides = self.sizes[axis], [self.stride(axis, one) for one in held]
            if found and all(before == size * stride for before, stride in zip(found[-1][1:], strides)):
                size *= found.pop()[0]
            found.append([size, *strides])
        return tuple(zip(*found)) or ((),) * (1 + len(held))

    def view(self, held: str, groups: Sequence[str]) -> View:
        """A view with an axis for each group."""
        found = [self.dims(group, held) for group in groups]
        if all(len(size) <= 1 for size, _ in found):
            return View(*(tuple([(part or (1,))[0] for part in parts]) for parts in zip(*found)))
        size, stride = (sum(parts, ()) for parts in zip(*found))
        return View(size, stride, tuple(map(self.count, groups)))

    def halves(self, held: str) -> Slices:
        """Both halves of an array."""
        size, stride = self.dims(held.replace(BOTH, ""), held)
        return Slices(size, stride, offsets(BOTH, held, self.sizes))


def _only(axes: str, among: str) -> str:
    return "".join([axis for axis in axes if axis in among])


def _without(axes: str, those: str) -> str:
    return "".join([axis for axis in axes if axis not in those])


def _blocks(axes: _Axes, network: Network, steps: Sequence[Acting]) -> Blocks:
    held, ahead = OPERANDS + network.into, []
    for leaf, step in zip(network.leaves, steps):
        blocks, rows, columns, _ = step.groups
        lead, tail = _only(step.own, blocks), _without(held, step.own)
        groups = [lead, rows, columns], [lead, columns, rows]
        views = axes.view(step.own, groups[0]), axes.view(step.own, groups[1])
        ahead.append((leaf, views, axes.view(held, [lead, columns, tail]), [lead, rows, tail], lead + columns + tail))
        held = lead + rows + tail
    there, found = held, []
    for leaf, views, operand, seen, after in ahead[::-1]:
        found.append(Block(leaf, views, (operand, axes.view(held, seen))))
        held = after
    cut = there.partition(OPERANDS)
    return Blocks(tuple(found[::-1]), tuple(map(axes.count, cut)), axes.view(held, [network.into, OPERANDS]))


def _pairs(axes: _Axes, network: Network, steps: Sequence[Acting]) -> Pairs:
    held, ahead = OPERANDS + network.into, []
    for leaf, step in zip(network.leaves, steps):
        _, rows, columns, _ = step.groups
        before, found, after = held[1:].partition(columns) if columns else ("", "", held[1:])
        if columns and not found:
            before, after = "", _without(held[1:], columns)
        if axes.count(before) > axes.count(after):  # a copy, so that what lies side by side is long
            before, after = "", after + before
        lead = OPERANDS + before
        every = lead if BOTH in held else lead + BOTH
        stored = rows + columns + _only(every + after, step.own + BOTH)
        forward = _sum(axes, held, (lead + columns + after, every + rows + after), stored, columns)
        size, of_leaf, of_pair = axes.dims(stored.replace(BOTH, ""), step.own, stored)
        halves = Slices(size, of_pair, offsets(BOTH, stored, axes.sizes))
        turn = every + rows + after, every + columns + after
        ahead.append((leaf, stored, rows, View(size, of_leaf), halves, forward, turn))
        held = turn[0]
    there, pairs = held, []
    held = there.replace(BOTH, "")
    for leaf, stored, rows, laid, halves, forward, turn in ahead[::-1]:
        pairs.append(Pair(leaf, axes.count(stored), laid, halves, (forward, _sum(axes, held, turn, stored, rows))))
        held = turn[1]
    home = axes.view(held.replace(BOTH, ""), [network.into, OPERANDS])
    return Pairs(tuple(pairs[::-1]), (axes.halves(there), axes.halves(held)), home)


def _sum(axes: _Axes, held: str, turn: tuple[str, str], stored: str, summed: str) -> Sum:
    """A sum over axes of products of a tensor that is stored with an operand that is held; what both are seen as."""
    wanted = _only(turn[0], held)
    size, stride = axes.dims(wanted, held)
    laid = None if held == wanted else View(size, stride, (axes.count(wanted),))
    size, stride, other = axes.dims(turn[1], stored, wanted)
    of_pair = Slices(size, stride, offsets(summed, stored, axes.sizes))
    return Sum(of_pair, laid, Slices(size, other, offsets(summed, wanted, axes.sizes)))
