"""Which tensors of a network to multiply with each other before the operand: the order of least predicted time.

The tensors act on the operand one after the other, T_1 first. A plan cuts them into groups of neighbours; those of a
group are multiplied with each other, and the product acts on the operand. Every order of multiplying a chain A_c … A_1
x is of that form, as one of its factors is the one that x is first multiplied with. So dynamic programming over
intervals finds the best of them all (as for matrix chains; Cormen et al., Introduction to Algorithms, ch. 15), with x
as one of the tensors, in O(c³) steps:

    merge[i, j] = min_s  merge[i, s] + merge[s + 1, j] + time of multiplying the two,
    best[j]     = min_i  best[i - 1] + merge[i, j] + time of the action of T_i … T_j on the operand.

In a chain of more than LONG tensors only short groups are looked at, and all that start or end the chain: the orders
from the left and from the right, and the dense matrix, are always among them.

Of other networks than chains, groups of tensors that are no neighbours are not looked at. opt_einsum, which would,
knows MACs alone: no calls, no batched products of small blocks, no memory; and its exact searches take 4 ms for ten
block-diagonal factors, this one 0.6 ms.

Axes are bits of an integer, so that sets of axes are unions and intersections of integers.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate
from operator import or_

from linops.plan.contraction import OPERAND, Path
from linops.plan.gradient import tensors_wanted
from linops.plan.machine import Machine
from linops.plan.network import Network

#: of up to so many tensors all groups are compared; of more those of at most SHORT, and those that start or end the
#: chain
LONG, SHORT = 12, 4


class _Sizes(dict):
    """The product of the sizes of a set of axes, by its bits."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__({0: 1, **{1 << place: size for place, size in enumerate(sizes)}})

    def __missing__(self, axes: int) -> int:
        lowest = axes & -axes
        self[axes] = product = self[lowest] * self[axes ^ lowest]
        return product


def cheapest(
    network: Network, batch: int, machine: Machine, itemsize: int, constants: bool = False, wanted: int = 0
) -> tuple[tuple[int, int], ...]:
    """The groups of neighbouring tensors, multiplied with each other first, that take the least predicted time.

    Args:
        network: The network.
        batch: Number of vectors.
        machine: What steps take.
        itemsize: Bytes of a number.
        constants: Whether the tensors' products are made beforehand, and take no time.
        wanted: Of what gradients are wanted, whose backward pass then counts too; see `linops.plan.gradient`.

    Returns:
        (first, last) of each group, in the order in which they act.
    """
    return _Search(network, batch, machine, itemsize, constants, wanted).groups()


def path(
    network: Network,
    groups: tuple[tuple[int, int], ...],
    batch: int,
    machine: Machine,
    itemsize: int,
    wanted: int = 0,
) -> Path:
    """The path that multiplies the tensors of each group in the cheapest order, and lets the products act.

    Args:
        network: The network.
        groups: (first, last) of each group.
        batch: Number of vectors.
        machine: What steps take.
        itemsize: Bytes of a number.
        wanted: Of what gradients are wanted.

    Returns:
        The path.
    """
    search, found = _Search(network, batch, machine, itemsize, False, wanted), []
    if len(network.tensors) > LONG:
        search.folds()
    for first, last in groups:
        search.merges(first, last, found)
        found.append((first, OPERAND))
    return tuple(found)


