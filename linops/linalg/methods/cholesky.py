"""`Cholesky`: A = L Lᴴ of a positive definite matrix, LAPACK's potrf and potrs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.errors import SingularError
from linops.linalg.inputs import matrix_of
from linops.linalg.methods.lu import Triangles, factored_steps
from linops.linalg.methods.method import Method
from linops.operator import LinearOperator
from linops.plan.step import Step


class CholeskyFactor(Triangles):
    """A = L Lᴴ."""

    lower: Any

    def __init__(self, A: LinearOperator) -> None:
        self.lower = lapack.cholesky(matrix_of(A))
        self.is_constant: bool = lapack.is_constant(self.lower)
        if backends.all_finite(self.lower[-1:]) is False:
            raise SingularError(
                f"{A._short()} is not positive definite: its Cholesky factorisation meets a pivot that is not. "
                "lo.linalg.LU() solves with any invertible matrix"
            )

    def inverse(self) -> Any:
        """A⁻¹."""
        return lapack.cholesky_inverse(self.lower)

    def substitute(self, b: Any, transposed: bool) -> Any:
        """By L and Lᴴ; Aᵀ is the conjugate of A."""
        if not (transposed and backends.is_complex(self.lower.dtype)):
            return lapack.cholesky_solve(self.lower, b)
        return backends.conj(lapack.cholesky_solve(self.lower, backends.conj(b)))

    def slogdet(self) -> tuple[Any, Any]:
        """1 and twice the sum of the diagonal's logarithms."""
        space: Any = backends.namespace(backends.backend_of(self.lower))
        diagonal = space.real(space.diagonal(self.lower))
        return space.sum(diagonal * 0) + 1, 2 * space.sum(space.log(diagonal))


@dataclass(frozen=True)
class Cholesky(Method):
    """A = L Lᴴ of the matrix of a positive definite operator, written out, by LAPACK. The lower triangle is read.

    Cost: n³ / 6 MACs once, and n² a right-hand side; n³ / 2 once, and matrix products, from n right-hand sides on.

    Example:
        >>> import linops as lo, numpy as np
        >>> lo.linalg.solve(np.array([[2., 1.], [1., 2.]]), np.array([3., 3.]), lo.linalg.Cholesky())
        array([1., 1.])
    """

    writes = True

    def factor(self, A: LinearOperator, kept: bool) -> CholeskyFactor:
        """L; SingularError where A is not positive definite."""
        return CholeskyFactor(A)

    def steps(self, A: LinearOperator, batch: int, kept: bool) -> Iterable[Step]:
        """Factorisation and substitution."""
        return factored_steps("cholesky", A, batch, kept, 6)
