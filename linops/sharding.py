"""`Division`: what each of several ranks holds and runs of an operator, derived from its expression."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from linops.operator import LinearOperator
from linops.operators.einsum import Einsum
from linops.operators.permute_axes import PermuteAxes
from linops.operators.planned import network_of
from linops.operators.sum import Sum
from linops.plan import transfer
from linops.plan.division import FEATURES, Action, Path, Transfer, collectives, divide
from linops.plan.network import Network
from linops.plan.shares import Contraction, Movement, shares
from linops.specs import Spec
from linops.structure import Structure

#: what each rank has of the vectors that go into a product, or come out of it
WHOLE, SHARDED = "whole", "sharded"


class Local(NamedTuple):
    """A product of a rank alone, between two transfers.

    Attributes:
        structure: The operator that it runs, features first; None, where it is the divided operator itself.
        leaves: Which leaves of the divided operator that is of.
        shapes: The shapes to which the rank's shares of them are brought.
    """

    structure: Structure | None
    leaves: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class Division:
    """What each of p ranks holds and runs of an operator, and what they send each other.

    Attributes:
        ranks: p.
        into: ``"whole"``: each rank has all features of the vectors; ``"sharded"``: its share of them, in their order.
        out: The same of the result.
        chains: Of each term of a sum, or of the one operator, what runs: products of a rank alone, and movements.
        axes: Of each leaf, by name, the axis over which it is split; None if every rank holds it whole.
        partial: The names of leaves that are whole, and whose gradients are to be summed over the ranks.
        paths: Of each term, how it was divided.
    """

    ranks: int
    into: str
    out: str
    chains: tuple[tuple[Local | Movement, ...], ...]
    axes: Mapping[str, int | None]
    partial: frozenset[str]
    paths: tuple[Path, ...]

    @property
    def is_split(self) -> bool:
        """Whether any leaf is split."""
        return any(axis is not None for axis in self.axes.values())

    def multiply(
        self, leaves: Sequence[Any], x: Any, move: Callable[[Any, Movement], Any], whole: Callable[[Any], Any]
    ) -> Any:
        """What a rank computes: A x, of what it has.

        Args:
            leaves: The rank's shares of the leaves.
            x: What it has of the vectors, features first: (f, vectors).
            move: What it has after a movement, (f', vectors).
            whole: The product with the divided operator itself, where every rank holds that.

        Returns:
            What it has of the result, features first.
        """
        terms = []
        for chain in self.chains:
            y = x
            for piece in chain:
                if isinstance(piece, Movement):
                    y = move(y, piece)
                elif piece.structure is None:
                    y = whole(y)
                else:
                    own = [leaves[leaf].reshape(shape) for leaf, shape in zip(piece.leaves, piece.shapes)]
                    product = piece.structure.fill(own)._columns(y)
                    y = product.reshape(piece.structure.operator.shape[0], x.shape[-1])
            terms.append(y)
        return sum(terms[1:], terms[0])

    def sent(self, vectors: int) -> Iterator[tuple[str, str, float]]:
        """What a rank sends.

        Args:
            vectors: How many vectors are multiplied.

        Yields:
            ``"forward"`` or ``"backward"``, the collective, and how many numbers a rank sends.
        """
        for path in self.paths:
            for step in path:
                yield from collectives(step, self.ranks, vectors)


def division(operator: LinearOperator, ranks: int, into: str = WHOLE, out: str = WHOLE) -> Division:
    """What each of several ranks holds and runs of an operator; see `linops.plan.division` for how it is found.

    Args:
        operator: Any operator whose leaves have a shape.
        ranks: How many.
        into: ``"whole"`` or ``"sharded"``: whether each rank has the whole vectors, or its share of the features.
        out: The same of the result.

    Returns:
        The division. An operator that is no product, or sum of products, of tensors over axes is whole on every rank.

    Raises:
        ValueError: If features cannot be shared equally.

    Example:
        >>> import linops as lo
        >>> found = division(lo.btt(64, 64), 4, "sharded", "sharded")
        >>> found.axes, [getattr(piece, "kind", "product") for piece in found.chains[0]]
        ({'cores_0': 0, 'cores_1': 0}, ['product', 'exchange', 'product'])
    """
    for side, size, what in ((into, operator.shape[1], "in"), (out, operator.shape[0], "out")):
        if side == SHARDED and size % ranks:
            raise ValueError(
                f"{operator._short()}: {size} {what}_features cannot be shared equally by {ranks} ranks; expected a "
                "multiple, or a style in which every rank has all of them"
            )
    return _division(operator.structure, ranks, into, out)


def alike(ranks: int, numbers: Iterable[int]) -> Division:
    """What runs alike on every rank's share, with the same parameters: their gradients are summed.

    Args:
        ranks: How many.
        numbers: How many numbers each parameter has.

    Returns:
        The division, of no chain.
    """
    path = tuple([Action(0, "", True, count) for count in numbers])
    return Division(ranks, SHARDED, SHARDED, (), {}, frozenset(), (path,))


@lru_cache(maxsize=256)
def _division(structure: Structure, ranks: int, into: str, out: str) -> Division:
    found = _derived(structure.operator, ranks, into, out)
    return _whole(structure.operator, ranks, into, out) if found is None else found


def _whole(operator: LinearOperator, ranks: int, into: str, out: str) -> Division:
    """A division in which every rank holds and runs the operator itself."""
    m, n = operator.shape
    names = [name for name, _ in operator.named_leaves()]
    path = [Transfer(transfer.GATHER, "", FEATURES, n)] if into == SHARDED else []
    path += [Transfer(transfer.SLICE, FEATURES, "", m)] if out == SHARDED else []
    chain: list[Local | Movement] = [Movement("gather")] if into == SHARDED else []
    chain += [Local(None, tuple(range(len(names))), ())]
    chain += [Movement("slice", (1, m, 1))] if out == SHARDED else []
    return Division(ranks, into, out, (tuple(chain),), dict.fromkeys(names), frozenset(), (tuple(path),))


def _derived(operator: LinearOperator, ranks: int, into: str, out: str) -> Division | None:
    """The division of a product, or sum of products, of tensors over axes; None of others."""
    leaves = list(operator.named_leaves())
    chains, paths, axes, partial, start = [], [], {}, set(), 0
    terms = operator.terms if isinstance(operator, Sum) else (operator,)
    for term in terms:
        own = leaves[start : start + term._num_leaves]
        network = network_of(term)
        if network is None or not network.into or not network.out or "" in network.tensors:
            return None
        shapes = [tuple(own[leaf][1].shape) for leaf in network.leaves]
        places = [_places(shape, axes_of, network) for shape, axes_of in zip(shapes, network.tensors)]
        found = _divided(network, places, ranks, into, out, len(terms))
        if found is None:
            return None
        path, held = found
        for leaf, (axis, is_partial) in held.items():
            axes[own[leaf][0]] = axis
            partial |= {own[leaf][0]} if is_partial else set()
        pieces = shares(network, path, ranks, into)
        dtype = operator.dtype
        chains.append(tuple([_local(piece, network, start, dtype) for piece in pieces]))
        paths.append(path)
        start += term._num_leaves
    return Division(ranks, into, out, tuple(chains), axes, frozenset(partial), tuple(paths))


def _divided(
    network: Network, places: list[dict[str, int]], ranks: int, into: str, out: str, terms: int
) -> tuple[Path, dict[int, tuple[int | None, bool]]] | None:
    """A division, and of each leaf over which axis it is split and whether its gradient is a part of a sum; or None."""
    path = divide(network, ["".join(place) for place in places], ranks, into, out, terms)
    actions = [step for step in path or () if isinstance(step, Action)]
    held: dict[int, tuple[int | None, bool]] = {}
    for step in actions:
        leaf, way = network.leaves[step.tensor], (places[step.tensor].get(step.axis), step.is_partial)
        if held.setdefault(leaf, way) != way:  # a leaf that acts more than once can be split in one way alone
            repeated = {leaf for leaf in network.leaves if network.leaves.count(leaf) > 1}
            whole = [{} if leaf in repeated else place for leaf, place in zip(network.leaves, places)]
            return None if whole == places else _divided(network, whole, ranks, into, out, terms)
    return None if path is None else (path, held)


def _places(shape: tuple[int, ...], term: str, network: Network) -> dict[str, int]:
    """Of the axes of a tensor that can be split in the leaf, where in the leaf they are: its slowest of an axis."""
    found, waiting = {}, list(term)
    for place, size in enumerate(shape):
        if size > 1:
            found[waiting[0]] = place
        while size > 1:
            size //= network.sizes[waiting.pop(0)]
    return found


def _local(piece: Contraction | Movement, network: Network, start: int, dtype: Any) -> Local | Movement:
    if isinstance(piece, Movement):
        return piece
    if not piece.tensors:
        return Local(PermuteAxes(piece.dims, piece.order).structure, (), ())
    specs = [Spec(shape, dtype) for shape in piece.shapes]
    order = tuple(range(len(specs)))
    operator = Einsum(piece.expression, tensors=specs, in_dims=piece.dims, order=order)
    leaves = tuple([start + network.leaves[tensor] for tensor in piece.tensors])
    return Local(operator.structure, leaves, piece.shapes)
