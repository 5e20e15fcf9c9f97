"""Selected: rows and columns of an operator in any order and number."""

from __future__ import annotations

from typing import Any

import numpy as np

from linops import backends
from linops.declaration import declare, index, tree
from linops.operator import LinearOperator, flat
from linops.operators.outputs import below
from linops.operators.sliced import PRINCIPAL
from linops.plan.step import Step
from linops.tags import Knowledge, Tag


@declare
class Selected(LinearOperator):
    """The submatrix A[rows, columns] of index arrays, made by ``A[…]``: B[i, j] = A[rows[i], columns[j]].

    With S_I the matrix of y[i] = x[I[i]], it is S_rows A S_columnsᵀ: a product adds x into zeros at the columns (where
    a column is selected twice, both numbers), multiplies by A, and gathers the rows. The leaves are those of A, entire.
    Where a key has a slice and an index array, this is a selection of a `Sliced`.

    Cost: that of A, a scatter and a gather.

    Attributes:
        base: A.
        rows: Integers from 0 on, in any order and number; None for all rows.
        columns: The same of the columns.

    Raises:
        ValueError: If neither is given, or a number leaves the operator.
        TypeError: If they are no integers.

    Example:
        >>> import linops as lo, numpy as np
        >>> A = lo.Dense(np.arange(12.0).reshape(3, 4))
        >>> A[:2, [3, 0]] @ np.ones(2)
        array([ 3., 11.])
    """

    base: LinearOperator = tree()
    rows: Any = index(default=None)
    columns: Any = index(default=None)

    def __post_init__(self) -> None:
        if self.rows is None and self.columns is None:
            raise ValueError(f"Selected of {self.base._short()}: neither rows nor columns; write A[rows, columns]")
        for name, size in zip(("rows", "columns"), self.base.shape):
            if (given := getattr(self, name)) is not None:
                kept = backends.kept_indices(f"Selected: {name}", given)
                backends.check_positions(f"Selected: {name}", kept, size)
                object.__setattr__(self, name, backends.indices_beside(self.base._like, kept))

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        m, n = self.base.shape
        return m if self.rows is None else self.rows.shape[0], n if self.columns is None else self.columns.shape[0]

    def _columns(self, x: Any) -> Any:
        if self.columns is not None:
            x = backends.scatter(flat(x), self.columns, self.base.shape[1])
        y = self.base._columns(x)
        return y if self.rows is None else backends.gather(flat(y), self.rows)

    def _transpose(self) -> Selected:
        return Selected._unchecked(base=self.base.T, rows=self.columns, columns=self.rows)

    def _conj(self) -> Selected:
        return Selected._unchecked(base=self.base.conj(), rows=self.rows, columns=self.columns)

    def _lower(self, batch: int) -> tuple[Step, ...]:
        (m, n), (rows, columns) = self.shape, self.base.shape
        steps = list(self.base._lower(batch))
        if self.columns is not None:
            size, detail = n * batch, f"({n}, {batch}) → ({columns}, {batch})"
            steps.insert(0, Step("scatter", detail, other_flops=size, inputs=size, outputs=columns * batch))
        if self.rows is not None:
            steps.append(Step("gather", f"({rows}, {batch}) → ({m}, {batch})", inputs=m * batch, outputs=m * batch))
        return tuple(steps)

    def _output_leaves(self) -> tuple[str, ...]:
        return below("base", self.base)

    def _knowledge(self) -> Knowledge:
        if self.rows is None or self.columns is None:
            return Knowledge()
        rows, columns = backends.to_numpy(self.rows), backends.to_numpy(self.columns)
        if not np.array_equal(rows, columns):
            return Knowledge()
        kept = PRINCIPAL
        kept |= Tag.POSITIVE_DEFINITE | Tag.DIAGONAL if len(np.unique(rows)) == len(rows) else Tag.NONE
        kept |= Tag.LOWER_TRIANGULAR | Tag.UPPER_TRIANGULAR if (np.diff(rows) > 0).all() else Tag.NONE
        return Knowledge(self.base.tags.yes & kept)

    def _detail(self) -> str:
        rows, columns = (":" if one is None else "indices" for one in (self.rows, self.columns))
        return f"{rows}, {columns}"
