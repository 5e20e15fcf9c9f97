"""Product: the composition of operators."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise, zip_longest
from typing import Any

from linops import backends
from linops.checks import require_same_backend
from linops.declaration import declare, remembered, tree
from linops.operator import LinearOperator
from linops.operators.block_diag import BlockDiag
from linops.operators.choosing import PLANS, has_sizes
from linops.operators.fused import fuse
from linops.operators.outputs import first, numbered
from linops.operators.permute_axes import PermuteAxes, coarsest
from linops.operators.planned import Planned, first_leaves
from linops.plan.network import Axes, Graph
from linops.plan.step import Step, copy_step
from linops.sameness import adjoint_of
from linops.tags import MULTIPLICATIVE, Knowledge, Tag, common


@declare
class Product(Planned):
    """The product A_1 A_2 … A_c, made by ``@``: the last factor acts first.

    Cost: the sum of the factors' costs; permutations of axes between two factors are views. A plan may multiply factors
    with each other first, where that is faster for the number of vectors.

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
    def _meets_real(self) -> bool:
        acting, made_complex = self.factors[::-1], False
        for factor in acting:
            if not factor._meets_real or (made_complex and factor._first_leaf is not None):
                return False
            made_complex = made_complex or factor._is_complex
        return True

    @remembered
    def _aliases(self) -> bool:
        return all(factor._aliases for factor in self.factors)

    @remembered
    def _prefers_rows(self) -> bool:
        return all(factor._prefers_rows for factor in self.factors)

    @remembered
    def _parts(self) -> tuple[LinearOperator, ...]:
        """The factors as they act; runs of them that are networks are products of their own, unless all factors are."""
        acting = self.factors[::-1]
        if backends.is_compiling() or len(self._cuts) == 2:
            return acting
        parts = []
        for place, (start, stop) in enumerate(pairwise(self._cuts)):
            run = self.factors[len(acting) - stop : len(acting) - start]
            parts.append(run[0] if len(run) == 1 else self._run(run, place))
        return tuple(parts)

    def _run(self, factors: tuple[LinearOperator, ...], place: int) -> Product:
        """The product of a run of factors, which shares what the run of this place shares in all of the structure."""
        run = Product._unchecked(factors=factors)
        if self._shared is not None:
            run.__dict__["_shared"] = self._once(("run", place), lambda: run.structure)
        return run

    @remembered
    def _cuts(self) -> tuple[int, ...]:
        """Where the factors, in the order in which they act, are cut into runs."""
        return self._once("cuts", self._find_cuts)

    def _find_cuts(self) -> tuple[int, ...]:
        if not has_sizes(self):
            return (0, len(self.factors))
        return PLANS.get(("cuts", self.structure.outline), lambda: _cut(self.factors[::-1]))

    @remembered
    def _acts(self) -> tuple[Callable[[Any], Any], ...]:
        """What runs on a features-first operand, one after the other: patterns that are one call, and operators."""
        parts = self._parts
        acts: list[Callable[[Any], Any]] = []
        place = 0
        while place < len(parts):
            count, act = fuse(parts[place], parts[place + 1 :]) or (1, parts[place]._columns)
            acts.append(act)
            place += count
        return tuple(acts)

    def _natural(self, x: Any) -> Any:
        for act in self._acts:
            x = act(x)
        return x

    def _natural_rows(self, x: Any) -> Any:
        if not self._prefers_rows:
            return super()._natural_rows(x)
        for part in self._parts:
            x = part._rows(x)
        return x

    def _natural_vector(self, x: Any) -> Any:
        if not self._prefers_rows:
            return super()._natural_vector(x)
        for part in self._parts:
            x = part._vector(x)
        return x

    def _transpose(self) -> Product:
        return Product(tuple(factor.T for factor in self.factors[::-1]))

    def _conj(self) -> Product:
        return Product(tuple(factor.conj() for factor in self.factors))

    def _trace(self, graph: Graph, axes: Axes, leaf: int) -> Axes | None:
        starts = first_leaves(self.factors, leaf)
        for factor, start in zip(self.factors[::-1], starts[::-1]):
            found = factor._trace(graph, axes, start)
            if found is None:
                return None
            axes = found
        return axes

    def _natural_steps(self, batch: int) -> tuple[Step, ...]:
        return tuple(
            copy_step(step.detail, inputs=step.viewed) if _is_joined(part, after) else step
            for part, after in zip_longest(self._parts, self._parts[1:])
            for step in part._lower(batch)
        )

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


def _is_joined(part: LinearOperator, after: LinearOperator | None) -> bool:
    """Whether the axes that a part exchanges are then joined by a copy: no blocks read them as they lie."""
    if not isinstance(part, PermuteAxes) or isinstance(after, PermuteAxes):
        return False
    dims, order = coarsest(part.dims, part.order)
    is_read = isinstance(after, BlockDiag) and order == (1, 0) and after._sizes[0] == dims[1]
    return len(order) > 1 and not is_read


def _cut(acting: tuple[LinearOperator, ...]) -> tuple[int, ...]:
    """Where a chain of operators is cut into the longest runs that are networks, and operators that are none."""
    cuts, graph, axes = [0], Graph(), ()
    for place, operator in enumerate(acting):
        found = operator._trace(graph, axes, 0) if place > cuts[-1] else None
        if found is None:
            if place > cuts[-1]:
                cuts.append(place)
            graph = Graph()
            found = operator._trace(graph, graph.axes(operator.shape[1]), 0)
            if found is None:
                cuts.append(place + 1)
        axes = found or ()
    return tuple(dict.fromkeys([*cuts, len(acting)]))
