"""`QR`: A = Q R, orthonormal columns and a triangle, whose factors keep the structure of A."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.errors import SingularError
from linops.linalg.factors import qr_
from linops.linalg.inversion import inverse_
from linops.linalg.methods.method import Factor, Method
from linops.linalg.parts import is_constant
from linops.linalg.traces import diagonal_
from linops.operator import LinearOperator, flat
from linops.plan.step import Step


class QRFactor(Factor):
    """The pseudoinverse R⁻¹ Qᴴ of A = Q R with independent columns; with more columns than rows that of Aᴴ, adjoint."""

    def __init__(self, A: LinearOperator) -> None:
        self.is_constant: bool = is_constant(A)
        is_wide = A.shape[0] < A.shape[1]
        Q, R = qr_(A.H if is_wide else A)
        _require_full_rank(A, diagonal_(R))
        inverse = inverse_(R, True)
        self.pseudoinverse: LinearOperator = Q @ inverse.H if is_wide else inverse @ Q.H

    def solve(self, b: Any, transposed: bool) -> Any:
        """R⁻¹ Qᴴ b, or its transpose's."""
        return flat((self.pseudoinverse.T if transposed else self.pseudoinverse) @ b)


def _require_full_rank(A: LinearOperator, diagonal: Any) -> None:
    """Raise where a number on R's diagonal is zero but for rounding."""
    if not diagonal.shape[0] or not lapack.is_known(diagonal):
        return
    space: Any = backends.namespace(backends.backend_of(diagonal))
    size = space.abs(lapack.stop_gradient(diagonal))
    if bool(size.min() <= float(space.finfo(size.dtype).eps) * max(A.shape) * size.max()):
        raise SingularError(
            f"{A._short()} has not full rank: R of its QR factorisation has a zero on the diagonal. "
            "lo.linalg.lstsq and lo.linalg.pinv with lo.linalg.SVD() take any rank"
        )


@dataclass(frozen=True)
class QR(Method):
    """A = Q R by reflections, which is stable; of `lstsq` and `pinv` as well, for any shape, at full rank.

    The solution is R⁻¹ Qᴴ b. With more columns than rows Aᴴ = Q R, and it is Q R⁻ᴴ b, the shortest. The factors keep
    the structure of A, as those of `lo.linalg.qr`.

    Cost: m n² - n³ / 3 MACs of the matrix once where there is no structure, and 2 m n a right-hand side.

    Raises:
        SingularError: If A has not full rank, as R's diagonal shows it.

    Example:
        >>> import linops as lo, numpy as np
        >>> A = np.array([[1., 0.], [1., 0.], [0., 1.]])
        >>> lo.linalg.lstsq(A, np.array([1., 2., 3.]), lo.linalg.QR()).round(12)
        array([1.5, 3. ])
    """

    of_structure = True

    def factor(self, A: LinearOperator, kept: bool) -> QRFactor:
        """Q and R; SingularError where A has not full rank."""
        return QRFactor(A)

    def pseudoinverse(self, A: LinearOperator) -> LinearOperator:
        """R⁻¹ Qᴴ as an operator.

        Args:
            A: A concrete operator of full rank, in a dtype that LAPACK has.

        Returns:
            The operator A⁺.
        """
        return QRFactor(A).pseudoinverse

    def steps(self, A: LinearOperator, batch: int, kept: bool) -> Iterable[Step]:
        """The factorisation, and products with its factors."""
        m, n = A.shape
        if not kept:
            yield from qr_.steps(A)
        yield Step("substitute", f"2 × ({m}, {n}, {batch})", macs=2 * m * n * batch, inputs=m * n, outputs=n * batch)
