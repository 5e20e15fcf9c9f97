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
products, with the vectors outermost (2048 blocks of 2×2 with four vectors take 17 µs so, and 150 µs by `torch.bmm`); all
others by `torch.bmm`, with the vectors innermost.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from linops.kernels.chain import Acting, steps_of
from linops.nn.renormalizing import VECTORS
from linops.operators.chained import network_of
from linops.plan.network import joined
from linops.structure import Structure

#: the axes of vectors and of both operators, which are no letters
OPERANDS, BOTH = "*", "2"
#: numbers of a block up to which its product is a sum of elementwise ones
FEW = 16


class Way(NamedTuple):
    """How an array of one order of axes is seen in another: reshaped, permuted, and reshaped again.

    Attributes:
        sizes: Of the axes, those together that stay together.
        order: Of these.
        shape: Of the result.
    """

    sizes: tuple[int, ...]
    order: tuple[int, ...]
    shape: tuple[int, ...]

    def __call__(self, x: Tensor) -> Tensor:
        """The array, a view where that can be."""
        return x.reshape(self.sizes).permute(self.order).reshape(self.shape)


class Factor(NamedTuple):
    """One tensor of a program.

    Attributes:
        leaf: Which leaf of the structure it is.
        stored: The shape in which both are kept.
        both: Its axis that says which one it is.
        laid: How a leaf is seen to be laid into it.
        rows: The axis of rows, which that of columns follows, for elementwise products; -1 for batched ones.
        forward: How the pair is seen, and how the operand.
        back: Likewise for the adjoint.
    """

    leaf: int
    stored: tuple[int, ...]
    both: int
    laid: Way
    rows: int
    forward: tuple[Way, Way]
    back: tuple[Way, Way]


class Cut(NamedTuple):
    """The shape of a result, and its axes of both and of vectors."""

    shape: tuple[int, ...]
    both: int
    vectors: int


class Program(NamedTuple):
    """The difference of two operators of one structure, and of their adjoints, as steps with bare tensors.

    Attributes:
        factors: In the order in which they act.
        there: What the last of them gives.
        back: What the adjoint gives.
        home: How the difference of the adjoints is seen as (n, k).
    """

    factors: tuple[Factor, ...]
    there: Cut
    back: Cut
    home: Way

    def pairs(self, leaves: Sequence[Tensor], moves: Sequence[tuple[Tensor, float] | None]) -> list[Tensor]:
        """The tensors of both operators.

        Args:
            leaves: Before the step.
            moves: Of each leaf what is added to it, and how many times; None of one that stays.

        Returns:
            A tensor a factor.
        """
        found = []
        for factor in self.factors:
            pair = leaves[0].new_empty(factor.stored)
            before, after = pair.unbind(factor.both)
            leaf, move = factor.laid(leaves[factor.leaf]), moves[factor.leaf]
            before.copy_(leaf)
            if move is None:
                after.copy_(leaf)
            else:
                torch.add(leaf, factor.laid(move[0]), alpha=move[1], out=after)
            found.append(pair)
        return found

    def difference(self, pairs: Sequence[Tensor], x: Tensor) -> Tensor:
        """What the operator after the step gives more than that before, A_after x − A_before x.

        Args:
            pairs: Of `pairs`.
            x: (n, k).

        Returns:
            An array of several axes, of which `there.vectors` is that of vectors.
        """
        for factor, pair in zip(self.factors, pairs):
            x = _product(factor.forward, factor.rows, pair, x, 1)
        before, after = x.reshape(self.there.shape).unbind(self.there.both)
        return after - before

    def adjoint_difference(self, pairs: Sequence[Tensor], y: Tensor) -> Tensor:
        """Likewise of the adjoints.

        Args:
            pairs: Of `pairs`.
            y: Of `difference`.

        Returns:
            (n, k).
        """
        y = y.unsqueeze(self.there.both).expand(self.there.shape)
        for factor, pair in zip(self.factors[::-1], pairs[::-1]):
            y = _product(factor.back, factor.rows, pair.conj() if pair.is_complex() else pair, y, 0)
        before, after = y.reshape(self.back.shape).unbind(self.back.both)
        return self.home(after - before)


def _product(ways: tuple[Way, Way], rows: int, pair: Tensor, x: Tensor, summed: int) -> Tensor:
    """A tensor of both operators times an operand; `summed` is 1 for sums over columns, and 0 for those over rows."""
    pair, x = ways[0](pair), ways[1](x)
    if rows < 0:
        return torch.bmm(pair, x)
    (one, other), *more = zip(pair.split(1, rows + summed), x.split(1, rows + summed))
    found = one * other
    for one, other in more:
        found.addcmul_(one, other)
    return found


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
    held, ahead = network.into + OPERANDS, []
    for leaf, step in zip(network.leaves, steps):
        tensor = _Tensor(axes, leaf, step, held)
        ahead.append((tensor, tensor.way(held, back=False)))
        held = tensor.result(back=False)
    there, factors = held, []
    for tensor, forward in ahead[::-1]:
        factors.append(tensor.factor(forward, tensor.way(held, back=True)))
        held = tensor.result(back=True)
    home = axes.way(held.replace(BOTH, ""), [network.into, OPERANDS])
    return Program(tuple(factors[::-1]), axes.cut(there), axes.cut(held), home)


