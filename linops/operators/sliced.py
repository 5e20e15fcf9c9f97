"""Sliced: some rows and columns of an operator."""

from __future__ import annotations

from typing import Any

import numpy as np

from linops import backends
from linops.declaration import declare, index, remembered, tree
from linops.operator import LinearOperator, flat
from linops.operators.outputs import below
from linops.plan.step import Step
from linops.tags import Knowledge, Tag


@declare
class Sliced(LinearOperator):
    """The submatrix A[rows, columns], made by ``A[…]``: B[i, j] = A[rows[i], columns[j]].

    With S_I the matrix of y[i] = x[I[i]], it is S_rows A S_columnsᵀ: a product adds x into zeros at the columns (where
    a column is selected twice, both numbers), multiplies by A, and takes the rows. The leaves are those of A, entire.

    Cost: that of A, and the moves of numbers; slices need no gather.

    Attributes:
        base: A.
        rows: A range of positive step, or None where there are `row_indices`.
        columns: A range of positive step, or None where there are `column_indices`.
        row_indices: Integers from 0 on, in any order and number.
        column_indices: Integers from 0 on, in any order and number.

    Example:
        >>> import linops as lo, numpy as np
        >>> A = lo.Dense(np.arange(12.0).reshape(3, 4))
        >>> A[:2, [3, 0]] @ np.ones(2), A[1], A[-1, -1]
        (array([ 3., 11.]), array([4., 5., 6., 7.]), np.float64(11.0))
    """

    base: LinearOperator = tree()
    rows: range | None = None
    columns: range | None = None
    row_indices: Any = index(default=None)
    column_indices: Any = index(default=None)

    def __post_init__(self) -> None:
        if (self.rows is None) == (self.row_indices is None) or (self.columns is None) == (self.column_indices is None):
            raise ValueError(
                f"Sliced of {self.base._short()}: one of rows and row_indices, and of columns; write A[rows, columns]"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        _ = self.base.shape  # which tells of leaves that do not fit
        m = len(self.rows) if self.rows is not None else self.row_indices.shape[0]
        n = len(self.columns) if self.columns is not None else self.column_indices.shape[0]
        return m, n

    @property
    def _all_rows(self) -> bool:
        return self.rows is not None and self.rows.step == 1 and len(self.rows) == self.base.shape[0]

    @property
    def _all_columns(self) -> bool:
        return self.columns is not None and self.columns.step == 1 and len(self.columns) == self.base.shape[1]

    @remembered
    def _aliases(self) -> bool:
        return self.base._aliases and self._all_columns and self.rows is not None

    def _columns(self, x: Any) -> Any:
        if self.columns is None:
            x = backends.scatter(flat(x), self.column_indices, self.base.shape[1])
        elif not self._all_columns:
            x = backends.spread(flat(x), self.columns.start, self.columns.step, self.base.shape[1])
        y = self.base._columns(x)
        if self._all_rows:
            return y
        if self.rows is None:
            return backends.gather(flat(y), self.row_indices)
        return flat(y)[self.rows.start : self.rows.stop : self.rows.step]

    def _transpose(self) -> Sliced:
        return Sliced(self.base.T, self.columns, self.rows, self.column_indices, self.row_indices)

    def _conj(self) -> Sliced:
        return Sliced(self.base.conj(), self.rows, self.columns, self.row_indices, self.column_indices)

    def _lower(self, batch: int) -> tuple[Step, ...]:
        (m, n), (rows, columns) = self.shape, self.base.shape
        steps = list(self.base._lower(batch))
        if not self._all_columns:
            kind = "scatter" if self.columns is None else "pad"
            detail = f"({n}, {batch}) → ({columns}, {batch})"
            added = n * batch if kind == "scatter" else 0
            steps.insert(0, Step(kind, detail, other_flops=added, inputs=n * batch, outputs=columns * batch))
        if self.rows is None:
            steps.append(Step("gather", f"({rows}, {batch}) → ({m}, {batch})", inputs=m * batch, outputs=m * batch))
        elif not self._all_rows:
            steps.append(Step("view", f"rows {_text(self.rows)} of ({rows}, {batch})"))
        return tuple(steps)

    def _output_leaves(self) -> tuple[str, ...]:
        return below("base", self.base)

    def _knowledge(self) -> Knowledge:
        known, kept = self.base.tags.yes, Tag.NONE
        if self.rows is not None and self.columns is not None:
            distinct = increasing = True
            principal = self.rows == self.columns
            if self.rows.start == self.columns.start and self.rows.step == self.columns.step:
                kept |= Tag.LOWER_TRIANGULAR | Tag.UPPER_TRIANGULAR | Tag.DIAGONAL
        elif self.row_indices is not None and self.column_indices is not None:
            rows, columns = backends.to_numpy(self.row_indices), backends.to_numpy(self.column_indices)
            principal = np.array_equal(rows, columns)
            distinct, increasing = len(np.unique(rows)) == len(rows), bool((np.diff(rows) > 0).all())
        else:
            return Knowledge()
        if principal:  # S A Sᵀ
            kept |= Tag.SYMMETRIC | Tag.HERMITIAN | Tag.POSITIVE_SEMIDEFINITE
            kept |= Tag.POSITIVE_DEFINITE | Tag.DIAGONAL if distinct else Tag.NONE
            kept |= Tag.LOWER_TRIANGULAR | Tag.UPPER_TRIANGULAR if increasing else Tag.NONE
        return Knowledge(known & kept)

    def _detail(self) -> str:
        rows = "indices" if self.rows is None else _text(self.rows)
        return f"{rows}, {'indices' if self.columns is None else _text(self.columns)}"


def _text(selected: range) -> str:
    """A range as a slice."""
    step = "" if selected.step == 1 else f":{selected.step}"
    return f"{selected.start}:{selected.stop}{step}"
