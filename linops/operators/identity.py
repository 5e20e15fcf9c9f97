"""Identity."""

from __future__ import annotations

from typing import Any

from linops.checks import require_size
from linops.declaration import declare
from linops.operator import LinearOperator
from linops.plan.network import Axes, Graph
from linops.plan.step import Step
from linops.tags import Knowledge, Tag


@declare
class Identity(LinearOperator):
    """The identity of size n, on any backend and dtype. Cost: none.

    Attributes:
        size: n.

    Raises:
        ValueError: If the size is negative.
        TypeError: If it is no integer.

    Example:
        >>> import linops as lo, numpy as np
        >>> lo.Identity(2) @ np.array([1., 2.])
        array([1., 2.])
    """

    size: int

    def __post_init__(self) -> None:
        require_size("Identity", "size", self.size)

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        return self.size, self.size

    _prefers_rows = True  # type: ignore[assignment]
    _aliases = True  # type: ignore[assignment]

    def _columns(self, x: Any) -> Any:
        return x

    def _rows(self, x: Any) -> Any:
        return x

    def _stacked(self, x: Any) -> Any:
        return x

    def _vector(self, x: Any) -> Any:
        return x

    def _transpose(self) -> Identity:
        return self

    def _trace(self, graph: Graph, axes: Axes, leaf: int) -> Axes | None:
        return axes

    def _lower(self, batch: int) -> tuple[Step, ...]:
        return ()

    def _knowledge(self) -> Knowledge:
        return Knowledge(Tag.POSITIVE_DEFINITE | Tag.ORTHOGONAL | Tag.DIAGONAL)

    def _detail(self) -> str:
        return str(self.size)
