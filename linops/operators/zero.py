"""Zero."""

from __future__ import annotations

from typing import Any

from linops import backends
from linops.checks import require_size
from linops.declaration import declare
from linops.operator import LinearOperator, flat
from linops.plan.step import Step
from linops.tags import Knowledge, Tag


@declare
class Zero(LinearOperator):
    """The (m, n) operator whose product is zero, on any backend and dtype. Cost: writing the zeros.

    Attributes:
        rows: m.
        columns: n.

    Raises:
        ValueError: If a size is negative.
        TypeError: If a size is no integer.

    Example:
        >>> import linops as lo, numpy as np
        >>> lo.Zero(2, 3) @ np.ones(3)
        array([0., 0.])
    """

    rows: int
    columns: int

    _is_zero = True  # type: ignore[assignment]

    def __post_init__(self) -> None:
        require_size("Zero", "rows", self.rows)
        require_size("Zero", "columns", self.columns)

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        return self.rows, self.columns

    def _columns(self, x: Any) -> Any:
        return backends.pad_rows(flat(x)[:0], self.rows)  # of x, so that gradients of zero flow back

    def _transpose(self) -> Zero:
        return Zero(self.columns, self.rows)

    def _lower(self, batch: int) -> tuple[Step, ...]:
        return (Step("zeros", f"({self.rows}, {batch})", outputs=self.rows * batch),)

    def _knowledge(self) -> Knowledge:
        if not self.rows or self.rows != self.columns:
            return Knowledge(Tag.DIAGONAL)
        return Knowledge(Tag.DIAGONAL | Tag.POSITIVE_SEMIDEFINITE, Tag.INVERTIBLE)

    def _detail(self) -> str:
        return f"{self.rows}, {self.columns}"
