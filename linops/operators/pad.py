"""Pad: ones on the diagonal, so that a product pads with zeros or crops."""

from __future__ import annotations

from typing import Any

from linops import backends
from linops.checks import require_size
from linops.declaration import declare
from linops.operator import LinearOperator, flat
from linops.plan.step import Step
from linops.tags import Knowledge, Tag


@declare
class Pad(LinearOperator):
    """The (m, n) operator with ones on the diagonal: A x pads x with zeros (m > n) or crops it (m < n).

    Cost: a copy when it pads, none when it crops.

    Attributes:
        rows: m.
        columns: n.

    Raises:
        ValueError: If a size is negative.
        TypeError: If a size is no integer.

    Example:
        >>> import linops as lo, numpy as np
        >>> lo.Pad(3, 2) @ np.array([1., 2.])
        array([1., 2., 0.])
    """

    rows: int
    columns: int

    def __post_init__(self) -> None:
        require_size("Pad", "rows", self.rows)
        require_size("Pad", "columns", self.columns)

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        return self.rows, self.columns

    @property
    def _aliases(self) -> bool:
        return self.rows <= self.columns

    def _columns(self, x: Any) -> Any:
        return backends.pad_rows(flat(x), self.rows)

    def _transpose(self) -> Pad:
        return Pad(self.columns, self.rows)

    def _lower(self, batch: int) -> tuple[Step, ...]:
        detail = f"({self.columns}, {batch}) → ({self.rows}, {batch})"
        if self._aliases:
            return (Step("view", f"crop {detail}"),)
        return (Step("pad", detail, inputs=self.columns * batch, outputs=self.rows * batch),)

    def _knowledge(self) -> Knowledge:
        return Knowledge(
            Tag.DIAGONAL | (Tag.POSITIVE_DEFINITE | Tag.ORTHOGONAL if self.rows == self.columns else Tag.NONE)
        )

    def _detail(self) -> str:
        return f"{self.rows}, {self.columns}"
