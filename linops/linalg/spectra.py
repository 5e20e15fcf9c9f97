"""Eigenvalues and eigenvectors of Hermitian operators, structure by structure.

Rules of `eigh_` give (w, V) in an order of their own, V an operator; `lo.linalg.eigh` sorts.
"""

from __future__ import annotations

from typing import Any, cast

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.function import Function
from linops.linalg.inputs import fits, matrix_of, of_whole, ones, widened
from linops.linalg.parts import joined, outer
from linops.linalg.traces import diagonal_
from linops.operator import LinearOperator
from linops.operators.block_diag import BlockDiag
from linops.operators.circulant import Circulant
from linops.operators.dense import Dense
from linops.operators.dft import DFT
from linops.operators.direct_sum import DirectSum
from linops.operators.identity import Identity
from linops.operators.kronecker import Kronecker
from linops.operators.kronecker_sum import KroneckerSum
from linops.operators.power import Power
from linops.operators.scaled import Scaled
from linops.operators.sum import Sum
from linops.operators.tridiagonal import Tridiagonal
from linops.plan.step import Step
from linops.tags import Tag

#: (w, V) of a Hermitian operator, w real and in any order
eigh_: Function = Function("eigh")
#: what a rule says that writes the matrix out
DENSELY = "LAPACK, of the matrix written out"


def is_hermitian(A: LinearOperator) -> bool:
    """Whether an operator is known to be Hermitian."""
    return Tag.HERMITIAN in A.tags.yes


def hermitian_part(matrix: Any) -> Any:
    """(M + Mᴴ) / 2, so that no triangle counts alone, in numbers or derivatives; stacks too."""
    order = (*range(len(matrix.shape) - 2), len(matrix.shape) - 1, len(matrix.shape) - 2)
    return (matrix + backends.conj(backends.permute(matrix, order))) / 2


def _of_parts(a: Any) -> Any:
    return [(eigh_, part) for part in (a.factors if hasattr(a, "factors") else a.blocks)]


def _of_each(parts: Any) -> list[Any]:
    """What `eigh_` finds of each part, once where they are one operator."""
    found: dict[int, Any] = {}
    every: list[Any] = []
    for part in tuple(parts):  # a loop: torch.compile does not resume comprehensions
        if id(part) not in found:
            found[id(part)] = eigh_(part)
        every.append(found[id(part)])
    return every


def _all_hermitian(a: Any) -> bool:
    return all(is_hermitian(part) for _, part in _of_parts(a))


@eigh_.rule("ones, and the identity", cost="n")
def _eigh_identity(a: Identity):
    return ones(a, a.shape[0]), a


@eigh_.rule(
    "products of the factors' eigenvalues, and the Kronecker product of their eigenvectors",
    of="Hermitian factors",
    when=_all_hermitian,
    parts=_of_parts,
    cost="Σ n_k³ + N",
)
def _eigh_kronecker(a: Kronecker):
    found = _of_each(a.factors)
    values = outer(a, [values for values, _ in found], lambda one, other: one * other)
    return values, Kronecker(*of_whole(a, [vectors for _, vectors in found]))


@eigh_.rule(
    "sums of the factors' eigenvalues, and the Kronecker product of their eigenvectors",
    of="Hermitian factors",
    when=_all_hermitian,
    parts=_of_parts,
    cost="Σ n_k³ + N",
)
def _eigh_kronecker_sum(a: KroneckerSum):
    found = _of_each(a.factors)
    values = outer(a, [values for values, _ in found], lambda one, other: one + other)
    return values, Kronecker(*of_whole(a, [vectors for _, vectors in found]))


@eigh_.rule("those of the blocks", of="Hermitian blocks", when=_all_hermitian, parts=_of_parts, cost="Σ n_k³")
def _eigh_direct_sum(a: DirectSum):
    found = [eigh_(block) for block in a.blocks]
    return joined(a, [values for values, _ in found]), DirectSum(of_whole(a, [vectors for _, vectors in found]))


