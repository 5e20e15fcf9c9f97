"""`Substitution` of triangular matrices, and `Thomas`' elimination of tridiagonal ones, with pivoting."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.inputs import matrix_of, require_no_zero, singular
from linops.linalg.methods.method import Factor, Method
from linops.operator import LinearOperator
from linops.operators.tridiagonal import Tridiagonal
from linops.plan.step import Step
from linops.tags import Tag


class Triangle(Factor):
    """One triangle of a matrix."""

    lower: Any

    def __init__(self, A: LinearOperator) -> None:
        self.matrix = getattr(A, "matrix", None) if type(A).__name__ == "Triangular" else None
        if self.matrix is None or backends.itemsize(self.matrix.dtype) > 16:
            self.matrix = matrix_of(A)
        self.lower = Tag.LOWER_TRIANGULAR in A.tags.yes
        self.is_constant: bool = lapack.is_constant(self.matrix)
        space: Any = backends.namespace(backends.backend_of(self.matrix))
        require_no_zero(A, space.diagonal(self.matrix), "its diagonal has a zero")

    def solve(self, b: Any, transposed: bool) -> Any:
        """By substitution."""
        matrix = backends.permute(self.matrix, (1, 0)) if transposed else self.matrix
        space: Any = backends.namespace(backends.backend_of(matrix))
        lower = self.lower != transposed
        # what stands in the other triangle has no gradient either
        return backends.solve_triangular(space.tril(matrix) if lower else space.triu(matrix), b, lower, False)


@dataclass(frozen=True)
class Substitution(Method):
    """Forward or backward substitution of a triangular operator. Cost: n² / 2 MACs a right-hand side."""

    def factor(self, A: LinearOperator, kept: bool) -> Triangle:
        """The triangle; SingularError where its diagonal has a zero."""
        return Triangle(A)

    def steps(self, A: LinearOperator, batch: int, kept: bool) -> Iterable[Step]:
        """Substitution."""
        n = A.shape[0]
        yield Step(
            "substitute",
            f"({n}, {n}) \\ ({n}, {batch})",
            macs=n * n * batch // 2,
            inputs=n * (n // 2 + batch),
            outputs=n * batch,
        )


class Diagonals(Factor):
    """Three diagonals; eliminated once, where that is wanted again."""

    eliminated: Any
    diagonals: Any
    operator: Any

    def __init__(self, A: Any, kept: bool = False) -> None:
        self.operator, self.diagonals = A, (A.lower, A.diag, A.upper)
        self.is_constant: bool = all(map(lapack.is_constant, self.diagonals))
        diagonals = [backends.to_numpy(one) for one in self.diagonals] if kept and self.is_constant else []
        self.eliminated = lapack.tridiagonal_factor(diagonals[1], *diagonals[::2]) if diagonals else None

    def solve(self, b: Any, transposed: bool) -> Any:
        """By elimination with pivoting, once for all right-hand sides."""
        if self.eliminated is not None and lapack.is_constant(b) and b.dtype == self.diagonals[1].dtype:
            made = self.eliminated
            return lapack.on_numpy(b, lambda b: lapack.tridiagonal_substitute(b, made, transposed), ())
        lower, diag, upper = self.diagonals[::-1] if transposed else self.diagonals
        dtype = backends.result_type(backends.backend_of(b), b.dtype, diag.dtype)
        b = b if b.dtype == dtype else backends.namespace(backends.backend_of(b)).astype(b, dtype)
        x, _ = lapack.implicit_solve(b, Tridiagonal(lower, diag, upper), _eliminated)
        if backends.all_finite(x) is False and all(map(backends.all_finite, (*self.diagonals, b))):
            raise singular(self.operator)
        return x


def _eliminated(A: Any, b: Any) -> Any:
    return lapack.tridiagonal_solve(b, A.lower, A.diag, A.upper), ()


@dataclass(frozen=True)
class Thomas(Method):
    """Elimination of a tridiagonal operator with partial pivoting, LAPACK's gtsv. Cost: 10 n FLOPs a vector."""

    of_structure = True

    def factor(self, A: LinearOperator, kept: bool) -> Diagonals:
        """The diagonals, eliminated if they are wanted again."""
        return Diagonals(A, kept)

    def steps(self, A: LinearOperator, batch: int, kept: bool) -> Iterable[Step]:
        """Elimination."""
        n = A.shape[0]
        yield Step(
            "tridiagonal solve",
            f"({n}, 3) \\ ({n}, {batch})",
            other_flops=(8 + 5 * batch) * n,
            inputs=n * (3 + batch),
            outputs=n * batch,
        )
