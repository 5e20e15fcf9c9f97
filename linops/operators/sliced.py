"""Sliced: every so many rows and columns of an operator."""

from __future__ import annotations

from typing import Any

from linops import backends
from linops.declaration import declare, remembered, tree
from linops.operator import LinearOperator, flat
from linops.operators.outputs import below
from linops.plan.step import Step
from linops.tags import Knowledge, Tag


@declare
class Sliced(LinearOperator):
    """The submatrix A[rows, columns] of two ranges, made by ``A[…]``: B[i, j] = A[rows[i], columns[j]].

    With S_I the matrix of y[i] = x[I[i]], it is S_rows A S_columnsᵀ: a product puts x into zeros at the columns,
    multiplies by A, and takes a view of the rows. The leaves are those of A, entire.

    Cost: that of A, and the copy that pads the operand where columns are left out.

    Attributes:
        base: A.
        rows: A range of positive step.
        columns: A range of positive step.

    Raises:
        ValueError: If rows or columns are no ranges, or leave the operator.

    Example:
        >>> import linops as lo, numpy as np
        >>> A = lo.Dense(np.arange(12.0).reshape(3, 4))
        >>> A[:2, 1::2] @ np.ones(2), A[1], A[-1, -1]
        (array([ 4., 12.]), array([4., 5., 6., 7.]), np.float64(11.0))
    """

    base: LinearOperator = tree()
    rows: range = None  # pyright: ignore[reportAssignmentType]
    columns: range = None  # pyright: ignore[reportAssignmentType]

    def __post_init__(self) -> None:
        if not (isinstance(self.rows, range) and isinstance(self.columns, range)):
            raise ValueError(f"Sliced of {self.base._short()}: rows and columns are ranges; write A[rows, columns]")
        for selected, size in zip((self.rows, self.columns), self.base.shape):
            if selected.step < 1 or min(selected.start, selected.stop) < 0 or (len(selected) and selected[-1] >= size):
                raise ValueError(
                    f"Sliced of {self.base._short()}: {selected} does not rise within 0 … {size - 1}; "
                    "write A[rows, columns]"
                )

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        _ = self.base.shape  # which tells of leaves that do not fit
        return len(self.rows), len(self.columns)

    @property
    def _all_rows(self) -> bool:
        return self.rows.step == 1 and len(self.rows) == self.base.shape[0]

    @property
    def _all_columns(self) -> bool:
        return self.columns.step == 1 and len(self.columns) == self.base.shape[1]

    @remembered
    def _aliases(self) -> bool:
        return self.base._aliases and self._all_columns

    def _columns(self, x: Any) -> Any:
        if not self._all_columns:
            x = backends.spread(flat(x), self.columns.start, self.columns.step, self.base.shape[1])
        y = self.base._columns(x)
        return y if self._all_rows else flat(y)[as_slice(self.rows)]

    def _transpose(self) -> Sliced:
        return Sliced._unchecked(base=self.base.T, rows=self.columns, columns=self.rows)

    def _conj(self) -> Sliced:
        return Sliced._unchecked(base=self.base.conj(), rows=self.rows, columns=self.columns)

    def _lower(self, batch: int) -> tuple[Step, ...]:
        n, (rows, columns) = self.shape[1], self.base.shape
        steps = list(self.base._lower(batch))
        if not self._all_columns:
            detail = f"({n}, {batch}) → ({columns}, {batch})"
            steps.insert(0, Step("pad", detail, inputs=n * batch, outputs=columns * batch))
        if not self._all_rows:
            steps.append(Step("view", f"rows {_text(self.rows)} of ({rows}, {batch})"))
        return tuple(steps)

    def _output_leaves(self) -> tuple[str, ...]:
        return below("base", self.base)

    def _knowledge(self) -> Knowledge:
        kept = Tag.NONE
        if self.rows.start == self.columns.start and self.rows.step == self.columns.step:
            kept |= Tag.LOWER_TRIANGULAR | Tag.UPPER_TRIANGULAR | Tag.DIAGONAL
        if self.rows == self.columns:
            kept |= PRINCIPAL | Tag.POSITIVE_DEFINITE
        return Knowledge(self.base.tags.yes & kept)

    def _detail(self) -> str:
        return f"{_text(self.rows)}, {_text(self.columns)}"


#: what S A Sᵀ has of A, whatever it selects
PRINCIPAL = Tag.SYMMETRIC | Tag.HERMITIAN | Tag.POSITIVE_SEMIDEFINITE


def as_slice(selected: range) -> slice:
    """A range of positive step as a slice."""
    return slice(selected.start, selected.stop, selected.step)


def _text(selected: range) -> str:
    """A range as a slice is written."""
    step = "" if selected.step == 1 else f":{selected.step}"
    return f"{selected.start}:{selected.stop}{step}"