class _Search:
    """The dynamic programming of one network; a product of tensors i … j takes the place of tensor i."""

    def __init__(
        self, network: Network, batch: int, machine: Machine, itemsize: int, constants: bool, wanted: int
    ) -> None:
        bits = {letter: 1 << place for place, letter in enumerate(network.sizes)}

        def mask(letters: str) -> int:
            return sum([bits[letter] for letter in letters])

        self.size = _Sizes(list(network.sizes.values()))
        self.batch, self.machine, self.itemsize, self.constants = batch, machine, itemsize, constants
        self.tensors = tensors = [mask(letters) for letters in network.tensors]
        self.into, self.out = mask(network.into), mask(network.out)
        self.into_axes = tuple([bits[letter] for letter in network.into])
        self.before = [0, *accumulate(tensors, or_)]  # axes of tensors 0 … i - 1
        self.after = [*[*accumulate(reversed(tensors), or_)][::-1], 0]  # axes of tensors i … c - 1
        self.held = [(self.into | before) & (after | self.out) for before, after in zip(self.before, self.after)]
        # of tensors 0 … i - 1, how many have gradients: if one has, or the operand, tensor i's operand has one
        self.asking = [*accumulate(tensors_wanted(network, wanted), initial=0)]
        self.operand_asks = wanted & 1
        self._merged: dict[tuple[int, int], tuple[float, int, int]] = {}

    def groups(self) -> tuple[tuple[int, int], ...]:
        count = len(self.tensors)
        longest = count if count <= LONG else SHORT
        if count > LONG:
            self.folds()
        best: list[tuple[float, int]] = [(0.0, 0)]  # of the first j tensors: seconds, and where the last group starts
        lying = [self.into_axes]  # and the operand's axes as they then lie in memory
        for last in range(count):
            least, start, after = float("inf"), last, ()
            nearest = range(max(0, last + 1 - longest), last + 1)
            for first in range(last + 1) if last == count - 1 else (*(() if nearest[0] == 0 else (0,)), *nearest):
                merging, axes, _ = self.merged(first, last)
                if first < last:
                    merging += self._settles(axes, lying[first], self.held[last + 1])
                flows, asks = self.operand_asks or self.asking[first], self.asks(first, last)
                acting, axes = self._acts(axes, lying[first], self.held[last + 1], flows, asks)
                seconds = best[first][0] + acting + (0.0 if self.constants else merging)
                if seconds < least:
                    least, start, after = seconds, first, axes
            best.append((least, start))
            lying.append(after)
        found, stop = [], count
        while stop:
            start = best[stop][1]
            found.append((start, stop - 1))
            stop = start
        return tuple(reversed(found))

    def merged(self, first: int, last: int, cuts: Iterable[int] = ()) -> tuple[float, int, int]:
        """Of the product of tensors first … last: seconds, axes, and where it is cut last: anywhere or somewhere."""
        key = (first, last)
        if key in self._merged:
            return self._merged[key]
        if first == last:
            found = (0.0, self.tensors[first], first)
        else:
            needed = self.into | self.out | self.before[first] | self.after[last + 1]
            inner = 0
            for tensor in self.tensors[first : last + 1]:
                inner |= tensor
            axes, least, where = inner & needed, float("inf"), first
            for cut in cuts or range(first, last):
                one, own, _ = self.merged(first, cut)
                other, theirs, _ = self.merged(cut + 1, last)
                asks, ask = self.asks(cut + 1, last), self.asks(first, cut)
                seconds = one + other + self._contraction(theirs, own, axes, asks, ask)
                if seconds < least:
                    least, where = seconds, cut
            found = (least, axes, where)
        self._merged[key] = found
        return found

    def asks(self, first: int, last: int) -> int:
        """How many of tensors first … last have gradients."""
        return self.asking[last + 1] - self.asking[first]

    def folds(self) -> None:
        """The products that start or end a long chain, made one tensor at a time from its ends: in O(c) steps."""
        count = len(self.tensors)
        for last in range(1, count):
            self.merged(0, last, cuts=(last - 1,))
        for first in range(count - 2, 0, -1):
            self.merged(first, count - 1, cuts=(first,))
        whole = self._merged.pop((0, count - 1))
        self._merged[0, count - 1] = min(whole, self.merged(0, count - 1, cuts=(0,)))

    def merges(self, first: int, last: int, found: list[tuple[int, int]]) -> None:
        """Appends the path that multiplies tensors first … last."""
        waiting, reversed_path = [(first, last)], []
        while waiting:  # a loop: chains may be longer than Python's stack
            first, last = waiting.pop()
            if first < last:
                cut = self.merged(first, last)[2]
                reversed_path.append((cut + 1, first))
                waiting += [(first, cut), (cut + 1, last)]
        found += reversed(reversed_path)

    def _settles(self, tensor: int, lying: tuple[int, ...], result: int) -> float:
        """Seconds of the copy of a product of tensors to the order in which it acts, which blocks of it need."""
        for axis in lying:
            if axis & tensor & result:
                return self.machine.copy(2 * self.size[tensor] * self.itemsize)
        return 0.0

    def _acts(
        self, tensor: int, lying: tuple[int, ...], result: int, flows: int, asks: int
    ) -> tuple[float, tuple[int, ...]]:
        """Of a tensor's action on an operand whose axes lie as given: seconds, and how they lie then (`_action`).

        With the gradients of the operand if there are some (`flows`), and of the tensor if it `asks` for them.
        """
        size, itemsize, machine = self.size, self.itemsize, self.machine
        rest = [axis for axis in lying if not axis & tensor]
        blocks = [axis for axis in lying if axis & tensor & result]
        columns = [axis for axis in lying if axis & tensor & ~result]
        held = sum(lying)
        rows, operand = tensor & ~held, size[held] * self.batch
        new = _bits(rows)
        if not columns:
            own, whole = size[tensor], operand * size[rows]
            seconds = machine.scale((own + operand + whole) * itemsize)
            if flows:
                seconds += machine.scale((own + operand + whole) * itemsize)
            if asks:
                seconds += machine.scale((operand + 2 * whole) * itemsize) + machine.scale((whole + own) * itemsize)
            return seconds, (*new, *lying)
        left, copied, back, kept = 1, 0.0, 0.0, bool(flows or asks)
        if blocks:
            if lying == (*columns, *blocks, *rest):
                copied, back = machine.view(2 * operand * itemsize), machine.copy(2 * operand * itemsize)
            elif lying != (*blocks, *columns, *rest):
                copied = back = machine.copy(2 * operand * itemsize)
            after = (*blocks, *new, *rest)
        else:
            start = lying.index(columns[0])
            if lying[start : start + len(columns)] == tuple(columns):
                left, after = size[sum(lying[:start])], (*lying[:start], *new, *lying[start + len(columns) :])
            else:
                copied, after = machine.copy(2 * operand * itemsize), (*new, *rest)
                back = copied
        count, height, width = size[sum(blocks)] * left, size[rows], size[sum(columns)]
        beside = size[sum(rest)] * self.batch // left
        seconds = copied + machine.matmul(count, height, width, beside, itemsize, kept)
        if flows:
            seconds += back + machine.matmul(count, width, height, beside, itemsize, kept)
        if asks:
            seconds += machine.matmul(count, height, beside, width, itemsize, kept)
            if left > 1:
                seconds += machine.scale((left + 1) * height * width * itemsize)
        return seconds, after

    def _contraction(self, tensor: int, onto: int, result: int, asks: int, onto_asks: int) -> float:
        """Seconds of a tensor's action on another tensor, with the gradients of those that ask for them."""
        size, common, merge = self.size, tensor & onto, self.machine.merge
        summed = common & ~result
        blocks, rows, columns = size[common & result], size[tensor & ~onto], size[summed] if summed else 0
        beside, itemsize = size[onto & ~tensor], self.itemsize
        seconds = once = merge(blocks, rows, columns, beside, itemsize)
        if onto_asks:
            seconds += merge(blocks, columns, rows, beside, itemsize) if summed else 2 * once  # a product, and its sum
        if asks:
            seconds += merge(blocks, rows, beside, columns, itemsize) if summed else 2 * once
        return seconds


def _bits(axes: int) -> tuple[int, ...]:
    """The axes of a set, one by one."""
    found = []
    while axes:
        lowest = axes & -axes
        found.append(lowest)
        axes ^= lowest
    return tuple(found)
