"""Determinants of sparse operators, and their derivatives, by SuperLU.

d log det A = tr(A⁻¹ dA) takes of A⁻¹ only the entries where Aᵀ has some, which are found from some columns at a time.
Their derivatives along E are those of −A⁻¹ E A⁻¹, for which the matrix is written out.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.determinants import slogdet_
from linops.linalg.errors import SingularError
from linops.linalg.inputs import matrix_of, widened
from linops.linalg.methods.super_lu import factored
from linops.linalg.parity import parity
from linops.linalg.parts import space_of
from linops.operator import flat
from linops.operators.sparse import Sparse

#: how many numbers of A⁻¹ are held at once
_PANEL = 2**22

_INSTEAD = "Second derivatives of a sparse determinant take the whole inverse, and first ones do not"


@slogdet_.rule(
    "SuperLU; its derivatives by entries of the inverse",
    of="entries whose places are known",
    when=lambda a: a.backend != "jax" or lapack.is_known(a.rows),
    cost="that of elimination with fill-in",
)
def _slogdet_sparse(a: Sparse):
    values = widened(a, a.values)
    space: Any = space_of(values)
    is_complex = backends.is_complex(values.dtype)

    def beside(values: Any) -> Sparse:
        return a.with_leaves([values])

    def inverse_moved(values: Any, moved: Any) -> Any:
        inverse = lapack.inverse(matrix_of(beside(values), _INSTEAD))
        return -(inverse @ flat(beside(moved) @ inverse))[a.columns, a.rows]

    def moved(values: Any, moved: Any) -> Any:
        change = space.sum(lapack.found_on_numpy(values, values, lambda x: _entries(a, x), inverse_moved) * moved)
        if not is_complex:
            return space.stack([0 * change, change])
        sign = found(values)[0]
        return space.stack([1j * space.imag(change) * sign, space.real(change) + 0j])

    def found(values: Any) -> Any:
        two = backends.zeros(values, (2,), values.dtype)
        return lapack.found_on_numpy(values, two, lambda x: _slogdet(a, x), moved)

    sign, logarithm = found(values)
    return sign, (space.real(logarithm) if is_complex else logarithm)


def _slogdet(a: Sparse, values: np.ndarray) -> np.ndarray:
    """Sign and logarithm, of the dtype of the values."""
    try:
        factors = factored(a, values)
    except SingularError:
        return np.array([0, -np.inf], values.dtype)
    sign, logarithm = lapack.log_product(factors.U.diagonal())
    return np.array([sign * (parity(factors.perm_r) * parity(factors.perm_c)), logarithm], values.dtype)


def _entries(a: Sparse, values: np.ndarray) -> np.ndarray:
    """(A⁻¹)_ji for each entry (i, j) of A: some columns of the inverse at a time."""
    factors = factored(a, values)
    rows, columns = (backends.to_numpy(one) for one in (a.rows, a.columns))
    n, found = a.shape[0], np.empty_like(values)
    width = max(1, _PANEL // n)
    for start in range(0, n, width):
        stop = min(start + width, n)
        panel = np.zeros((n, stop - start), np.result_type(values, np.float64))
        panel[np.arange(start, stop), np.arange(stop - start)] = 1
        here = slice(*np.searchsorted(rows, (start, stop)))  # which are in order
        found[here] = factors.solve(panel)[columns[here], rows[here] - start]
    return found
