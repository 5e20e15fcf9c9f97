"""Parts of operators: what a slice or a selection takes of a matrix, a multiple, a diagonal or a circulant."""

from __future__ import annotations

from linops import backends
from linops.algebra.scale import times
from linops.operator import LinearOperator
from linops.operators.circulant import Circulant
from linops.operators.dense import Dense
from linops.operators.diagonal import Diagonal
from linops.operators.scaled import Scaled
from linops.operators.selected import Selected
from linops.operators.sliced import Sliced, as_slice
from linops.rules.functions import reduce
from linops.rules.guard import affordable
from linops.rules.pairs import computable
from linops.specs import spec


@reduce.dispatch
def _reduce_sliced(a: Sliced):
    base, rows, columns = a.base, a.rows, a.columns
    if isinstance(base, Scaled):
        return times([base], Sliced(base.base, rows, columns))
    if isinstance(base, Circulant):
        return _circulant_part(base, rows, columns)
    if not computable(a):
        return None
    if isinstance(base, Dense):
        return Dense(base.matrix[as_slice(rows), as_slice(columns)])
    if isinstance(base, Diagonal) and rows == columns:
        return Diagonal(base.diagonal[as_slice(rows)])
    return None


def _circulant_part(base: Circulant, rows: range, columns: range) -> LinearOperator | None:
    """A block with its corner on the diagonal is a leading block: rows and columns may be shifted together."""
    if rows.start != columns.start or rows.step != 1 or columns.step != 1:
        return None
    m, n = (len(columns), len(rows)) if base.transposed else (len(rows), len(columns))
    return Circulant(base.c, m, n, base.transposed)


@reduce.dispatch
def _reduce_selected(a: Selected):
    base = a.base
    if isinstance(base, Scaled):
        return times([base], Selected(base.base, a.rows, a.columns))
    if not (isinstance(base, Dense) and computable(a) and affordable(Dense(spec(*a.shape)), a)):
        return None
    matrix = base.matrix
    if a.rows is not None:
        matrix = backends.gather(matrix, a.rows)
    if a.columns is not None:
        matrix = backends.permute(backends.gather(backends.permute(matrix, (1, 0)), a.columns), (1, 0))
    return Dense(matrix)
