"""Parts of operators: what a slice selects of a matrix, a diagonal or a circulant."""

from __future__ import annotations

from typing import Any

from linops import backends
from linops.algebra.scale import times
from linops.operator import LinearOperator
from linops.operators.circulant import Circulant
from linops.operators.dense import Dense
from linops.operators.diagonal import Diagonal
from linops.operators.scaled import Scaled
from linops.operators.sliced import Sliced
from linops.rules.functions import reduce
from linops.rules.guard import affordable
from linops.rules.pairs import computable
from linops.specs import spec


@reduce.dispatch
def _reduce_sliced(a: Sliced):
    base, rows, columns = a.base, a.rows, a.columns
    if isinstance(base, Scaled):
        return times([base], Sliced(base.base, rows, columns, a.row_indices, a.column_indices))
    if isinstance(base, Circulant):
        return _circulant_part(base, rows, columns)
    if not computable(a):
        return None
    if isinstance(base, Dense) and affordable(Dense(spec(*a.shape)), a):
        matrix = _selected(base.matrix, rows, a.row_indices)
        return Dense(backends.permute(_selected(backends.permute(matrix, (1, 0)), columns, a.column_indices), (1, 0)))
    if isinstance(base, Diagonal) and rows is not None and rows == columns:
        return Diagonal(_selected(base.diagonal, rows, None))
    return None


def _circulant_part(base: Circulant, rows: range | None, columns: range | None) -> LinearOperator | None:
    """A block with its corner on the diagonal is a leading block: rows and columns may be shifted together."""
    if rows is None or columns is None or rows.start != columns.start or rows.step != 1 or columns.step != 1:
        return None
    m, n = (len(columns), len(rows)) if base.transposed else (len(rows), len(columns))
    return Circulant(base.c, m, n, base.transposed)


def _selected(array: Any, selected: range | None, indices: Any) -> Any:
    return (
        backends.gather(array, indices) if selected is None else array[selected.start : selected.stop : selected.step]
    )
