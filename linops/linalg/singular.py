"""Singular values and vectors, structure by structure.

Rules of `svd_` give (U, s, Vᴴ) in an order of their own, U and Vᴴ operators, of min(m, n) or, where the structure has
fewer, all singular values that can be other than zero; without vectors (None, s, None).
"""

from __future__ import annotations

from typing import Any

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.eigenvalues import eigvalsh_
from linops.linalg.function import Function
from linops.linalg.inputs import matrix_of, of_whole, ones, widened
from linops.linalg.parts import adjoint, joined, outer, parts_of, space_of
from linops.linalg.spectra import DENSELY, eigh_, is_hermitian, real_part, scalar_of, spectrum_of
from linops.linalg.traces import diagonal_
from linops.operator import LinearOperator
from linops.operators.block_diag import BlockDiag
from linops.operators.circulant import Circulant
from linops.operators.dense import Dense
from linops.operators.dft import DFT
from linops.operators.diagonal import Diagonal
from linops.operators.direct_sum import DirectSum
from linops.operators.identity import Identity
from linops.operators.kronecker import Kronecker
from linops.operators.low_rank import LowRank
from linops.operators.product import Product
from linops.operators.scaled import Scaled
from linops.plan.step import Step
from linops.tags import Tag

#: (U, s, Vᴴ) of an operator and whether vectors are wanted, s in any order
svd_: Function = Function("svd", "svd", "svdvals", "cond", "matrix_rank")


def absolute(values: Any) -> Any:
    """Absolute values, whose derivative at zero is zero."""
    return space_of(values).abs(values)


def phase(values: Any) -> Any:
    """X / |x|, and 1 of zero."""
    size = absolute(values)
    return space_of(values).where(size == 0, values * 0 + 1, values / space_of(values).where(size == 0, 1, size))


def _products(a: LinearOperator, parts: list[Any], vectors: bool, kind: Any) -> Any:
    """U and Vᴴ of the parts', or nothing."""
    return tuple([kind(of_whole(a, [part[side] for part in parts])) for side in (0, 2)]) if vectors else (None, None)


@svd_.rule("products of the factors', of Kronecker products", parts=parts_of(svd_, "factors"), cost="Σ n_k³ + N")
def _svd_kronecker(a: Kronecker, vectors: bool):
    found = [svd_(factor, vectors) for factor in a.factors]
    U, Vh = _products(a, found, vectors, Kronecker)
    return U, outer(a, [s for _, s, _ in found], lambda one, other: one * other), Vh


@svd_.rule("those of the blocks", parts=parts_of(svd_, "blocks"), cost="Σ n_k³")
def _svd_direct_sum(a: DirectSum, vectors: bool):
    found = [svd_(block, vectors) for block in a.blocks]
    U, Vh = _products(a, found, vectors, DirectSum)
    return U, joined(a, [s for _, s, _ in found]), Vh


def _block_steps(a: Any) -> Any:
    count, m, n = a.blocks.shape
    macs = 6 * count * m * n * min(m, n)
    return (Step("batched svd", f"({count}, {m}, {n})", macs=macs, inputs=count * m * n),)


@svd_.rule("batched, those of the blocks", steps=_block_steps, cost="b n³")
def _svd_blocks(a: BlockDiag, vectors: bool):
    blocks = widened(a, a.blocks)
    if not vectors:
        return None, lapack.svdvals(blocks).reshape(-1), None
    U, s, Vh = lapack.svd(blocks)
    return BlockDiag(U), s.reshape(-1), BlockDiag(Vh)


@svd_.rule("|c| times those of the base", parts=lambda a: [(svd_, a.base)])
def _svd_scaled(a: Scaled, vectors: bool):
    U, s, Vh = svd_(a.base, vectors)
    number = scalar_of(a)
    if not backends.is_array(number):
        size = abs(number)
        return (U * (number / size) if vectors and size else U), size * s, Vh
    return (U * phase(number) if vectors else U), absolute(number) * s, Vh


@svd_.rule(
    "the absolute spectrum of its kernel, and Fourier transforms",
    of="square",
    when=lambda a: a.shape[0] == a._length,
    cost="n log n",
)
def _svd_circulant(a: Circulant, vectors: bool):
    spectrum, n = spectrum_of(a), a.shape[0]
    if not vectors:
        return None, absolute(spectrum), None
    return DFT(n, "ortho").H @ Diagonal(phase(spectrum)), absolute(spectrum), DFT(n, "ortho")


