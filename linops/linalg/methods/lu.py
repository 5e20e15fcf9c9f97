"""`LU`: Gaussian elimination with partial pivoting, LAPACK's getrf and getrs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.inputs import matrix_of, require_no_zero
from linops.linalg.methods.method import Factor, Method
from linops.operator import LinearOperator
from linops.operators.dense import Dense
from linops.plan.step import Step, matmul_step


class Triangles(Factor):
    """Triangular factors of a matrix; its inverse, once there are as many right-hand sides as unknowns."""

    _written: Dense | None = None

    def solve(self, b: Any, transposed: bool) -> Any:
        """A⁻¹ b or A⁻ᵀ b; from n right-hand sides on by the inverse, in matrix products."""
        if 1 < b.shape[0] <= b.shape[1]:
            return self.written(transposed).matrix @ b
        return self.substitute(b, transposed)

    def written(self, transposed: bool) -> Dense:
        """A⁻¹ or A⁻ᵀ, made once."""
        inverse = self._written
        if inverse is None:
            inverse = Dense(self.inverse())
            if self.is_constant:
                self._written = inverse
        return Dense(backends.permute(inverse.matrix, (1, 0))) if transposed else inverse

    def inverse(self) -> Any:
        """A⁻¹."""
        raise NotImplementedError

    def substitute(self, b: Any, transposed: bool) -> Any:
        """A⁻¹ b or A⁻ᵀ b by the triangles."""
        raise NotImplementedError


class LUFactor(Triangles):
    """P A = L U."""

    pivots: Any
    lu: Any

    def __init__(self, A: LinearOperator) -> None:
        self.lu, self.pivots = lapack.lu_factor(matrix_of(A))
        self.is_constant: bool = lapack.is_constant(self.lu)

    @property
    def diagonal(self) -> Any:
        """The diagonal of U."""
        return self.lu.diagonal()

    def inverse(self) -> Any:
        """A⁻¹."""
        return lapack.lu_inverse(self.lu, self.pivots)

    def substitute(self, b: Any, transposed: bool) -> Any:
        """By L and U."""
        return lapack.lu_solve(self.lu, self.pivots, b, transposed)

    def slogdet(self) -> tuple[Any, Any]:
        """The product of the pivots."""
        diagonal = self.diagonal
        space: Any = backends.namespace(backends.backend_of(diagonal))
        return lapack.lu_sign(self.pivots) * space.prod(space.sign(diagonal)), space.sum(space.log(space.abs(diagonal)))


@dataclass(frozen=True)
class LU(Method):
    """Gaussian elimination with partial pivoting of the matrix written out, by LAPACK.

    Cost: n³ / 3 MACs once, and n² a right-hand side; n³ once, and matrix products, from n right-hand sides on.

    Example:
        >>> import linops as lo, numpy as np
        >>> lo.linalg.solve(np.array([[0., 1.], [2., 0.]]), np.array([1., 2.]), lo.linalg.LU())
        array([1., 1.])
    """

    writes = True

    def factor(self, A: LinearOperator, kept: bool) -> LUFactor:
        """P A = L U; SingularError where a pivot is zero."""
        found = LUFactor(A)
        require_no_zero(A, found.diagonal, "elimination meets a pivot of zero")
        return found

    def once(self, A: LinearOperator, b: Any, transposed: bool) -> Any:
        """In one call of LAPACK's gesv; by the inverse from n right-hand sides on."""
        if b.shape[1] < b.shape[0]:
            matrix = matrix_of(A)
            x = lapack.solve(backends.permute(matrix, (1, 0)) if transposed else matrix, b)
            if backends.all_finite(x) is not False:
                return x
        return super().once(A, b, transposed)  # which says why

    def steps(self, A: LinearOperator, batch: int, kept: bool) -> Iterable[Step]:
        """Elimination and substitution."""
        return factored_steps("lu", A, batch, kept, 3)


def factored_steps(name: str, A: LinearOperator, batch: int, kept: bool, share: int) -> Iterable[Step]:
    """A factorisation of n³ / share MACs, and solving by it."""
    n = A.shape[0]
    if not kept:
        yield from written_steps(A)
        macs = n**3 // share if batch < n else n**3 * 3 // share
        yield Step(name if batch < n else f"{name}, inverse", f"({n}, {n})", macs=macs, inputs=n * n, outputs=n * n)
    if batch < n:
        yield Step(
            "substitute", f"({n}, {n}) \\ ({n}, {batch})", macs=n * n * batch, inputs=n * (n + batch), outputs=n * batch
        )
    else:
        yield matmul_step(1, n, n, batch)


def written_steps(A: LinearOperator) -> Iterable[Step]:
    """Writing an operator out, by a product with the identity where no array holds it."""
    if type(A).__name__ not in ("Dense", "Triangular"):
        cost = A.cost(A.shape[1])
        m, n = A.shape
        yield Step("write out", f"({m}, {n})", macs=cost.macs, inputs=n * n, outputs=m * n)