def _block_steps(a: Any) -> Any:
    count, n, _ = a.blocks.shape
    return (Step("batched eigh", f"({count}, {n}, {n})", macs=9 * count * n**3 // 2, inputs=count * n * n),)


@eigh_.rule("batched, those of the blocks", steps=_block_steps, cost="b n³")
def _eigh_blocks(a: BlockDiag):
    values, vectors = lapack.eigh(hermitian_part(widened(a, a.blocks)))
    return values.reshape(-1), BlockDiag(vectors)


def split_shift(a: Any) -> tuple[Any, LinearOperator] | None:
    """(c, X) of a sum c I + X; None where it is none."""
    rest = [term for term in a.terms if not isinstance(shifts_base(term), Identity)]
    shifts = [term for term in a.terms if isinstance(shifts_base(term), Identity)]
    if not shifts or not rest:
        return None
    return shifts, rest[0] if len(rest) == 1 else Sum(tuple(rest))


def _unshifted(a: Any) -> LinearOperator:
    """X of a sum c I + X."""
    return cast(tuple[Any, LinearOperator], split_shift(a))[1]


def shifts_base(term: LinearOperator) -> LinearOperator:
    """What a term is a multiple of."""
    return term.base if isinstance(term, Scaled) else term


def scalar_of(a: LinearOperator) -> Any:
    """The number that multiplies the base of a `Scaled`, 1 of others."""
    if not isinstance(a, Scaled):
        return 1
    number = 1 / a.divisor if a.divisor is not None else a.number
    return number if a.gain is None else (number * a.gain[None]).reshape(())  # an array still


def written(A: LinearOperator, function: Function | None = None) -> list[LinearOperator]:
    """The operators whose matrices are written out, or as large, when a function, or `eigh`, follows its rules."""
    function = eigh_ if function is None else function
    rule = function.find(A)
    if rule.says == DENSELY or rule.kind is Tridiagonal:
        return [A]
    return [leaf for other, part in rule.parts(A) for leaf in written(part, other)]


def has_parts(A: LinearOperator) -> bool:
    """Whether the eigenvectors of a Hermitian operator are made of those of smaller ones, or have a closed form."""
    return all(leaf.shape[0] < A.shape[0] for leaf in written(A))


def _is_shifted(a: Any) -> bool:
    found = split_shift(a)
    return found is not None and is_hermitian(found[1]) and all(is_hermitian(term) for term in found[0])


@eigh_.rule("of c I + X: c + those of X", when=_is_shifted, parts=lambda a: [(eigh_, _unshifted(a))], cost="that of X")
def _eigh_shifted(a: Sum):
    shifts, rest = split_shift(a)  # type: ignore[misc]
    values, vectors = eigh_(rest)
    return values + sum(real_part(scalar_of(shift)) for shift in shifts), vectors


def real_part(number: Any) -> Any:
    """The real part of a number or array."""
    if backends.is_array(number):
        return (
            backends.namespace(backends.backend_of(number)).real(number)
            if backends.is_complex(number.dtype)
            else number
        )
    return number.real if isinstance(number, complex) else number


@eigh_.rule(
    "c times those of the base",
    of="Hermitian base",
    when=lambda a: is_hermitian(a.base),
    parts=lambda a: [(eigh_, a.base)],
)
def _eigh_scaled(a: Scaled):
    values, vectors = eigh_(a.base)
    return real_part(scalar_of(a)) * values, vectors


@eigh_.rule(
    "the spectrum of its kernel, and a Fourier transform",
    of="square",
    when=lambda a: a.shape[0] == a._length,
    cost="n log n",
)
def _eigh_circulant(a: Circulant):
    return real_part(spectrum_of(a)), DFT(a.shape[0], "ortho").H


def spectrum_of(a: Circulant) -> Any:
    """The eigenvalues of a square circulant, that of the k-th column of the inverse transform k-th; complex."""
    spectrum = backends.fourier(a.c, "fft", a.shape[0], -1, None)
    if not a.transposed:
        return spectrum
    return backends.concatenate(
        spectrum[:1], [backends.namespace(backends.backend_of(spectrum)).flip(spectrum[1:], axis=0)]
    )


@eigh_.rule(
    "those of the base, to the power",
    of="Hermitian base",
    when=lambda a: is_hermitian(a.base),
    parts=lambda a: [(eigh_, a.base)],
    cost="n",
)
def _eigh_power(a: Power):
    values, vectors = eigh_(a.base)
    return values**a.exponent, vectors


@eigh_.rule(
    "LAPACK's for tridiagonal matrices",
    of="NumPy's real ones",
    when=lambda a: a.backend == "numpy" and not a._is_complex and fits(a),
    cost="n²",
)
def _eigh_tridiagonal(a: Tridiagonal):
    values, vectors = lapack.eigh_tridiagonal(a.diag, a.lower)
    return values, Dense(vectors)


@eigh_.rule(
    "its diagonal, and the identity",
    of="diagonal",
    when=lambda a: Tag.DIAGONAL in a.tags.yes,
    parts=lambda a: [(diagonal_, a)],
    cost="n",
)
def _eigh_diagonal(a: LinearOperator):
    return real_part(diagonal_(a)), Identity(a.shape[0])


def _dense_steps(a: LinearOperator) -> Any:
    n = a.shape[0]
    return (Step("eigh", f"({n}, {n})", macs=9 * n**3 // 2, inputs=n * n, outputs=n * n),)


@eigh_.rule(DENSELY, steps=_dense_steps, cost="n³")
def _eigh_any(a: LinearOperator):
    values, vectors = lapack.eigh(hermitian_part(matrix_of(a)))
    return values, Dense(vectors)
