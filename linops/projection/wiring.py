"""One network as another: the leaves of an operator multiplied out and laid along the bonds of a structure.

Each tensor of the source belongs to one leaf of the target, and tensors of one leaf are contracted. Then an axis of
the source either stands in that leaf already, or is a *wire*: it runs along bonds of the target to where it is needed,
and a bond holds the product of its wires. Leaves that a wire passes through repeat it (δ), leaves that know nothing of
an axis are constant along it. So a low-rank matrix U V is a block tensor train whose cores repeat U and V; a matrix of
any kind is one whose bond holds all columns of a block; the factors of a butterfly, multiplied in two groups, are a
Monarch matrix. Where a bond is wider than its wires, `Growth` says what stands there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations_with_replacement, count, islice, pairwise, product
from math import prod
from typing import Any

from linops import backends
from linops.declaration import remembered
from linops.operator import LinearOperator
from linops.operators.planned import network_of
from linops.plan.network import Graph, alphabet
from linops.projection.contraction import contract
from linops.projection.growth import Growth

#: up to how many ways of sharing tensors out all are tried; of more, so many in the order in which they act
TRIES, MOST = 256, 4096

Bond = frozenset[int]


@dataclass(frozen=True)
class Wiring:
    """Two networks over the same open axes.

    Attributes:
        source: The axes of each tensor of the source, a letter each.
        arrays: Those tensors; None for an identity.
        target: The axes of each leaf of the target.
        acting: The leaves of the target as they act.
        open: The axes of rows and columns.
        sizes: The size of each axis.
    """

    source: tuple[str, ...]
    arrays: tuple[Any, ...]
    target: tuple[str, ...]
    acting: tuple[int, ...]
    open: str
    sizes: dict[str, int]

    @property
    def total(self) -> int:
        """How many numbers the source has."""
        return sum(map(self.size, self.source))

    def size(self, axes: Sequence[str]) -> int:
        """The product of the sizes of axes."""
        return prod([self.sizes[axis] for axis in axes])

    @remembered
    def own(self) -> tuple[str, ...]:
        """The open axes of each leaf of the target."""
        return tuple(["".join([axis for axis in term if axis in self.open]) for term in self.target])

    @remembered
    def bonds(self) -> dict[Bond, str]:
        """Leaves of the target → the axes that they share and that are not open; of neighbours it may be none."""
        found: dict[Bond, str] = {}
        for axis in dict.fromkeys("".join(self.target)):
            if axis not in self.open:
                among = frozenset([leaf for leaf, term in enumerate(self.target) if axis in term])
                found[among] = found.get(among, "") + axis
        for pair in map(frozenset, pairwise(self.acting)):
            if not any(pair <= bond for bond in found):
                found[pair] = ""
        return found


@dataclass(frozen=True)
class Route:
    """Which leaf each tensor belongs to, and which wires each bond carries.

    Attributes:
        groups: The tensors of each leaf.
        wires: The wires of each bond.
        work: How many numbers the leaves hold before they are repeated.
    """

    groups: tuple[tuple[int, ...], ...]
    wires: dict[Bond, str]
    work: int


def wiring_of(A: LinearOperator, target: LinearOperator) -> Wiring | str:
    """An operator and a structure of the same shape as networks over the same axes, or why they are none.

    Args:
        A: A concrete operator.
        target: A structure of specs.

    Returns:
        The networks; a text where there are none.
    """
    graph, leaves = Graph(), [leaf for _, leaf in A.named_leaves()]
    into = graph.axes(A.shape[1])
    ends = [one._trace(graph, into, start) for one, start in ((A, 0), (target, len(leaves)))]
    other = [one for one in (A, target) if network_of(one) is None]
    if other:
        return f"{other[0]._short()} is no contraction of its leaves, and there is no other rule for the two"
    aligned = None if ends[0] is None or ends[1] is None else graph.align(ends[0], ends[1])
    if aligned is None:
        return "the sizes that they split have no common refinement"
    net = graph.network(into, aligned[0] + aligned[1])
    ours = [(leaf, term) for leaf, term in zip(net.leaves, net.tensors) if leaf < len(leaves)]
    theirs = [(leaf - len(leaves), term) for leaf, term in zip(net.leaves, net.tensors) if leaf >= len(leaves)]
    half = len(aligned[0])
    sizes, fresh = dict(net.sizes), (letter for letter in alphabet() if letter not in net.sizes)
    rows = [next(fresh) for _ in range(half)]
    sizes.update({row: sizes[axis] for row, axis in zip(rows, net.out)})
    renamed, equal = _apart(rows, net.out[:half], net.into)
    renamed_target, blocks = _apart(rows, net.out[half:], net.into)
    if len(set(net.out[:half])) < half or len(set(net.out[half:])) < half:
        return "an axis is given twice"
    if not set(blocks) <= set(equal):
        return f"{target._short()} is zero off its diagonal blocks, and {A._short()} is not known to be"
    joined = str.maketrans(dict(blocks))
    terms = [term.translate(renamed).translate(joined) for _, term in ours]
    terms += [row + column for row, column in equal if (row, column) not in blocks]
    arrays = [leaves[leaf] for leaf, _ in ours]
    shaped = [array.reshape(tuple([sizes[axis] for axis in term])) for array, term in zip(arrays, terms)]
    found = dict(theirs)
    if sorted([leaf for leaf, _ in theirs]) != list(range(len(list(target.named_leaves())))):
        return f"{target._short()} has a leaf that acts not once"
    return Wiring(
        tuple(terms),
        (*shaped, *[None] * (len(terms) - len(shaped))),
        tuple([found[leaf].translate(renamed_target).translate(joined) for leaf in range(len(found))]),
        tuple([leaf for leaf, _ in theirs]),
        "".join(dict.fromkeys(net.into + "".join(rows).translate(joined))),
        sizes,
    )


def _apart(rows: list[str], out: str, into: str) -> tuple[dict[int, str], list[tuple[str, str]]]:
    """New names for axes of rows; which axes of rows are ones of columns."""
    pairs = list(zip(rows, out))
    return str.maketrans({axis: row for row, axis in pairs if axis not in into}), [
        (row, axis) for row, axis in pairs if axis in into
    ]


def routes(wiring: Wiring) -> Iterator[Route]:
    """The ways to lay the source along the target's bonds, whether these are wide enough or not.

    Args:
        wiring: The networks.

    Yields:
        Ways.
    """
    tensors, leaves = len(wiring.source), len(wiring.target)
    if leaves**tensors <= TRIES:
        shares: Any = product(range(leaves), repeat=tensors)
    else:
        order, one_by_one = wiring.acting, [tuple(range(leaves))] if tensors == leaves else []
        places = chain(one_by_one, islice(combinations_with_replacement(range(leaves), tensors), MOST))
        shares = (tuple([steps[place] for place in one]) for one in places for steps in (order, order[::-1]))
    for share in shares:
        route = _route(wiring, share)
        if route is not None:
            yield route


def _route(wiring: Wiring, share: Sequence[int]) -> Route | None:
    groups = tuple([tuple([k for k, leaf in enumerate(share) if leaf == own]) for own in range(len(wiring.target))])
    known = ["".join(dict.fromkeys("".join([wiring.source[k] for k in group]))) for group in groups]
    wires: dict[Bond, str] = {}
    kept = [0] * len(groups)
    for axis in dict.fromkeys("".join(known)):
        places = [leaf for leaf, axes in enumerate(known) if axis in axes]
        if axis in wiring.open:
            lacking = [leaf for leaf in places if axis not in wiring.own[leaf]]
            bonds = _to_one(wiring, lacking, [leaf for leaf, own in enumerate(wiring.own) if axis in own])
        else:
            bonds = _tree(wiring, places)
        if bonds is None:
            return None
        for bond in bonds:
            wires[bond] = wires.get(bond, "") + axis
    for leaf, axes in enumerate(known):
        here = [
            axis for axis in axes if axis in wiring.own[leaf] or any(axis in w for b, w in wires.items() if leaf in b)
        ]
        kept[leaf] = wiring.size(here)
    return Route(groups, wires, sum(kept))


def _to_one(wiring: Wiring, lacking: list[int], there: list[int]) -> set[Bond] | None:
    """The fewest bonds that join leaves to one of those that have an axis."""
    if not lacking:
        return set()
    found = [bonds for leaf in there if (bonds := _tree(wiring, [*lacking, leaf])) is not None]
    return min(found, key=len, default=None)


def _tree(wiring: Wiring, leaves: list[int]) -> set[Bond] | None:
    """Bonds that join leaves: one that all share, or paths from the first."""
    if len(leaves) < 2:
        return set()
    together = [bond for bond in wiring.bonds if bond.issuperset(leaves)]
    if together:
        return {min(together, key=len)}
    paths: dict[int, set[Bond]] = {leaves[0]: set()}
    waiting = [leaves[0]]
    for leaf in waiting:
        for bond in wiring.bonds:
            for other in sorted(bond) if leaf in bond else ():
                if other not in paths:
                    paths[other] = paths[leaf] | {bond}
                    waiting.append(other)
    return set().union(*[paths[leaf] for leaf in leaves]) if paths.keys() >= set(leaves) else None


def needs(wiring: Wiring, route: Route) -> dict[Bond, int]:
    """How wide each bond must be.

    Args:
        wiring: The networks.
        route: The way.

    Returns:
        Bond → the product of the sizes of its wires.
    """
    return {bond: wiring.size(route.wires.get(bond, "")) for bond in wiring.bonds}


def laid(wiring: Wiring, route: Route, like: Any, growth: Growth) -> list[Any]:
    """The leaves of the target, as tensors over their axes.

    Args:
        wiring: The networks.
        route: The way.
        like: An array of the framework, dtype and device.
        growth: What stands where a bond is wider than its wires.

    Returns:
        A tensor a leaf, in the order of `named_leaves`.
    """
    return [_laid(wiring, route, leaf, like, growth) for leaf in range(len(wiring.target))]


def _laid(wiring: Wiring, route: Route, leaf: int, like: Any, growth: Growth) -> Any:
    terms = [wiring.source[k] for k in route.groups[leaf]]
    arrays = [_array(wiring, k, like) for k in route.groups[leaf]]
    bonds = [bond for bond in wiring.bonds if leaf in bond]
    own, result = wiring.own[leaf], ""
    places = own + "".join([route.wires.get(bond, "") for bond in bonds])
    fresh = (letter for letter in map(chr, count(ord("α"))) if letter.isalpha() and letter not in wiring.sizes)
    for place, axis in enumerate(places):
        name = axis if axis not in places[:place] else next(fresh)
        if name != axis:
            terms.append(axis + name)
            arrays.append(backends.eye(like, wiring.sizes[axis], like.dtype))
        result += name
    for axis in dict.fromkeys(places):
        if not any(axis in term for term in terms):
            terms.append(axis)
            arrays.append(backends.zeros(like, (wiring.sizes[axis],), like.dtype) + 1)
    if not terms:
        terms, arrays = [""], [backends.zeros(like, (), like.dtype) + 1]
    widths = [(wiring.size(route.wires.get(bond, "")), wiring.size(wiring.bonds[bond])) for bond in bonds]
    tensor = contract(terms, result, *arrays)
    tensor = tensor.reshape((*[wiring.sizes[axis] for axis in own], *[used for used, _ in widths]))
    last = [max(bond, key=wiring.acting.index) == leaf for bond in bonds]
    tensor = growth.widened(tensor, len(own), widths, last, leaf)
    order = own + "".join([wiring.bonds[bond] for bond in bonds])
    tensor = tensor.reshape(tuple([wiring.sizes[axis] for axis in order]))
    return backends.permute(tensor, tuple([order.index(axis) for axis in wiring.target[leaf]]))


def _array(wiring: Wiring, k: int, like: Any) -> Any:
    array = wiring.arrays[k]
    return backends.eye(like, wiring.sizes[wiring.source[k][0]], like.dtype) if array is None else array
