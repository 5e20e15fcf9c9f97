"""`Net`: a structure as tensors over named axes, of which those of rows and columns are open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from linops import backends
from linops.declaration import remembered
from linops.operator import LinearOperator
from linops.operators.planned import network_of
from linops.projection.contraction import contract
from linops.projection.goal import Goal
from linops.specs import Spec


@dataclass(frozen=True)
class Net:
    """An operator as a contraction: W[out, into] = Σ Π_k leaf_k, without axes of size one.

    Attributes:
        target: The operator.
        tensors: The axes of each leaf, in the order of `named_leaves`, a letter each.
        acting: The leaves in the order in which they act.
        out: The axes of rows, slowest first.
        into: The axes of columns; an axis that is also one of rows stands for a block-diagonal structure.
        sizes: The size of each axis.
    """

    target: LinearOperator
    tensors: tuple[str, ...]
    acting: tuple[int, ...]
    out: str
    into: str
    sizes: dict[str, int]

    @remembered
    def open(self) -> str:
        """The axes of rows and columns, each once."""
        return "".join(dict.fromkeys(self.out + self.into))

    @remembered
    def free(self) -> tuple[bool, ...]:
        """Which leaves are specs, to be found."""
        return tuple(isinstance(leaf, Spec) for _, leaf in self.target.named_leaves())

    @remembered
    def is_closed(self) -> bool:
        """Whether every axis of a leaf is open or shared with another leaf."""
        every = "".join(self.tensors)
        return all(axis in self.open or every.count(axis) > 1 for axis in every)

    def dims(self, axes: str) -> tuple[int, ...]:
        """The sizes of axes."""
        return tuple([self.sizes[axis] for axis in axes])

    def size(self, axes: str) -> int:
        """The product of the sizes of axes."""
        return prod(self.dims(axes))

    def tensor(self, k: int, leaf: Any) -> Any:
        """A leaf as a tensor over its axes."""
        return leaf.reshape(self.dims(self.tensors[k]))

    def read(self, matrix: Any) -> Any:
        """The entries of a matrix (m, n) within the structure's support, over the open axes."""
        return contract([self.out + self.into], self.open, matrix.reshape(self.dims(self.out + self.into)))

    def written(self, tensors: Sequence[Any]) -> Any:
        """The matrix (m, n) of tensors."""
        terms, arrays, into = self.completed([*self.tensors], [*tensors])
        return contract(terms, self.out + into, *arrays).reshape(self.size(self.out), self.size(self.into))

    def completed(self, terms: list[str], arrays: list[Any]) -> tuple[list[str], list[Any], str]:
        """Tensors with what the matrix lacks: ones for open axes of none of them, and diagonals.

        Args:
            terms: The axes of tensors.
            arrays: The tensors.

        Returns:
            Axes and tensors, and the names of the columns' axes, which differ from those of rows.
        """
        like, doubled = arrays[0], [axis for axis in self.out if axis in self.into]
        missing = [axis for axis in self.open if not any(axis in term for term in terms) and axis not in doubled]
        names = dict(zip(doubled, _fresh(self, len(doubled))))
        arrays = [*arrays, *[backends.zeros(like, (self.sizes[axis],), like.dtype) + 1 for axis in missing]]
        arrays += [backends.eye(like, self.sizes[axis], like.dtype) for axis in doubled]
        terms = [*terms, *missing, *[axis + names[axis] for axis in doubled]]
        return terms, arrays, "".join([names.get(axis, axis) for axis in self.into])

    def operator(self, tensors: Sequence[Any]) -> LinearOperator:
        """The operator with these tensors as leaves; those that are given as arrays stay."""
        leaves = []
        for (_, leaf), tensor, free in zip(self.target.named_leaves(), tensors, self.free):
            leaves.append(tensor.reshape(tuple(leaf.shape)) if free else leaf)
        return self.target.with_leaves(leaves)


def _fresh(net: Net, count: int) -> list[str]:
    """Names that no axis has."""
    found, letter = [], ord("α")
    while len(found) < count:
        if chr(letter) not in net.sizes and chr(letter).isalpha():
            found.append(chr(letter))
        letter += 1
    return found


def net_of(target: LinearOperator) -> Net | None:
    """A structure as a net.

    Args:
        target: An operator, some of whose leaves are specs.

    Returns:
        The net, or None where it is no contraction of its leaves.
    """
    network = network_of(target)
    leaves = list(target.named_leaves())
    if network is None or sorted(network.leaves) != list(range(len(leaves))):
        return None
    tensors = dict(zip(network.leaves, network.tensors))
    return Net(
        target,
        tuple([tensors[k] for k in range(len(leaves))]),
        network.leaves,
        network.out,
        network.into,
        network.sizes,
    )


def weights_of(net: Net, goal: Goal) -> tuple[list[str], list[Any]]:
    """The diagonal metrics of a goal, and its weights of entries, as tensors over the net's axes.

    Args:
        net: The net.
        goal: The goal.

    Returns:
        The axes of each, and the arrays.
    """
    terms, arrays = [], []
    for axes, metric in ((net.out, goal.output_metric), (net.into, goal.second_moment)):
        if metric is not None and len(metric.shape) == 1:
            terms.append(axes)
            arrays.append(metric.reshape(net.dims(axes)))
    if goal.entries is not None:
        terms.append(net.open)
        arrays.append(net.read(goal.entries))
    return terms, arrays
