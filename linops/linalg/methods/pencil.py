"""`Pencil`: A₁ ⊗ B₁ + A₂ ⊗ B₂ by the generalised eigenvectors of the two pairs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
import scipy  # whose submodules load when they are first used

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.errors import SingularError
from linops.linalg.inputs import DENSE_LIMIT, matrices_of, matrix_of
from linops.linalg.methods.black_box import BlackBox
from linops.linalg.methods.method import Method
from linops.linalg.spectra import scalar_of
from linops.operator import LinearOperator
from linops.operators.kronecker import Kronecker
from linops.operators.scaled import Scaled
from linops.plan.step import Step


class Term(NamedTuple):
    """A multiple of a Kronecker product of two square factors, c A ⊗ B."""

    c: Any
    a: LinearOperator
    b: LinearOperator


def pencil_terms(A: Any) -> tuple[Term, Term] | None:
    """The two terms of a sum or difference of multiples of A₁ ⊗ B₁ and A₂ ⊗ B₂; None where it is none."""
    if len(A.terms) != 2 or A.backend is None:
        return None
    one, other = map(_term, A.terms)
    if one is None or other is None or (one.a.shape, one.b.shape) != (other.a.shape, other.b.shape):
        return None
    return one, other


def _term(A: LinearOperator) -> Term | None:
    c: Any = 1
    while isinstance(A, Scaled):
        c = c * (A.number if backends.backend_of(A.gain) == "spec" else scalar_of(A))
        A = A.base
    if not isinstance(A, Kronecker) or len(A.factors) != 2 or any(one.shape[0] != one.shape[1] for one in A.factors):
        return None
    return Term(c, *A.factors)


def is_pencil(A: Any) -> bool:
    """Whether a sum is of two multiples of Kronecker products of two square factors each, of equal sizes."""
    return pencil_terms(A) is not None


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


def pencil_matrices(A: Any) -> list[Any]:
    """A₁, B₁, A₂ and B₂, without their multiples."""
    one, other = cast(tuple[Term, Term], pencil_terms(A))
    return matrices_of(A, [one.a, one.b, other.a, other.b])


def _matrices(A: Any) -> list[Any]:
    """C₁ A₁, B₁, c₂ A₂ and B₂."""
    (c1, *_), (c2, *_) = cast(tuple[Term, Term], pencil_terms(A))
    a1, b1, a2, b2 = pencil_matrices(A)
    return [a1 * c1, b1, a2 * c2, b2]


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
        term = cast(tuple[Term, Term], pencil_terms(A))[0]
        sizes, total = [term.a.shape[0], term.b.shape[0]], A.shape[0]
        if not kept:
            for n in sizes:
                yield Step("generalised eig", f"({n}, {n})", macs=60 * n**3, inputs=2 * n * n, outputs=2 * n * n)
        macs = 3 * 8 * total * batch * sum(sizes)
        yield Step("change bases", f"({total}, {batch})", macs=macs, inputs=total * batch, outputs=total * batch)