def _is_low(a: Any) -> bool:
    return a.U.shape[1] < min(a.shape)


def _low_steps(a: Any) -> Any:
    (m, n), r = a.shape, a.U.shape[1]
    return (Step("qr, svd", f"({m}, {r}), ({r}, {n})", macs=2 * (m + n) * r * r + 6 * r**3, inputs=(m + n) * r),)


@svd_.rule("of R Sᴴ, of U = Q R and Vᴴ = P S", of="rank below its sizes", when=_is_low, steps=_low_steps, cost="n r²")
def _svd_low_rank(a: LowRank, vectors: bool):
    Q, R = lapack.qr(widened(a, a.U))
    P, S = lapack.qr(adjoint(widened(a, a.V)))
    small = R @ adjoint(S)
    if not vectors:
        return None, lapack.svdvals(small), None
    U, s, Vh = lapack.svd(small)
    return Dense(Q @ U), s, Dense(Vh @ adjoint(P))


def _is_orthogonal(a: LinearOperator) -> bool:
    return Tag.ORTHOGONAL in a.tags.yes


def _leading(a: Any) -> int:
    """How many orthogonal factors there are at the left end; the last factor is not counted."""
    return next((k for k, factor in enumerate(a.factors[:-1]) if not _is_orthogonal(factor)), len(a.factors) - 1)


def _inner(a: Any) -> LinearOperator:
    """What is left of a product without the orthogonal factors at its ends."""
    factors = list(a.factors)[_leading(a) :]
    while len(factors) > 1 and _is_orthogonal(factors[-1]):
        factors.pop()
    return factors[0] if len(factors) == 1 else Product(tuple(factors))


def _has_orthogonal_ends(a: Any) -> bool:
    return _is_orthogonal(a.factors[0]) or _is_orthogonal(a.factors[-1])


@svd_.rule(
    "those of what is between orthogonal factors",
    of="orthogonal ends",
    when=_has_orthogonal_ends,
    parts=lambda a: [(svd_, _inner(a))],
)
def _svd_product(a: Product, vectors: bool):
    factors, inner = list(a.factors), _inner(a)
    U, s, Vh = svd_(inner, vectors)
    if vectors:
        before = _leading(a)
        count = len(inner.factors) if inner is not factors[before] and isinstance(inner, Product) else 1
        for factor in reversed(factors[:before]):
            U = factor @ U
        for factor in factors[before + count :]:
            Vh = Vh @ factor
    return U, s, Vh


@svd_.rule("itself, ones and the identity", of="orthogonal", when=_is_orthogonal, cost="0")
def _svd_orthogonal(a: LinearOperator, vectors: bool):
    n = a.shape[0]
    return a, real_part(ones(a, n)), Identity(n)


@svd_.rule(
    "the absolute diagonal, and phases",
    of="diagonal",
    when=lambda a: a.shape[0] == a.shape[1] and Tag.DIAGONAL in a.tags.yes,
    parts=lambda a: [(diagonal_, a)],
    cost="n",
)
def _svd_diagonal(a: LinearOperator, vectors: bool):
    numbers = diagonal_(a)
    return (Diagonal(phase(numbers)) if vectors else None), absolute(numbers), Identity(a.shape[0])


def _has_eigenvectors(a: LinearOperator) -> bool:
    return is_hermitian(a) and eigh_.find(a).says != DENSELY


@svd_.rule(
    "the absolute eigenvalues, and eigenvectors",
    of="Hermitian, structured eigenvectors",
    when=_has_eigenvectors,
    parts=lambda a: [(eigh_, a)],
)
def _svd_hermitian(a: LinearOperator, vectors: bool):
    if not vectors:
        return None, absolute(eigvalsh_(a)), None
    values, V = eigh_(a)
    signs = phase(values)
    if V.dtype is not None and signs.dtype != V.dtype:  # torch multiplies no real numbers with complex ones
        signs = space_of(signs).astype(signs, V.dtype)
    return V @ Diagonal(signs), absolute(values), V.H


def _steps(a: LinearOperator) -> Any:
    m, n = a.shape
    return (Step("svd", f"({m}, {n})", macs=6 * m * n * min(m, n), inputs=m * n, outputs=(m + n) * min(m, n)),)


@svd_.rule(DENSELY, steps=_steps, cost="n³")
def _svd_any(a: LinearOperator, vectors: bool):
    if not vectors:
        return None, lapack.svdvals(matrix_of(a)), None
    U, s, Vh = lapack.svd(matrix_of(a))
    return Dense(U), s, Dense(Vh)
