"""A[rows, columns]: everything is A, a part of a part is a part, a part of zero is zero; integers give arrays."""

from __future__ import annotations

from typing import Any

from linops import backends
from linops.operator import LinearOperator, slice_
from linops.operators.dense import Dense
from linops.operators.sliced import Sliced
from linops.operators.zero import Zero
from linops.subscript import chained
from linops.tags import Tag


@slice_.dispatch
def _slice(a: LinearOperator, rows: Any, columns: Any):
    if isinstance(columns, int):
        return _own(a, _take(_column(a, columns), rows))
    if isinstance(rows, int):
        return _own(a, _take(_row(a, rows), columns))
    m, n = a.shape
    if _is_all(rows, m) and _is_all(columns, n):
        return a
    if isinstance(a, Zero):
        return Zero(len(rows), len(columns))
    if isinstance(a, Sliced) and a.assumed == Tag.NONE:
        rows = chained(a.row_indices if a.rows is None else a.rows, rows)
        columns = chained(a.column_indices if a.columns is None else a.columns, columns)
        return slice_(a.base, rows, columns)
    (rows, row_indices), (columns, column_indices) = _placed(rows, a), _placed(columns, a)
    return Sliced(a, rows, columns, row_indices, column_indices)


def _own(a: LinearOperator, entries: Any) -> Any:
    """Entries in memory of their own: those of a matrix that is at hand are views."""
    return backends.copy(entries) if isinstance(a, Dense) and backends.is_array(entries) else entries


def _is_all(selected: Any, size: int) -> bool:
    return isinstance(selected, range) and selected == range(size)


def _placed(selected: Any, a: LinearOperator) -> tuple[range | None, Any]:
    """(range, None) or (None, index array where A's arrays are)."""
    if isinstance(selected, range):
        return selected, None
    return None, backends.asarray(selected, "torch", None, a.device) if a.backend == "torch" else selected


def _row(a: LinearOperator, row: int) -> Any:
    """A[row, :]."""
    return a.matrix[row] if isinstance(a, Dense) and not a.is_symbolic else _column(a.T, row)


def _column(a: LinearOperator, column: int) -> Any:
    """A[:, column]."""
    if a.is_symbolic:
        raise TypeError(
            f"{a._short()} is symbolic: it has no entries. Make it concrete first: A.init(seed=0, backend='numpy')"
        )
    if isinstance(a, Dense):
        return a.matrix[:, column]
    return a._vector(a._unit_columns(column, 1)[:, 0])


def _take(vector: Any, selected: Any) -> Any:
    if isinstance(selected, int):
        return vector[selected]
    return (
        vector[selected.start : selected.stop : selected.step]
        if isinstance(selected, range)
        else backends.gather(vector, selected)
    )
