"""`SVD`: least squares by singular values, of which small ones may count as zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.inputs import matrix_of
from linops.linalg.parts import adjoint, is_constant, space_of
from linops.linalg.pseudoinversion import cutoff
from linops.linalg.settings import Settings
from linops.linalg.singular import svd_
from linops.linalg.spectra import DENSELY
from linops.operator import LinearOperator
from linops.operators.dense import Dense
from linops.operators.diagonal import Diagonal


@dataclass(frozen=True)
class SVD(Settings):
    """Least squares by singular values: A⁺ = V diag(1/s) Uᴴ, without those s that count as zero.

    U and V keep the structure of A, as those of `lo.linalg.svd`. Where derivatives are taken, or a program is traced,
    the matrix is written out; derivatives are those of the truncated pseudoinverse, in which small singular values
    are left out, and need a gap between those that count and those that do not.

    Attributes:
        rtol: Singular values of at most rtol times the largest one count as zero; None is ε max(m, n).

    Cost: that of `lo.linalg.svd` once, and products with U and V a right-hand side.

    Example:
        >>> import linops as lo, numpy as np
        >>> lo.linalg.pinv(np.diag([4., 2., 1e-6]), lo.linalg.SVD(rtol=1e-3)).to_dense().round(12)
        array([[0.25, 0.  , 0.  ],
               [0.  , 0.5 , 0.  ],
               [0.  , 0.  , 0.  ]])
    """

    rtol: float | None = None

    def __post_init__(self) -> None:
        if self.rtol is not None and not 0 <= self.rtol < 1:
            raise ValueError(f"SVD: rtol must be at least 0 and less than 1, got {self.rtol!r}")

    def pseudoinverse(self, A: LinearOperator) -> LinearOperator:
        """V diag(1/s) Uᴴ as an operator.

        Args:
            A: A concrete operator in a dtype that LAPACK has.

        Returns:
            The operator A⁺.
        """
        if is_constant(A) and svd_.find(A).says != DENSELY:
            return self._structured(A)
        matrix = matrix_of(A)
        least = cutoff(A.shape, matrix.dtype, space_of(matrix))
        if self.rtol is None or lapack.is_constant(matrix) or 0 in A.shape:
            return Dense(lapack.pinv(matrix, least if self.rtol is None else self.rtol))
        return Dense(lapack.pinv(_truncated(matrix, self.rtol), max(self.rtol / 2, least)))

    def _structured(self, A: LinearOperator) -> LinearOperator:
        U, s, Vh = svd_(A, True)
        space = space_of(s)
        rtol = cutoff(A.shape, s.dtype, space) if self.rtol is None else self.rtol
        is_zero = s <= (rtol * s.max() if s.shape[0] else 0)
        inverse = space.where(is_zero, 0 * s, 1 / space.where(is_zero, 1 + 0 * s, s))
        kind = next((one.dtype for one in (U, Vh) if one.dtype is not None and one.backend != "numpy"), s.dtype)
        return Vh.H @ Diagonal(space.astype(inverse, kind)) @ U.H


def _truncated(a: Any, rtol: float) -> Any:
    """The matrix without the singular values of at most rtol times the largest.

    They are the positive eigenvalues of [[0, A], [Aᴴ, 0]], whose eigenvectors have derivatives also where A's singular
    values are zero or coincide, as long as those left out and those kept do not meet.
    """
    space, (m, n) = space_of(a), a.shape
    above = backends.concatenate(backends.zeros(a, (m, m), a.dtype), [adjoint(a)])
    beside = backends.concatenate(a, [backends.zeros(a, (n, n), a.dtype)])
    whole = adjoint(backends.concatenate(adjoint(above), [adjoint(beside)]))
    values, vectors = lapack.eigh(whole)
    size = space.abs(lapack.stop_gradient(values))
    kept = space.where(size > rtol * size.max(), 1 + 0 * size, 0 * size)
    return ((vectors * space.astype(kept, a.dtype)) @ adjoint(vectors))[:m] @ whole[:, m:]
