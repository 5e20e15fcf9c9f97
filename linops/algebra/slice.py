"""A[rows, columns]: everything is A, a part of a part is a part, a part of zero is zero; integers give arrays."""

from __future__ import annotations

from typing import Any

from linops import backends
from linops.dispatch import generic
from linops.operator import LinearOperator, slice_
from linops.operators.dense import Dense
from linops.operators.selected import Selected
from linops.operators.sliced import Sliced, as_slice
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
    return a if _is_all(rows, m) and _is_all(columns, n) else part(a, rows, columns)


@generic
def part(a, rows, columns):
    """A[rows, columns] of ranges of positive step and index arrays, not both of which are everything."""


@part.dispatch
def _part_of_any(a: LinearOperator, rows: Any, columns: Any):
    return _new_part(a, rows, columns)


def _new_part(a: LinearOperator, rows: Any, columns: Any) -> LinearOperator:
    """The part as a slice of A, a selection, or a selection of a slice."""
    if a._is_zero:
        return Zero(len(rows), len(columns))
    everything = tuple(map(range, a.shape))
    ranges = tuple([one if isinstance(one, range) else every for one, every in zip((rows, columns), everything)])
    indices = [None if isinstance(one, range) else one for one in (rows, columns)]
    sliced = a if ranges == everything else Sliced(a, *ranges)
    return sliced if all(one is None for one in indices) else Selected(sliced, *indices)


@part.dispatch
def _part_of_sliced(a: Sliced, rows: Any, columns: Any):
    if a.assumed != Tag.NONE:
        return _new_part(a, rows, columns)
    return slice_(a.base, chained(a.rows, rows), chained(a.columns, columns))


@part.dispatch
def _part_of_selected(a: Selected, rows: Any, columns: Any):
    if a.assumed != Tag.NONE:
        return _new_part(a, rows, columns)
    rows = rows if a.rows is None else chained(a.rows, rows)
    return slice_(a.base, rows, columns if a.columns is None else chained(a.columns, columns))


def _own(a: LinearOperator, entries: Any) -> Any:
    """Entries in memory of their own: those of a matrix that is at hand are views."""
    return backends.copy(entries) if isinstance(a, Dense) and backends.is_array(entries) else entries


def _is_all(selected: Any, size: int) -> bool:
    return isinstance(selected, range) and selected == range(size)


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
    return a._matmul(a._unit_columns(column, 1)[:, 0])


def _take(vector: Any, selected: Any) -> Any:
    if isinstance(selected, int):
        return vector[selected]
    if isinstance(selected, range):
        return vector[as_slice(selected)]
    return backends.gather(vector, backends.indices_beside(vector, selected))
