"""Sparse: a matrix of few entries."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import scipy

from linops import backends
from linops.checks import admit, require_array, require_size
from linops.declaration import declare, index, remembered, tree
from linops.operator import LinearOperator, flat
from linops.plan.step import Step
from linops.specs import Spec
from linops.tags import Knowledge, Tag


@declare
class Sparse(LinearOperator):
    """The (m, n) operator with few entries, A = Σ_i values[i] e(rows[i]) e(columns[i])ᵀ; those at one position add up.

    The entries are kept in order of rows, with the order of columns beside it, so that T only exchanges the two, and
    A x and Aᵀ y both sum runs of entries: compressed rows and columns. NumPy runs scipy's kernels, torch MKL's on
    CPUs that have it, or embedding bags (and plain sums where it compiles), JAX segment sums. Only the values are
    parameters; the positions are structure, some 12 bytes an entry.

    Cost: nnz multiplications and additions a vector; no MACs, for they run in no matrix product.

    Attributes:
        values: (nnz,) array or spec, the entries in order of rows; or a sparse matrix, of scipy in any format (copied),
            torch in any layout, or JAX (BCOO or BCSR), which says the positions and the size too.
        rows: (nnz,) integers, the row of each entry; given in any order, kept in rising order.
        columns: (nnz,) integers, the column of each entry.
        size: (m, n).
        by_row: Structure that follows from the rest, as all below: the order that sorts by rows, or None.
        by_column: The order that sorts by columns, or None.
        row_starts: Where each row starts.
        column_starts: Where each column starts.

    Raises:
        ValueError: If the sizes differ, or a position is outside of (m, n).
        TypeError: If an argument is no array, or positions are no integers.

    Example:
        >>> import linops as lo, numpy as np, scipy.sparse
        >>> lo.Sparse(np.array([5., 7.]), [0, 2], [1, 0], (3, 2)) @ np.array([1., 10.])
        array([50.,  0.,  7.])
        >>> lo.Sparse(scipy.sparse.diags_array(np.ones(3))).num_params
        3
    """

    values: Any = tree(axes=1)
    rows: Any = index(default=None)
    columns: Any = index(default=None)
    size: Any = None
    by_row: Any = index(default=None)
    by_column: Any = index(default=None)
    row_starts: Any = index(default=None)
    column_starts: Any = index(default=None)

    _completed: ClassVar[tuple[str, ...]] = ("row_starts", "column_starts")

    def __post_init__(self) -> None:
        if self.row_starts is None:
            for name, value in _compressed(self.values, self.rows, self.columns, self.size).items():
                object.__setattr__(self, name, value)
        else:
            _require_consistent(self)
        admit(self, "values", 1)
        if self.values.shape[0] != self.rows.shape[0]:
            raise ValueError(
                f"Sparse: values of shape {tuple(self.values.shape)} at {self.rows.shape[0]} positions; "
                "expected as many"
            )
        for name, kind in self._fields:
            if kind == "index" and (held := getattr(self, name)) is not None:
                object.__setattr__(self, name, backends.indices_beside(self.values, held))

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        return self.size

    def _positions(self) -> backends.Positions:
        return backends.Positions(
            self.size, self.rows, self.columns, self.by_row, self.by_column, self.row_starts, self.column_starts
        )

    @remembered
    def _prepared(self) -> Any:
        """What products take in the place of the positions, if that is made once."""
        return backends.prepared_sparse(self.values, self._positions())

    def _placed(self) -> Any:
        prepared = self._prepared
        return self._positions() if prepared is None else prepared

    def _columns(self, x: Any) -> Any:
        return backends.sparse_matmul(self.values, self._placed(), flat(x))

    def _vector(self, x: Any) -> Any:
        return backends.sparse_matvec(self.values, self._placed(), x)

    def _transpose(self) -> Sparse:
        return Sparse._unchecked(
            values=self.values,
            rows=self.columns,
            columns=self.rows,
            size=self.size[::-1],
            by_row=self.by_column,
            by_column=self.by_row,
            row_starts=self.column_starts,
            column_starts=self.row_starts,
        )

    def _entries(self) -> Any:
        (m, n), space = self.size, backends.namespace(backends.backend_of(self.rows))
        rows, columns = (space.astype(one, space.int64) for one in (self.rows, self.columns))
        return backends.scatter(self.values, rows * n + columns, m * n).reshape(m, n)

    def _lower(self, batch: int) -> tuple[Step, ...]:
        (m, n), entries = self.size, self.values.shape[0]
        flops = 2 * entries * batch
        step = Step("sparse", f"{entries:,} of ({m}, {n}) × ({n}, {batch})", 0, flops, n * batch, entries, m * batch)
        return (step,)

    def _leaf_fans(self) -> dict[str, tuple[int, int]]:
        (m, n), entries = self.size, self.values.shape[0]
        return {"values": (-(-entries // max(m, 1)), -(-entries // max(n, 1)))}  # means

    def _output_leaves(self) -> tuple[str, ...]:
        return ("values",)

    def _knowledge(self) -> Knowledge:
        lower = Tag.LOWER_TRIANGULAR if backends.never_exceeds(self.columns, self.rows) else Tag.NONE
        upper = Tag.UPPER_TRIANGULAR if backends.never_exceeds(self.rows, self.columns) else Tag.NONE
        return Knowledge(lower | upper)

    def _detail(self) -> str:
        return f"{self.values.shape[0]:,} entries"


def _require_consistent(sparse: Sparse) -> None:
    """Raise unless what follows from the positions does, for kernels trust it; unchecked where they are not at hand."""
    (m, n), rows, columns = sparse.size, sparse.rows, sparse.columns
    for axis, size, order, starts in (
        (rows, m, sparse.by_row, sparse.row_starts),
        (columns, n, sparse.by_column, sparse.column_starts),
    ):
        left = backends.outside(axis, size)
        if left is None:
            return
        held = [None if one is None else backends.to_numpy(one) for one in (axis, order, starts)]
        if left or not _follow(size, held[0], held[1], held[2]):
            raise ValueError(
                f"Sparse: positions of {m}×{n}, their orders and starts do not fit; "
                "give values, rows, columns and size alone"
            )


def _follow(size: int, positions: Any, order: Any, starts: Any) -> bool:
    """Whether an order sorts positions, and starts say where each of them starts then."""
    if any(one is not None and (one.dtype.kind not in "iu" or one.ndim != 1) for one in (positions, order, starts)):
        return False
    if order is not None:
        count = positions.size
        if backends.outside(order, count) or not (np.bincount(order, minlength=count) == 1).all():
            return False
        positions = positions[order]
    return (
        starts.size == size + 1
        and not (positions[1:] < positions[:-1]).any()
        and np.array_equal(starts, np.searchsorted(positions, np.arange(size + 1)))
    )


def _compressed(values: Any, rows: Any, columns: Any, size: Any) -> dict[str, Any]:
    """The fields of an operator with entries in order of rows."""
    if backends.foreign_kind(values) == "sparse":
        if not rows is columns is size is None:
            raise ValueError("Sparse: a sparse matrix says its positions and size itself; give nothing else")
        values, rows, columns, size = backends.coordinates(values)
    values = require_array("Sparse", "values", values, 1)
    if not isinstance(size, tuple) or len(size) != 2:
        raise TypeError(f"Sparse: size must be a tuple (m, n), got {size!r}")
    for name, number in zip(("m", "n"), size):
        require_size("Sparse", name, number)
    m, n = map(int, size)
    rows, columns = _integers("rows", rows, m, values), _integers("columns", columns, n, values)
    if (rows[1:] < rows[:-1]).any():
        order = np.argsort(rows, kind="stable")
        rows, columns = rows[order], columns[order]
        values = values if isinstance(values, Spec) else backends.gather(values, order)
    narrow = np.int32 if max(m, n, rows.size) < 2**31 else np.int64
    rows, columns = rows.astype(narrow), columns.astype(narrow)
    row_starts = np.searchsorted(rows, np.arange(m + 1)).astype(narrow)
    # sorted by columns in time linear in the entries: the conversion of the matrix of their numbers
    numbers = scipy.sparse.csr_array((np.arange(rows.size, dtype=narrow), columns, row_starts), shape=(m, n)).tocsc()
    return {
        "values": values,
        "size": (m, n),
        "rows": rows,
        "columns": columns,
        "by_column": numbers.data if (columns[1:] < columns[:-1]).any() else None,
        "row_starts": row_starts,
        "column_starts": numbers.indptr.astype(narrow),
    }


def _integers(name: str, given: Any, size: int, values: Any) -> np.ndarray:
    """The positions along one axis."""
    positions = backends.index_array(f"Sparse: {name}", given)
    if positions.shape != tuple(values.shape):
        raise ValueError(
            f"Sparse: {name} of shape {positions.shape} for values of shape {tuple(values.shape)}; expected the same"
        )
    if positions.dtype.kind not in "iu" and positions.size:
        raise TypeError(f"Sparse: {name} must be integers, got dtype {positions.dtype}")
    if positions.size and not 0 <= positions.min() <= positions.max() < size:
        raise ValueError(f"Sparse: {name} must be within 0 … {size - 1}, got {positions.min()} … {positions.max()}")
    return positions
