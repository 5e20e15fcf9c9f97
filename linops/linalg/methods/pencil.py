"""`Pencil`: A₁ ⊗ B₁ + A₂ ⊗ B₂ by the generalised eigenvectors of the two pairs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy  # whose submodules load when they are first used

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.errors import SingularError
from linops.linalg.inputs import DENSE_LIMIT, matrices_of, matrix_of
from linops.linalg.methods.black_box import BlackBox
from linops.linalg.methods.method import Method
from linops.operator import LinearOperator
from linops.operators.kronecker import Kronecker
from linops.plan.step import Step


def is_pencil(A: Any) -> bool:
    """Whether a sum is of two Kronecker products of two square factors each, of equal sizes."""
    terms = A.terms
    return (
        len(terms) == 2
        and all(isinstance(term, Kronecker) and len(term.factors) == 2 for term in terms)
        and all(factor.shape[0] == factor.shape[1] for term in terms for factor in term.factors)
        and A.backend is not None
        and [factor.shape for factor in terms[0].factors] == [factor.shape for factor in terms[1].factors]
    )


class Diagonalised(BlackBox):
    """A₁ P = A₂ P Λ and B₁ Q = B₂ Q M: (A₂ P ⊗ B₂ Q) (Λ ⊗ M + I) (P ⊗ Q)⁻¹."""

    def prepare(self, A: Any) -> Any:
        """The eigenvectors, where there are numbers."""
        matrices = _matrices(A)
        if not all(map(lapack.is_known, matrices)):
            return None
        return _decomposed([backends.to_numpy(lapack.stop_gradient(matrix)) for matrix in matrices])

    def run(self, A: Any, prepared: Any, b: Any) -> Any:
        """Into the bases, division, and back; refined twice, and by the whole matrix where that is not enough."""

        def solved(b: np.ndarray, *matrices: np.ndarray) -> np.ndarray:
            made = prepared or _decomposed(matrices)
            (a1, b1, a2, b2), _, _ = made
            x, right = np.zeros(b.shape, np.result_type(b, 1j)), b
            sizes = len(a1), len(b1)

            def product(x: np.ndarray) -> np.ndarray:
                x = x.reshape(*sizes, -1)
                one = np.einsum("ij,jqk,pq->ipk", a1, x, b1, optimize=True)
                return (one + np.einsum("ij,jqk,pq->ipk", a2, x, b2, optimize=True)).reshape(b.shape)

            for _ in range(3):
                x = x + _applied(made, right)
                right = b - product(x)
            scale = np.linalg.norm(b, axis=0) + np.finfo(b.dtype).tiny
            if not (np.linalg.norm(right, axis=0) <= 1e3 * np.finfo(b.dtype).eps * b.shape[0] * scale).all():
                x = _whole(A, made[0], b)
            return x if np.iscomplexobj(b) else np.ascontiguousarray(np.real(x), b.dtype)

        return lapack.on_numpy(b, solved, () if prepared is not None else _matrices(A))


def _matrices(A: Any) -> list[Any]:
    return matrices_of(A, [factor for term in A.terms for factor in term.factors])


def _decomposed(matrices: Any) -> Any:
    """The matrices, and of each pair: eigenvalues, (A₂ P)⁻¹, P."""
    a1, b1, a2, b2 = map(np.asarray, matrices)
    pairs = []
    for one, two in ((a1, a2), (b1, b2)):
        with np.errstate(all="ignore"):
            values, vectors = scipy.linalg.eig(one, two, check_finite=False)
            basis = two @ vectors
            try:
                inverse = np.linalg.inv(basis)
            except np.linalg.LinAlgError:
                inverse = np.full_like(basis, np.nan)
        pairs.append((values, inverse, vectors))
    return (a1, b1, a2, b2), pairs[0], pairs[1]


def _applied(made: Any, b: np.ndarray) -> np.ndarray:
    _, (values, left, p), (others, right, q) = made
    x = b.reshape(len(p), len(q), -1)
    with np.errstate(all="ignore"):
        x = np.einsum("ij,jqk,pq->ipk", left, x, right, optimize=True)
        x = x / (values[:, None] * others + 1)[:, :, None]
        return np.einsum("ij,jqk,pq->ipk", p, x, q, optimize=True).reshape(b.shape)


def _whole(A: Any, matrices: Any, b: np.ndarray) -> np.ndarray:
    """By the matrix written out: where a second term is singular, or eigenvectors are no basis."""
    a1, b1, a2, b2 = matrices
    if A.shape[0] ** 2 > DENSE_LIMIT:
        matrix_of(A)  # which says that it is too large
    try:
        return np.linalg.solve(np.kron(a1, b1) + np.kron(a2, b2), b)
    except np.linalg.LinAlgError:
        raise SingularError(f"{A._short()} is singular; lo.linalg.lstsq gives the solution of least squares") from None


@dataclass(frozen=True)
class Pencil(Method):
    """Sums of two Kronecker products, by generalised eigenvectors; on NumPy's side, refined, and checked.

    Cost: 60 (n_A³ + n_B³) once; 8 N (n_A + n_B) MACs in complex numbers a right-hand side, three times.
    """

    of_structure = True

    def factor(self, A: LinearOperator, kept: bool) -> Diagonalised:
        """The eigenvectors of the two pairs."""
        return Diagonalised(A)

    def steps(self, A: Any, batch: int, kept: bool) -> Iterable[Step]:
        """Eigenvectors, and products with them."""
        sizes, total = [factor.shape[0] for factor in A.terms[0].factors], A.shape[0]
        if not kept:
            for n in sizes:
                yield Step("generalised eig", f"({n}, {n})", macs=60 * n**3, inputs=2 * n * n, outputs=2 * n * n)
        macs = 3 * 8 * total * batch * sum(sizes)
        yield Step("change bases", f"({total}, {batch})", macs=macs, inputs=total * batch, outputs=total * batch)
