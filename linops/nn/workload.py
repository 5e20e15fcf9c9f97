"""What a device holds, computes and sends of one layer of a model, where layers are divided among ranks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

from linops.cost import Work, backward_work, forward_work
from linops.nn.description import Part
from linops.nn.sending import Communication, ends, of_division
from linops.operator import LinearOperator
from linops.operators import Product, Sum
from linops.plan import transfer
from linops.plan.step import Step
from linops.sharding import SHARDED, WHOLE, Local, division


@dataclass(frozen=True)
class Rates:
    """What a device does in a second, and the numbers that it does it with.

    Attributes:
        flops: FLOPs of products.
        bandwidth: Bytes of memory.
        itemsize: Bytes of a number.
        order: In which order products run; see `LinearOperator.cost`.
    """

    flops: float
    bandwidth: float
    itemsize: int
    order: str = "natural"

    def seconds(self, work: Work) -> float:
        """The roofline: the slower of arithmetic and memory."""
        return max(work.flops / self.flops, (work.bytes_read + work.bytes_written) / self.bandwidth)


@dataclass(frozen=True)
class Load:
    """What a device has of a layer, before parameters are divided among data ranks.

    Attributes:
        shapes: Of its parameters, and whether each is a linear layer's matrix or a batch of them.
        kept: Numbers kept for the backward pass, in the dtype of products.
        singles: The same, in float32.
        forward: FLOPs.
        backward: FLOPs.
        seconds: Forward and backward, by the roofline of each step.
        sent: What it sends to others of the model's axis.
        is_whole: Whether ranks were to divide it, and hold or run it whole.
        is_stuck: Whether it has no division, so that what follows is not divided either.
    """

    shapes: tuple[tuple[tuple[int, ...], bool], ...]
    kept: float
    singles: float
    forward: float
    backward: float
    seconds: tuple[float, float]
    sent: Communication
    is_whole: bool
    is_stuck: bool = False

    @property
    def params(self) -> int:
        """Numbers of its parameters."""
        return sum([prod(shape) for shape, _ in self.shapes])


def load(part: Part, tokens: int, ranks: int, rates: Rates, divided: bool) -> Load:
    """What a device has of a layer.

    Args:
        part: The layer.
        tokens: That a device and those of its model axis compute with.
        ranks: Of the model's axis.
        rates: Of a device.
        divided: Whether what follows divided layers is divided.

    Returns:
        The numbers.
    """
    vectors = round(tokens * part.vectors)
    share = ranks if part.follows and divided and part.groups % ranks == 0 else 1
    shapes = [(shape, False) for shape in part.shapes]
    sent, passes, kept = Communication(), [], 0
    is_whole, is_stuck = part.follows and ranks > 1 and share == 1, False
    if share > 1 and part.shapes:  # an embedding, whose rows are divided
        shapes = [((shape[0] // ranks, *shape[1:]), False) for shape in part.shapes]
    if share > 1 and part.sends:
        bytes_sent = transfer.sent(transfer.ALL_REDUCE, ranks, part.sends * tokens) * rates.itemsize
        sent = Communication({transfer.ALL_REDUCE: round(bytes_sent)})
    if part.operator is not None:
        held, programs, again, sent, is_whole, is_stuck = _linear(part, part.operator, vectors, ranks, rates)
        shapes += [] if part.tied else held
        kept = _kept(programs, part.shares) - again
        passes = [
            (forward_work(step, rates.itemsize), backward_work(step, rates.itemsize))
            for program in programs
            for step in program
        ]
    extra = Work(0, round(part.flops * tokens / share), round(part.moved * tokens / share) * rates.itemsize, 0)
    passes.append((extra, extra + extra))
    if part.kept is not None and ranks == 1:
        kept = part.kept * tokens
    forward, backward = zip(*passes)
    return Load(
        tuple(shapes),
        kept + part.saved * tokens / share,
        part.singles * tokens / share,
        sum([work.flops for work in forward]),
        sum([work.flops for work in backward]),
        (sum(map(rates.seconds, forward)), sum(map(rates.seconds, backward))),
        sent,
        is_whole,
        is_stuck,
    )


def _linear(
    part: Part, operator: LinearOperator, vectors: int, ranks: int, rates: Rates
) -> tuple[list[tuple[tuple[int, ...], bool]], list[Sequence[Step]], int, Communication, bool, bool]:
    """Of a linear layer the shapes of parameters, the steps of its products, numbers read again, what is sent."""
    found, out, is_stuck = None, WHOLE, False
    if ranks > 1 and part.style:
        into, out = ends(part.style)
        try:
            found = division(operator, ranks, into, out)
        except ValueError:  # features cannot be shared equally
            is_stuck = True
    shapes, bias = [], [(operator.shape[0],)] if part.bias else []
    if found is None:
        shapes = [(tuple(leaf.shape), True) for _, leaf in operator.named_leaves()]
        programs: list[Sequence[Step]] = [operator._steps(vectors, rates.order)]
        again = _read_again(operator) * vectors
        return [*shapes, *[(shape, False) for shape in bias]], programs, again, Communication(), ranks > 1, is_stuck
    for name, leaf in operator.named_leaves():
        shape, axis = list(leaf.shape), found.axes.get(name)
        if axis is not None:
            shape[axis] //= ranks
        shapes.append((tuple(shape), True))
    if out == SHARDED:
        bias = [(size // ranks,) for (size,) in bias]
    chains = [
        [
            (piece.structure.operator if piece.structure else operator)._steps(vectors, rates.order)
            for piece in chain
            if isinstance(piece, Local)
        ]
        for chain in found.chains
    ]
    programs = [steps for chain in chains for steps in chain]
    starts = [steps[0] for chain, (steps, *_) in zip(found.chains, chains) if isinstance(chain[0], Local)]
    again = (
        sum([step.inputs for step in starts[1:] if step.weights]) if found.is_split else _read_again(operator) * vectors
    )
    sent = of_division(found, vectors, rates.itemsize)
    return [*shapes, *[(shape, False) for shape in bias]], programs, again, sent, not found.is_split, False


def _kept(programs: Sequence[Sequence[Step]], shares: bool) -> int:
    """The numbers that products keep: what each step with parameters reads, once where another layer keeps it too."""
    steps = [step for program in programs for step in program if step.kind != "view"]
    kept = sum([step.inputs for step in steps if step.weights])
    return kept - steps[0].inputs if shares and steps and steps[0].weights else kept


def _read_again(operator: LinearOperator) -> int:
    """The numbers of each vector that terms of sums read after another term has kept them."""
    if isinstance(operator, Sum):
        again = max(0, sum(map(_keeps, operator.terms)) - 1) * operator.shape[1]
        return again + sum(map(_read_again, operator.terms))
    return sum(map(_read_again, operator.factors)) if isinstance(operator, Product) else 0


def _keeps(operator: LinearOperator) -> bool:
    """Whether the backward pass needs what an operator multiplies, as it lies."""
    if isinstance(operator, Product):
        first = next((factor for factor in reversed(operator.factors) if not factor._aliases), None)
        return first is not None and _keeps(first)
    return operator._num_leaves > 0


def blocks_of(names: Sequence[str], counts: Sequence[int], every: int) -> Iterator[tuple[str, int, int]]:
    """How many blocks of each name are checkpointed: the first of every so many, counted through the model.

    Args:
        names: Of blocks, in the model's order.
        counts: How many there are of each.
        every: How many; 0 checkpoints none.

    Yields:
        The name, how many are there, and how many are checkpointed.

    Example:
        >>> list(blocks_of(["a", "b"], [3, 2], 2))
        [('a', 3, 2), ('b', 2, 1)]
    """
    start = 0
    for name, count in zip(names, counts):
        yield name, count, len([None for place in range(start, start + count) if every and place % every == 0])
        start += count
