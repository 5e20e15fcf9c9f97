"""`Eigh`: solving by the eigenvectors of a Hermitian operator, which keep its structure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.inputs import singular
from linops.linalg.methods.method import Factor, Method
from linops.linalg.parts import is_constant
from linops.linalg.spectra import eigh_
from linops.operator import LinearOperator, flat
from linops.plan.step import Step


class Eigenvectors(Factor):
    """A = V diag(w) Vᴴ."""

    vectors: Any
    values: Any

    def __init__(self, A: LinearOperator) -> None:
        self.operator = A
        self.is_constant: bool = is_constant(A)
        self.values, self.vectors = eigh_(A)
        if lapack.is_known(self.values) and A.shape[0]:
            space: Any = backends.namespace(backends.backend_of(self.values))
            size = space.abs(self.values)
            if bool((size <= 4 * space.finfo(size.dtype).eps * space.max(size)).any()):
                raise singular(A, "an eigenvalue is zero")

    def solve(self, b: Any, transposed: bool) -> Any:
        """V diag(1 / w) Vᴴ b."""
        if not self.is_constant:  # eigenvectors have no derivatives where eigenvalues coincide, and x has
            return lapack.implicit_solve(b, self.operator.T if transposed else self.operator, _solved)[0]
        return _divided(self.operator, self.values, self.vectors.conj() if transposed else self.vectors, b)

    def slogdet(self) -> tuple[Any, Any]:
        """The product of the eigenvalues."""
        space: Any = backends.namespace(backends.backend_of(self.values))
        return space.prod(space.sign(self.values)), space.sum(space.log(space.abs(self.values)))


def _divided(A: LinearOperator, values: Any, vectors: LinearOperator, b: Any) -> Any:
    x = flat(vectors @ ((vectors.H @ b) / values[:, None]))
    is_real = not (A._is_complex or backends.is_complex(b.dtype))  # also where the vectors are not, as of circulants
    return backends.namespace(backends.backend_of(x)).real(x) if is_real and backends.is_complex(x.dtype) else x


def _solved(A: LinearOperator, b: Any) -> Any:
    values, vectors = eigh_(A)
    return _divided(A, values, vectors, b), ()


@dataclass(frozen=True)
class Eigh(Method):
    """By eigenvalues and eigenvectors of a Hermitian operator; of a Kronecker sum, say, by those of its factors.

    Cost: that of `lo.linalg.eigh` once, and two products with the eigenvectors a right-hand side.

    Example:
        >>> import linops as lo, numpy as np
        >>> A = lo.KroneckerSum(np.diag([1., 2.]), np.array([[2., 1.], [1., 2.]]))
        >>> A = lo.assume(A, lo.Tag.SYMMETRIC)
        >>> lo.linalg.solve(A, A @ np.ones(4), lo.linalg.Eigh()).round(12)
        array([1., 1., 1., 1.])
    """

    of_structure = True

    def factor(self, A: LinearOperator, kept: bool) -> Eigenvectors:
        """Eigenvalues and eigenvectors; SingularError where a value is zero."""
        return Eigenvectors(A)

    def steps(self, A: LinearOperator, batch: int, kept: bool) -> Iterable[Step]:
        """The decomposition, and two products with the eigenvectors."""
        n = A.shape[0]
        if not kept:
            yield from eigh_.steps(A)
        yield Step("eigenvectors", f"2 × ({n}, {batch})", other_flops=n * batch, inputs=n * batch, outputs=n * batch)
