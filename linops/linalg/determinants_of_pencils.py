"""Determinants of c₁ A₁ ⊗ B₁ + c₂ A₂ ⊗ B₂ by the generalised eigenvalues of the pairs (A₁, A₂) and (B₁, B₂)."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.curvature import logarithms, products
from linops.linalg.determinants import SlogDet, product_of, real_of, slogdet_
from linops.linalg.inputs import matrix_of
from linops.linalg.methods.pencil import Term, is_pencil, pencil_matrices, pencil_terms
from linops.linalg.parts import space_of
from linops.linalg.spectra import is_hermitian
from linops.operators.sum import Sum
from linops.plan.step import Step
from linops.tags import Tag

#: the combinations cos θ A₁ + sin θ A₂ of which the best conditioned is inverted
_ANGLES = np.pi * (2 * np.arange(4) + 1) / 8


def _terms(a: Any) -> tuple[Term, Term]:
    return cast(tuple[Term, Term], pencil_terms(a))


def _is_definite(term: Term) -> bool:
    return all(Tag.POSITIVE_DEFINITE in factor.tags.yes for factor in (term.a, term.b))


def _is_definite_pencil(a: Any) -> bool:
    terms = pencil_terms(a)
    return (
        terms is not None
        and all(is_hermitian(factor) for term in terms for factor in (term.a, term.b))
        and any(map(_is_definite, terms))
    )


def _steps(a: Any) -> list[Step]:
    sizes = [factor.shape[0] for factor in _terms(a)[0][1:]]
    return [Step("generalised eigenvalues", f"({n}, {n})", macs=10 * n**3, inputs=2 * n * n, outputs=n) for n in sizes]


@slogdet_.rule(
    "generalised eigenvalues of the two pairs",
    of="Hermitian factors, those of one term positive definite",
    when=_is_definite_pencil,
    steps=_steps,
    cost="Σ n_k³ + N",
)
def _slogdet_definite_pencil(a: Sum):
    """Of A₁ P = A₂ P Λ and B₁ Q = B₂ Q M: det A₂ to the power n_B, det B₂ to that n_A, and the c₁ λ_i μ_j + c₂."""
    one, other = _terms(a)
    a1, b1, a2, b2 = pencil_matrices(a)
    c1, c2 = one.c, other.c
    if not _is_definite(other):
        (a1, b1, c1), (a2, b2, c2) = (a2, b2, c2), (a1, b1, c1)
    found, logarithm = [], 0
    for first, second, beside in ((a1, a2, b1), (b1, b2, a1)):
        lower = lapack.cholesky(second)
        half = backends.solve_triangular(lower, first, True, False)
        whitened = backends.solve_triangular(lower, backends.conj(half.T), True, False)
        found.append((whitened + backends.conj(whitened.T)) / 2)
        logarithm = logarithm + 2 * beside.shape[0] * lapack.log_product(space_of(lower).diagonal(lower))[1]
    sign, rest = logarithms(found, lambda values: c1 * products(values) + c2)
    return sign, logarithm + rest


@slogdet_.rule(
    "eigenvalues of the two pairs, by a combination of each",
    of="two Kronecker products",
    when=is_pencil,
    steps=_steps,
    cost="15 Σ n_k³ + N",
)
def _slogdet_pencil(a: Sum):
    """With A = γ A₁ + δ A₂ invertible, A⁻¹ A₁ has eigenvalues α and A⁻¹ A₂, in the same vectors, β = (1 − γ α) / δ.

    So the determinant is det A to the power n_B, det B to that n_A, and the c₁ α_i α'_j + c₂ β_i β'_j, where neither A₁
    nor A₂ needs to be invertible.
    """
    (c1, *_), (c2, *_) = _terms(a)
    a1, b1, a2, b2 = pencil_matrices(a)
    pairs = [_combined(a1, a2), _combined(b1, b2)]
    if None in pairs:  # all combinations are singular, or nearly
        return lapack.slogdet(matrix_of(a))
    (one, alpha, beta), (other, gamma, delta) = cast(Any, pairs)
    values = c1 * (alpha[:, None] * gamma) + c2 * (beta[:, None] * delta)
    powers = product_of([one, other], [b1.shape[0], a1.shape[0]])
    return real_of(a, product_of([powers, lapack.log_product(values.reshape(-1))]))


def _combined(one: Any, two: Any) -> tuple[SlogDet, Any, Any] | None:
    """((sign, log |det|) of γ A₁ + δ A₂, α, β) with the γ and δ of the largest smallest singular value."""
    space, n = space_of(one), one.shape[0]
    sizes = [space.sum(space.abs(lapack.stop_gradient(each))) / n for each in (one, two)]
    cosines, sines = (
        backends.constant(one, values, sizes[0].dtype) / space.where(size > 0, size, 1)
        for values, size in ((np.cos(_ANGLES), sizes[0]), (np.sin(_ANGLES), sizes[1]))
    )
    stack = cosines[:, None, None] * lapack.stop_gradient(one) + sines[:, None, None] * lapack.stop_gradient(two)
    least = lapack.svdvals(stack)[:, -1]
    if lapack.is_known(least) and not bool(space.max(least) > 4 * n * space.finfo(least.dtype).eps):
        return None
    best = backends.constant(one, np.arange(len(_ANGLES)), sizes[0].dtype) == space.argmax(least)
    gamma, delta = (space.sum(space.where(best, values, 0 * values)) for values in (cosines, sines))
    whole = gamma * one + delta * two
    alpha = lapack.eigvals(lapack.solve(whole, one))
    return lapack.slogdet(whole), alpha, (1 - gamma * alpha) / delta
