"""Diagonal."""

from __future__ import annotations

from typing import Any

from linops import backends
from linops.checks import admit
from linops.declaration import declare, tree
from linops.operator import LinearOperator, flat
from linops.plan.network import Axes, Graph
from linops.plan.step import Step
from linops.tags import Knowledge, Tag


@declare
class Diagonal(LinearOperator):
    """The square operator that scales each component: (A x)[i] = diagonal[i] x[i].

    Cost: n multiplications a vector.

    Attributes:
        diagonal: (n,) array or spec.

    Raises:
        ValueError: If the array has not one axis.
        TypeError: If it is no array.

    Example:
        >>> import linops as lo, numpy as np
        >>> lo.Diagonal(np.array([2., 3.])) @ np.ones(2)
        array([2., 3.])
    """

    diagonal: Any = tree(axes=1)

    def __post_init__(self) -> None:
        admit(self, "diagonal", 1)

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        (n,) = self.diagonal.shape
        return n, n

    _prefers_rows = True  # type: ignore[assignment]

    def _columns(self, x: Any) -> Any:
        return self.diagonal[:, None] * flat(x)

    def _rows(self, x: Any) -> Any:
        return x * self.diagonal

    def _stacked(self, x: Any) -> Any:
        return self.diagonal[:, None] * x

    def _vector(self, x: Any) -> Any:
        return self.diagonal * x

    def _transpose(self) -> Diagonal:
        return Diagonal(self.diagonal)

    def _trace(self, graph: Graph, axes: Axes, leaf: int) -> Axes | None:
        graph.add(leaf, axes)
        return axes

    def _lower(self, batch: int) -> tuple[Step, ...]:
        n = self.shape[0]
        step = Step(
            "scale", f"({n}, 1) · ({n}, {batch})", other_flops=n * batch, inputs=n * batch, weights=n, outputs=n * batch
        )
        return (step,)

    def _leaf_fans(self) -> dict[str, tuple[int, int]]:
        return {"diagonal": (1, 1)}

    def _output_leaves(self) -> tuple[str, ...]:
        return ("diagonal",)

    def _knowledge(self) -> Knowledge:
        return Knowledge(Tag.DIAGONAL | Tag.SYMMETRIC)

    def _detail(self) -> str:
        return ""

    def _entries(self) -> Any:
        return backends.eye(self.diagonal, self.shape[0], self.dtype) * self.diagonal
