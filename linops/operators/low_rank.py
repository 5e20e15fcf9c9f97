"""LowRank: a product of a tall and a wide matrix."""

from __future__ import annotations

from typing import Any

from linops import backends
from linops.checks import admit, require_leaves
from linops.declaration import declare, tree
from linops.operator import flat
from linops.operators.planned import Planned
from linops.plan.network import Axes, Graph
from linops.plan.step import Step, matmul_step
from linops.sameness import same
from linops.tags import Knowledge, Tag


@declare
class LowRank(Planned):
    """The operator U V of rank at most r; U Uᴴ is known to be positive semidefinite.

    Cost: r (m + n) MACs a vector.

    Attributes:
        U: (m, r) array or spec.
        V: (r, n) array or spec.

    Raises:
        ValueError: If the shapes do not fit.
        TypeError: If one is no array, or they are of two backends.

    Example:
        >>> import linops as lo, numpy as np
        >>> lo.LowRank(np.ones((2, 1)), np.ones((1, 3))) @ np.ones(3)
        array([3., 3.])
    """

    U: Any = tree(axes=2)
    V: Any = tree(axes=2)

    def __post_init__(self) -> None:
        admit(self, "U", 2)
        admit(self, "V", 2)
        if self.U.shape[1] != self.V.shape[0]:
            raise ValueError(
                f"LowRank: U of shape {tuple(self.U.shape)} and V of shape {tuple(self.V.shape)} do not multiply; "
                f"expected (m, r) and (r, n)"
            )
        require_leaves(self)

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        return self.U.shape[0], self.V.shape[1]

    _prefers_rows = True  # type: ignore[assignment]

    def _natural(self, x: Any) -> Any:
        return self.U @ (self.V @ flat(x))

    def _natural_rows(self, x: Any) -> Any:
        return (x @ self.V.T) @ self.U.T

    def _stacked(self, x: Any) -> Any:
        if self._plan_at(x.shape[0] * x.shape[2], x) is not None:
            return super()._stacked(x)
        return backends.shared_matmul(self.U, backends.shared_matmul(self.V, x))

    def _vector(self, x: Any) -> Any:
        return self.U @ (self.V @ x)  # in any plan, for one vector

    def _transpose(self) -> LowRank:
        return LowRank(backends.permute(self.V, (1, 0)), backends.permute(self.U, (1, 0)))

    def _trace(self, graph: Graph, axes: Axes, leaf: int) -> Axes | None:
        rank, rows = graph.axes(self.U.shape[1]), graph.axes(self.U.shape[0])
        graph.add(leaf + 1, (*rank, *axes))
        graph.add(leaf, (*rows, *rank))
        return rows

    def _natural_steps(self, batch: int) -> tuple[Step, ...]:
        m, n = self.shape
        rank = self.U.shape[1]
        return matmul_step(1, rank, n, batch), matmul_step(1, m, rank, batch)

    def _leaf_fans(self) -> dict[str, tuple[int, int]]:
        m, n = self.shape
        rank = self.U.shape[1]
        return {"U": (rank, m), "V": (n, rank)}

    def _output_leaves(self) -> tuple[str, ...]:
        return ("U",)

    def _knowledge(self) -> Knowledge:
        if self.shape[0] != self.shape[1]:
            return Knowledge()
        transpose = backends.permute(self.U, (1, 0))
        semidefinite = Tag.POSITIVE_SEMIDEFINITE if same(self.V, backends.conj(transpose)) else Tag.NONE
        return Knowledge(semidefinite | (Tag.SYMMETRIC if same(self.V, transpose) else Tag.NONE))

    def _detail(self) -> str:
        return f"rank {self.U.shape[1]}"
