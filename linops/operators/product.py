"""Product: the composition of operators."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from linops.declare import declare, remembered, tree
from linops.expression import require_same_backend
from linops.operator import LinearOperator, flat
from linops.operators.outputs import first, numbered
from linops.plan.step import Step
from linops.structure import adjoint_of
from linops.tags import MULTIPLICATIVE, Knowledge, Tag, common


@declare
class Product(LinearOperator):
    """The product A_1 A_2 … A_c, made by ``@``: the last factor acts first.

    Cost: the sum of the factors' costs; permutations of axes between two factors are views.

    Attributes:
        factors: At least two operators whose shapes chain.

    Raises:
        ValueError: If the shapes do not chain.
        TypeError: If backends are mixed.

    Example:
        >>> import linops as lo
        >>> (lo.Dense(lo.spec(4, 3)) @ lo.Dense(lo.spec(3, 5))).shape
        (4, 5)
    """

    factors: tuple[LinearOperator, ...] = tree()

    def __post_init__(self) -> None:
        factors = self.factors
        if len(factors) < 2:
            raise ValueError(f"Product: expected at least two factors, got {len(factors)}")
        for left, right in pairwise(factors):
            if left.shape[1] != right.shape[0]:
                inner = f"the inner sizes {left.shape[1]} and {right.shape[0]} differ"
                raise ValueError(f"Product: {left._short()} @ {right._short()}: {inner}")
        require_same_backend("Product", factors)

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        return self.factors[0].shape[0], self.factors[-1].shape[1]

    @remembered
    def _aliases(self) -> bool:
        return all(factor._aliases for factor in self.factors)

    @property
    def _prefers_rows(self) -> bool:
        return all(factor._prefers_rows for factor in self.factors)

    def _columns(self, x: Any) -> Any:
        for factor in self.factors[::-1]:
            x = factor._columns(x)
        return x

    def _rows(self, x: Any) -> Any:
        if not self._prefers_rows:
            return flat(self._columns(x.T)).T
        for factor in self.factors[::-1]:
            x = factor._rows(x)
        return x

    def _vector(self, x: Any) -> Any:
        if not self._prefers_rows:
            return super()._vector(x)
        for factor in self.factors[::-1]:
            x = factor._vector(x)
        return x

    def _transpose(self) -> Product:
        return Product(tuple(factor.T for factor in self.factors[::-1]))

    def _conj(self) -> Product:
        return Product(tuple(factor.conj() for factor in self.factors))

    def _lower(self, batch: int) -> tuple[Step, ...]:
        return tuple(step for factor in self.factors[::-1] for step in factor._lower(batch))

    def _output_leaves(self) -> tuple[str, ...]:
        return first(numbered("factors", self.factors))

    def _knowledge(self) -> Knowledge:
        square = all(factor.shape[0] == factor.shape[1] for factor in self.factors)
        yes = common(factor.tags.yes for factor in self.factors) & (MULTIPLICATIVE if square else Tag.NONE)
        factors = self.factors
        while len(factors) >= 2 and adjoint_of(factors[0], factors[-1]):
            # B C Bᴴ is as Hermitian as C, and positive semidefinite if C is; B Bᴴ is so by itself
            factors = factors[1:-1]
        if len(factors) < len(self.factors) and len(factors) <= 1:
            inherited = factors[0].tags.yes if factors else Tag.POSITIVE_SEMIDEFINITE
            yes |= inherited & (Tag.HERMITIAN | Tag.POSITIVE_SEMIDEFINITE)
        return Knowledge(yes)

    def _detail(self) -> str:
        return f"{len(self.factors)} factors"
