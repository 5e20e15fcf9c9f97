"""How a product is divided among ranks: over which axis each tensor is split, and what is sent in between.

A product is a network (`linops.plan.network`) whose tensors act on the operand one after the other. An axis of a tensor
is, when it acts,

* one of *blocks*, which the operand has before and after: a tensor and an operand that are split over it give a result
  that is split over it, and nothing is sent;
* *new*: a tensor that is split over it takes a whole operand, and gives a result that is split over it (the columns of
  Megatron-LM, Shoeybi et al. 2019);
* *summed over*: a tensor and an operand that are split over it give parts of a sum (its rows).

A tensor that is not split acts on a whole operand, or on one that is split over an axis that passes it by. What the
operand is between two tensors are the nodes of a graph, with bytes as lengths, and the best division is its shortest
path. So the all-to-all between the two cores of a block tensor train, and the all-reduce of r numbers between the
factors of a low-rank product, are found and not written down.

Nothing here knows operators; sizes are those of a network without vectors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import NamedTuple

from linops.plan import transfer
from linops.plan.network import Network
from linops.plan.transfer import Kind, sent

#: what an operand is that is no letter, the axis that it is split over
WHOLE, ENTERED, PARTS, FEATURES = "whole", "entered", "parts", "features"

#: the number of vectors that bytes are compared for
VECTORS = 4096


class Transfer(NamedTuple):
    """A transfer of the operand; see `linops.plan.transfer`.

    Attributes:
        kind: What it is.
        axis: The axis that the operand is split over afterwards, or ``"features"``; empty if none.
        before: The same, before.
        numbers: How many numbers a vector has there, on all ranks.
    """

    kind: Kind
    axis: str
    before: str
    numbers: int


class Action(NamedTuple):
    """A tensor that acts on the operand.

    Attributes:
        tensor: Its position in the network.
        axis: The axis that it is split over; empty if every rank holds it whole.
        is_partial: Whether its gradient is a part of a sum over the ranks: it is whole, and the operand split.
        numbers: How many numbers it has.
    """

    tensor: int
    axis: str
    is_partial: bool
    numbers: int


Path = tuple[Transfer | Action, ...]


def divide(network: Network, eligible: Sequence[str], ranks: int, into: str, out: str, terms: int = 1) -> Path | None:
    """The division of a product among ranks.

    Every tensor of more numbers than the longer side is split, if that sends no more than a dense matrix with a whole
    operand and result does; otherwise it is the division of the fewest bytes, for 4096 vectors, forward and backward.

    Args:
        network: The product.
        eligible: Of each tensor, the axes over which it can be split: those slowest in an axis of the leaf.
        ranks: How many.
        into: ``"whole"`` or ``"sharded"``: whether each rank has the whole operand, or its share of the features.
        out: The same of the result.
        terms: How many products are added up, each with an equal share of what a dense matrix sends.

    Returns:
        Transfers and actions, in the order in which they happen; None if features cannot be shared equally.

    Example:
        >>> network = Network(("ab", "ca"), (1, 0), "b", "c", dict(a=2, b=8, c=8))  # low rank
        >>> for step in divide(network, ("ab", "ca"), 4, "sharded", "sharded"):
        ...     print(step.kind.name if isinstance(step, Transfer) else f"tensor {step.tensor} over {step.axis}")
        tensor 0 over b
        reduce_enter
        tensor 1 over c
    """
    eligible = ["".join([axis for axis in axes if network.sizes[axis] % ranks == 0]) for axes in eligible]
    m, n = (prod([network.sizes[axis] for axis in axes]) for axes in (network.out, network.into))
    dense = (transfer.SLICE, n), (transfer.REDUCE, m)
    allowed = length([Transfer(kind, "", "", numbers) for kind, numbers in dense], ranks)
    strict = _shortest(network, eligible, ranks, into, out, max(m, n))
    if strict is not None and terms * length(strict, ranks) <= allowed * (1 + 1e-9):
        return strict
    return _shortest(network, eligible, ranks, into, out, None)


def length(path: Sequence[Transfer | Action], ranks: int, vectors: int = VECTORS) -> float:
    """How many numbers a rank sends, forward and backward.

    Args:
        path: A division.
        ranks: How many.
        vectors: How many vectors the operand has.

    Returns:
        Numbers.
    """
    return sum(count for step in path for _, _, count in collectives(step, ranks, vectors))


def collectives(step: Transfer | Action, ranks: int, vectors: int) -> Iterator[tuple[str, str, float]]:
    """The collectives of a step.

    Args:
        step: A transfer or an action.
        ranks: How many.
        vectors: How many vectors the operand has.

    Yields:
        ``"forward"`` or ``"backward"``, the collective, and how many numbers a rank sends.
    """
    if isinstance(step, Transfer):
        for when, way in (("forward", step.kind.forward), ("backward", step.kind.backward)):
            if way not in (transfer.SHARE, transfer.SAME):
                yield when, way, sent(way, ranks, step.numbers * vectors)
    elif step.is_partial:
        yield "backward", transfer.ALL_REDUCE, sent(transfer.ALL_REDUCE, ranks, step.numbers)


def _shortest(
    network: Network, eligible: Sequence[str], ranks: int, into: str, out: str, small: int | None
) -> Path | None:
    """The division that sends the fewest numbers, in which tensors of more than `small` numbers are split; or None."""
    sizes = network.sizes
    begins, ends = [
        WHOLE if style == "whole" else outer(axes, sizes, ranks)
        for style, axes in ((into, network.into), (out, network.out))
    ]
    if not begins or not ends:
        return None
    best: dict[str, Path] = {begins: ()}
    held = network.into
    for place, own in enumerate(network.tensors):
        wanted = network.out + "".join(network.tensors[place + 1 :])
        after = "".join([axis for axis in dict.fromkeys(held + own) if axis in wanted])
        numbers = prod([sizes[axis] for axis in own])
        stays = small is None or numbers <= small
        found: dict[str, list[Path]] = {}
        for state, path in _moved(best, held, sizes, ranks).items():
            for axis, then in _acted(state, own, held, after, eligible[place], stays):
                action = Action(place, axis, not axis and state != WHOLE, numbers)
                found.setdefault(then, []).append((*path, action))
        best, held = {state: min(paths, key=lambda path: length(path, ranks)) for state, paths in found.items()}, after
    return _moved(best, held, sizes, ranks).get(ends)


def outer(axes: str, sizes: dict[str, int], ranks: int) -> str:
    """What an operand is of which each rank holds its share of the features, in their order.

    Args:
        axes: Its axes, slowest first.
        sizes: Of each axis.
        ranks: How many.

    Returns:
        The slowest axis, or ``"features"`` where ranks do not divide that; empty where they do not divide features.
    """
    if prod([sizes[axis] for axis in axes]) % ranks:
        return ""
    return axes[0] if axes and sizes[axes[0]] % ranks == 0 else FEATURES


def _acted(state: str, own: str, held: str, after: str, eligible: str, stays: bool) -> Iterator[tuple[str, str]]:
    """Over which axis a tensor may be split (empty: it is whole), and what the operand is then."""
    if state == ENTERED:
        yield from [(axis, axis) for axis in own if axis in eligible and axis not in held and axis in after]
    elif len(state) == 1 and state in own:
        if state in eligible:
            yield state, state if state in after else PARTS
    elif stays and (state == WHOLE or len(state) == 1):
        yield "", state


def _moved(best: dict[str, Path], held: str, sizes: dict[str, int], ranks: int) -> dict[str, Path]:
    """What the operand may become by at most one transfer, and the shortest way there."""
    numbers = prod([sizes[axis] for axis in held])
    axes = [axis for axis in held if sizes[axis] % ranks == 0]
    outer = FEATURES if numbers % ranks == 0 else ""
    found: dict[str, Path] = dict(best)
    for state, path in best.items():
        for kind, then in _transfers(state, axes, outer):
            after, before = ("" if it in (WHOLE, ENTERED, PARTS) else it for it in (then, state))
            longer = (*path, Transfer(kind, after, before, numbers))
            if then not in found or length(longer, ranks) < length(found[then], ranks):
                found[then] = longer
    return found


def _transfers(state: str, axes: Sequence[str], outer: str) -> Iterator[tuple[Kind, str]]:
    """The transfers that there are of an operand, and what it is then."""
    if state == WHOLE:
        yield transfer.ENTER, ENTERED
        yield from [(transfer.SLICE, then) for then in (*axes, outer) if then]
    elif state == PARTS:
        yield transfer.REDUCE, WHOLE
        yield transfer.REDUCE_ENTER, ENTERED
        yield from [(transfer.SCATTER, then) for then in (*axes, outer) if then]
    elif state != ENTERED:
        yield transfer.GATHER, WHOLE
        yield transfer.GATHER_ENTER, ENTERED
        if state != FEATURES:
            yield from [(transfer.EXCHANGE, then) for then in axes if then != state]
