"""What one rank runs of a divided product: contractions of its shares of the tensors, and transfers in between.

The operand is held features first, in an order of axes in which each transfer moves whole runs of memory: the axis that
a transfer splits or joins is the slowest. An axis that was split and is whole after an all-to-all consists of two: the
slower one counts the ranks that its parts came from, and lies elsewhere in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

from linops.plan import transfer
from linops.plan.contraction import actions, one_by_one
from linops.plan.division import FEATURES, Action, Path, Transfer, outer
from linops.plan.network import Network, alphabet


class Contraction(NamedTuple):
    """Tensors that act on what a rank holds; none, where axes are only put into another order.

    Attributes:
        tensors: Their positions in the network.
        shapes: The shapes of the rank's shares of them, one number an axis.
        expression: As for `numpy.einsum`, the operand being the last input.
        dims: The sizes of the operand's axes.
        order: The new order of the operand's axes, where there is no tensor.
    """

    tensors: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]
    expression: str
    dims: tuple[int, ...]
    order: tuple[int, ...] = ()


class Movement(NamedTuple):
    """A transfer of what a rank holds.

    Attributes:
        kind: The name of the kind; see `linops.plan.transfer`.
        dims: Of a slice, the sizes left of the axis that is split, of it, and right of it.
    """

    kind: str
    dims: tuple[int, int, int] = (1, 1, 1)


Piece = Contraction | Movement


class _Walk:
    """The axes of the operand along the way, as a rank holds them."""

    def __init__(self, network: Network, ranks: int, into: str) -> None:
        self.network, self.ranks = network, ranks
        self.held, self.sizes = network.into, dict(network.sizes)
        self.names = {axis: axis for axis in network.sizes}
        self.free = (letter for letter in alphabet() if letter not in network.sizes)
        self.pieces: list[Piece] = []
        self.state = ""
        if into == "sharded":
            self.split(outer(network.into, network.sizes, ranks))

    def named(self, axes: str) -> str:
        """Axes of the network, as they are called now."""
        return "".join([self.names[axis] for axis in axes])

    def split(self, axis: str) -> None:
        """From now on a rank has its share of an axis of the network alone."""
        self.state = axis
        if axis and axis != FEATURES:
            self.sizes[self.names[axis][0]] //= self.ranks

    def join(self) -> None:
        """From now on a rank has all of the axis of which it had its share."""
        if self.state and self.state != FEATURES:
            self.sizes[self.names[self.state][0]] *= self.ranks
        self.state = ""

    def ordered(self, axes: str, lead: str) -> str:
        """Axes in the order that a transfer needs which splits or joins the axis `lead` of the network."""
        if lead == FEATURES:
            return self.named(self.network.out)
        slow = self.names[lead][0] if lead else ""
        return slow + axes.replace(slow, "") if slow else axes

    def reorder(self, order: str) -> None:
        """Put the axes into another order."""
        if order != self.held:
            dims, turn = tuple([self.sizes[axis] for axis in self.held]), tuple([self.held.index(it) for it in order])
            self.pieces.append(Contraction((), (), "", dims, turn))
            self.held = order

    def contract(self, steps: Sequence[Action], lead: str) -> None:
        """Let tensors act; `lead` is the axis that the next transfer needs slowest."""
        for step in steps:
            if step.axis != self.state and step.axis:  # each rank makes its share of it
                self.split(step.axis)
        tensors = tuple([step.tensor for step in steps])
        own = tuple([self.named(self.network.tensors[tensor]) for tensor in tensors])
        later = self.named(self.network.out + "".join(self.network.tensors[tensors[-1] + 1 :]))
        wanted = "".join([axis for axis in dict.fromkeys(self.held + "".join(own)) if axis in later])
        after = self.ordered(actions(own, self.held, wanted, one_by_one(range(len(own))))[-1].after, lead)
        shapes = tuple([tuple([self.sizes[axis] for axis in term]) for term in own])
        dims = tuple([self.sizes[axis] for axis in self.held])
        self.pieces.append(Contraction(tensors, shapes, f"{','.join([*own, self.held])}->{after}", dims))
        self.held = after

    def move(self, step: Transfer) -> None:
        """Let a transfer happen."""
        dims = 1, 1, 1
        if step.kind == transfer.SLICE:
            slow = "" if step.axis == FEATURES else self.names[step.axis][0]
            left, _, right = self.held.partition(slow) if slow else ("", "", "")
            sizes = [prod([self.sizes[axis] for axis in axes]) for axes in (left, slow or self.held, right)]
            dims = sizes[0], sizes[1], sizes[2]
        else:
            self.reorder(self.ordered(self.held, lead_of(step)))
        self.pieces.append(Movement(step.kind.name, dims))
        was = self.state
        self.join()
        if step.kind == transfer.EXCHANGE:  # what was split comes back whole, its parts in the slowest axis of memory
            slow, fast = next(self.free), self.names[was][0]
            self.sizes[slow], self.sizes[fast] = self.ranks, self.sizes[fast] // self.ranks
            self.names[was] = slow + self.names[was]
            self.held = slow + self.held
        self.split(step.axis)


def lead_of(step: Transfer) -> str:
    """The axis that must be the slowest in memory, or ``"features"``; empty if any order will do.

    Args:
        step: A transfer.

    Returns:
        An axis of the network.
    """
    if step.kind in (transfer.EXCHANGE, transfer.SCATTER) or step.axis == FEATURES:
        return step.axis
    return step.before if step.kind in (transfer.GATHER, transfer.GATHER_ENTER) and step.before != FEATURES else ""


def shares(network: Network, path: Path, ranks: int, into: str) -> tuple[Piece, ...]:
    """What each rank runs of a division.

    Args:
        network: The product.
        path: Its division among the ranks; see `linops.plan.division.divide`.
        ranks: How many.
        into: ``"whole"`` or ``"sharded"``, as the division has it.

    Returns:
        Contractions and movements, in the order in which they run.
    """
    walk, waiting = _Walk(network, ranks, into), list[Action]()
    for step in path:
        if isinstance(step, Action):
            waiting.append(step)
            continue
        if waiting:
            walk.contract(waiting, lead_of(step))
            waiting = []
        walk.move(step)
    if waiting:
        walk.contract(waiting, FEATURES)
    walk.reorder(walk.named(network.out))
    return tuple(walk.pieces)