class _Axes:
    """The sizes of the axes of a network, of vectors and of both operators, and how arrays of them are seen."""

    def __init__(self, sizes: dict[str, int], into: str) -> None:
        self._sizes = {**sizes, BOTH: 2}
        self._sizes[OPERANDS] = min(self.size(into), VECTORS)

    def size(self, group: str) -> int:
        return prod([self._sizes[axis] for axis in group])

    def way(self, held: str, wanted: Sequence[str], shape: Sequence[int] | None = None) -> Way:
        before, after = joined([held, "".join(wanted)])
        sizes = tuple(map(self.size, before))
        return Way(sizes, tuple(map(before.index, after)), tuple(shape or map(self.size, wanted)))

    def cut(self, held: str) -> Cut:
        groups = ["".join(run) for _, run in groupby(held, lambda axis: axis if axis in (BOTH, OPERANDS) else "")]
        both, vectors = groups.index(BOTH), groups.index(OPERANDS)
        return Cut(tuple(map(self.size, groups)), both, vectors - (vectors > both))


class _Tensor:
    """A tensor, and how its operand is seen: in the order `lead`, columns, `tail`, in which rows replace the columns.

    For batched products `lead` is the blocks, for elementwise ones what is slower than the columns. Operands of the
    first tensor have no axis of both, and get it behind `lead`.
    """

    def __init__(self, axes: _Axes, leaf: int, step: Acting, held: str) -> None:
        blocks, rows, self.columns, _ = step.groups
        self.axes, self.leaf = axes, leaf
        self.rows, self.own = rows.replace(BOTH, ""), step.own.replace(BOTH, "")
        self.both = BOTH if BOTH in rows else ""
        others = held.replace(OPERANDS, "")
        self.is_batched = axes.size(self.rows + self.columns) > FEW
        if self.is_batched:
            self.lead = "".join([axis for axis in others if axis in blocks])
            self.tail = "".join([axis for axis in others if axis not in step.own]) + OPERANDS
        elif self.columns and self.columns in others:
            self.lead, _, self.tail = (OPERANDS + others).partition(self.columns)
        else:
            self.lead, self.tail = OPERANDS + "".join([axis for axis in others if axis not in self.columns]), ""

    def result(self, *, back: bool) -> str:
        """The axes of a product, as they lie."""
        return self.lead + self.both + (self.columns if back else self.rows) + self.tail

    def way(self, held: str, *, back: bool) -> Way:
        """How an operand is seen."""
        lead, middle = (self.lead + self.both, self.rows) if back else (self.lead, self.columns)
        if self.is_batched:
            return self.axes.way(held, [lead, middle, self.tail])
        before, after = self._runs()
        count = self.axes.size(middle)
        shape = [self.axes.size(run if back else run.replace(self.both or " ", "")) for run in before]
        shape += [count, 1] if back else [1, count]
        return self.axes.way(held, [lead, middle, self.tail], [*shape, *map(self.axes.size, after)])

    def factor(self, forward: Way, back: Way) -> Factor:
        """What runs, of how operands are seen."""
        axes, rows, columns, own = self.axes, self.rows, self.columns, self.own
        if self.is_batched:
            lead, place = self.lead + self.both, -1
            stored = lead + rows + columns
            ways = axes.way(stored, [self.lead, self.both + rows, columns]), axes.way(stored, [lead, columns, rows])
        else:
            runs = [[self._mine(run) for run in part] for part in self._runs()]
            stored = BOTH + rows + columns + "".join(runs[0] + runs[1]).replace(BOTH, "")
            ways = [axes.way(stored, [*runs[0], rows, columns, *runs[1]])] * 2
            place = len(runs[0])
        of_leaf, of_pair = joined([own, stored])
        laid = [group for group in of_pair if group != BOTH]
        return Factor(
            self.leaf,
            tuple(map(axes.size, of_pair)),
            of_pair.index(BOTH),
            axes.way("".join(of_leaf), laid),
            place,
            (ways[0], forward),
            (ways[1], back),
        )

    def _runs(self) -> list[list[str]]:
        """Of elementwise products: runs of the axes before and after the rows, each of the tensor's or of none of it."""

        def kind(axis: str) -> Any:
            return axis if axis == self.both else axis in self.own + BOTH

        return [["".join(run) for _, run in groupby(part, kind)] for part in (self.lead + self.both, self.tail)]

    def _mine(self, run: str) -> str:
        return "".join([axis for axis in run if axis in self.own + BOTH])
