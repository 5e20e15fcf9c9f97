"""Power: an operator applied again and again."""

from __future__ import annotations

from typing import Any

from linops.declare import declare, remembered, tree
from linops.operator import LinearOperator
from linops.plan.network import Axes, Graph
from linops.plan.step import Step
from linops.tags import Knowledge, Tag


@declare
class Power(LinearOperator):
    """The power A ** k of a square operator, made by ``**``; its parameters are those of A, once.

    Cost: k times that of A.

    Attributes:
        base: A, square.
        exponent: k ≥ 2.

    Raises:
        ValueError: If A is not square or the exponent is below 2 (the algebra makes A ** 1 and A ** 0 without this class).

    Example:
        >>> import linops as lo, numpy as np
        >>> (lo.Diagonal(np.array([2., 3.])) ** 3) @ np.ones(2)
        array([ 8., 27.])
    """

    base: LinearOperator = tree()
    exponent: int = 2

    def __post_init__(self) -> None:
        if self.base.shape[0] != self.base.shape[1]:
            raise ValueError(f"{self.base._short()} ** {self.exponent}: powers need a square operator")
        if self.exponent < 2:
            raise ValueError(f"Power({self.base._short()}, {self.exponent}): the exponent must be at least 2")

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        return self.base.shape

    @remembered
    def _aliases(self) -> bool:
        return self.base._aliases

    @property
    def _prefers_rows(self) -> bool:
        return self.base._prefers_rows

    def _columns(self, x: Any) -> Any:
        for _ in range(self.exponent):
            x = self.base._columns(x)
        return x

    def _rows(self, x: Any) -> Any:
        for _ in range(self.exponent):
            x = self.base._rows(x)
        return x

    def _transpose(self) -> Power:
        return Power(self.base.T, self.exponent)

    def _conj(self) -> Power:
        return Power(self.base.conj(), self.exponent)

    def _trace(self, graph: Graph, axes: Axes, leaf: int) -> Axes | None:
        found: Axes | None = axes
        for _ in range(self.exponent):
            found = None if found is None else self.base._trace(graph, found, leaf)
        return found

    def _lower(self, batch: int) -> tuple[Step, ...]:
        return self.base._lower(batch) * self.exponent

    def _knowledge(self) -> Knowledge:
        known = self.base.tags
        kept = Tag.SYMMETRIC | Tag.HERMITIAN | Tag.ORTHOGONAL | Tag.INVERTIBLE | Tag.DIAGONAL
        kept |= Tag.LOWER_TRIANGULAR | Tag.UPPER_TRIANGULAR | Tag.POSITIVE_SEMIDEFINITE | Tag.POSITIVE_DEFINITE
        yes = known.yes & kept
        if self.exponent % 2 == 0 and Tag.HERMITIAN in yes:
            yes |= Tag.POSITIVE_SEMIDEFINITE | (Tag.POSITIVE_DEFINITE if Tag.INVERTIBLE in yes else Tag.NONE)
        return Knowledge(yes, known.no & Tag.INVERTIBLE)

    def _detail(self) -> str:
        return f"exponent {self.exponent}"
