"""Kronecker: the Kronecker product of any number of operators of any shapes."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from linops.checks import require_joinable
from linops.declaration import declare, remembered, tree
from linops.habits import FUNCTIONS
from linops.operator import LinearOperator
from linops.operators.outputs import first, numbered
from linops.operators.planned import Planned, first_leaves
from linops.operators.wrap import as_operators, aslinearoperator
from linops.plan.network import Axes, Graph
from linops.plan.step import Step
from linops.tags import KRONECKER, Knowledge, Tag, common


@declare(init=False)
class Kronecker(Planned):
    """The Kronecker product A_1 ⊗ … ⊗ A_c; the first factor's index is the slowest.

    Factors act one after the other, each along its own axis, in the order of fewest MACs: applying factor k of shape
    (m, n) to an operand of s numbers costs s m MACs and leaves s m / n, so by exchanging neighbours the best order
    sorts by 1/n − 1/m (the factors that shrink most go first).

    Attributes:
        factors: Operators or matrices, one by one or in a list.

    Raises:
        ValueError: If there is no factor.
        TypeError: If a factor is neither array nor operator, or backends are mixed.

    Example:
        >>> import linops as lo, numpy as np
        >>> lo.Kronecker(np.array([[1., 2.]]), lo.Identity(2)).to_dense()
        array([[1., 0., 2., 0.],
               [0., 1., 0., 2.]])
    """

    factors: Any = tree()

    def __init__(self, *operators: Any, factors: Any = None, assumed: Tag = Tag.NONE) -> None:
        object.__setattr__(self, "factors", as_operators("Kronecker", factors or operators))
        object.__setattr__(self, "assumed", assumed)

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        return prod([factor.shape[0] for factor in self.factors]), prod([factor.shape[1] for factor in self.factors])

    @remembered
    def _aliases(self) -> bool:
        return all(factor._aliases for factor in self.factors)

    @remembered
    def _order(self) -> tuple[int, ...]:
        """The positions of the factors in the order in which they act."""

        def key(position: int) -> float:
            m, n = self.factors[position].shape
            return 1 / max(n, 1) - 1 / max(m, 1)

        return tuple(sorted(range(len(self.factors)), key=key))

    @remembered
    def _places(self) -> tuple[tuple[LinearOperator, int, int, int], ...]:
        """Of each factor, as they act: it, and the sizes left of its axis, of its axis, and right of it."""
        sizes, found = [factor.shape[1] for factor in self.factors], []
        for position in self._order:
            factor = self.factors[position]
            found.append((factor, prod(sizes[:position]), sizes[position], prod(sizes[position + 1 :])))
            sizes[position] = factor.shape[0]
        return tuple(found)

    def _swept(self, x: Any, batch: Any) -> Any:
        """A x of the numbers of a features-first x with so many vectors, in any shape; the result's, in any shape."""
        for factor, left, size, right in self._places:
            right *= batch
            if right == 1:
                x = factor._rows(x if x.shape == (left, size) else x.reshape(left, size))
            else:
                x = (
                    factor._columns(x.reshape(size, right))
                    if left == 1
                    else factor._stacked(x.reshape(left, size, right))
                )
        return x

    def _natural(self, x: Any) -> Any:
        batch = x.shape[-1]
        return self._swept(x, batch).reshape(self.shape[0], batch)

    def _natural_vector(self, x: Any) -> Any:
        return self._swept(x, 1).reshape(self.shape[0])

    def _transpose(self) -> Kronecker:
        return Kronecker(*(factor.T for factor in self.factors))

    def _conj(self) -> Kronecker:
        return Kronecker(*(factor.conj() for factor in self.factors))

    def _trace(self, graph: Graph, axes: Axes, leaf: int) -> Axes | None:
        groups = graph.split(axes, [factor.shape[1] for factor in self.factors])
        if groups is None:
            return None
        starts = first_leaves(self.factors, leaf)
        for position in self._order:
            found = self.factors[position]._trace(graph, groups[position], starts[position])
            if found is None:
                return None
            groups[position] = found
        return sum(groups, ())

    def _natural_steps(self, batch: int) -> tuple[Step, ...]:
        return tuple(
            step for factor, left, _, right in self._places for step in factor._stacked_steps(left, right * batch)
        )

    def _output_leaves(self) -> tuple[str, ...]:
        named = numbered("factors", self.factors)
        return first([named[position] for position in reversed(self._order)])

    def _knowledge(self) -> Knowledge:
        if any(factor.shape[0] != factor.shape[1] for factor in self.factors):
            return Knowledge()
        return Knowledge(common(factor.tags.yes for factor in self.factors) & KRONECKER)

    def _detail(self) -> str:
        return f"{len(self.factors)} factors"


def kron(*operators: Any) -> LinearOperator:
    """The Kronecker product of operators; nested products are one.

    Args:
        *operators: Operators or matrices.

    Returns:
        The operator.

    Raises:
        ValueError: If there is no operator.
        TypeError: If one is neither array nor operator, or backends are mixed.

    Example:
        >>> import linops as lo, numpy as np
        >>> lo.kron(np.eye(2), np.ones((1, 3))).shape
        (2, 6)
    """
    factors: list[LinearOperator] = []
    for item in [aslinearoperator(operator) for operator in operators]:
        new = item.factors if isinstance(item, Kronecker) and item.assumed == Tag.NONE else (item,)
        require_joinable("Kronecker", tuple(factors), new)
        factors += new
    if not factors:
        return Kronecker()  # which says what is missing
    return Kronecker._unchecked(factors=tuple(factors))


FUNCTIONS[np.kron] = kron
