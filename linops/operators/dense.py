"""Dense: an array as an operator."""

from __future__ import annotations

from typing import Any

from linops import backends
from linops.checks import admit
from linops.declaration import declare, tree
from linops.operator import LinearOperator, flat
from linops.plan.network import Axes, Graph
from linops.plan.step import Step, matmul_step


@declare
class Dense(LinearOperator):
    """The operator of a matrix: A x = matrix · x.

    Cost: m n MACs a vector.

    Attributes:
        matrix: (m, n) array or spec.

    Raises:
        ValueError: If the array has not two axes.
        TypeError: If it is no array.

    Example:
        >>> import linops as lo, numpy as np
        >>> lo.Dense(np.array([[1., 2.], [3., 4.]])) @ np.array([1., 1.])
        array([3., 7.])
    """

    matrix: Any = tree(axes=2)

    def __post_init__(self) -> None:
        admit(self, "matrix", 2)

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        m, n = self.matrix.shape
        return m, n

    _prefers_rows = True  # type: ignore[assignment]

    def _columns(self, x: Any) -> Any:
        return self.matrix @ flat(x)

    def _rows(self, x: Any) -> Any:
        return x @ self.matrix.T

    def _stacked(self, x: Any) -> Any:
        return backends.shared_matmul(self.matrix, x)

    def _vector(self, x: Any) -> Any:
        return self.matrix @ x

    def _transpose(self) -> Dense:
        return Dense(backends.permute(self.matrix, (1, 0)))

    def _entries(self) -> Any:
        return self.matrix

    def _trace(self, graph: Graph, axes: Axes, leaf: int) -> Axes | None:
        rows = graph.axes(self.shape[0])
        graph.add(leaf, (*rows, *axes))
        return rows

    def _stacked_steps(self, count: int, batch: int) -> tuple[Step, ...]:
        m, n = self.shape
        return (matmul_step(count, m, n, batch, weights=m * n),)

    def _lower(self, batch: int) -> tuple[Step, ...]:
        return (matmul_step(1, *self.shape, batch),)

    def _output_leaves(self) -> tuple[str, ...]:
        return ("matrix",)

    def _leaf_fans(self) -> dict[str, tuple[int, int]]:
        m, n = self.shape
        return {"matrix": (n, m)}
