"""Eigenvalues without vectors, structure by structure.

Rules of `eigvalsh_` give the real eigenvalues of Hermitian operators, those of `eigvals_` the complex ones of any, in
an order of their own.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.function import Function
from linops.linalg.inputs import matrix_of, ones, widened
from linops.linalg.parts import joined, outer, parts_of, square_parts
from linops.linalg.spectra import (
    DENSELY,
    eigh_,
    hermitian_part,
    is_hermitian,
    real_part,
    scalar_of,
    spectrum_of,
    split_shift,
)
from linops.linalg.traces import diagonal_
from linops.operator import LinearOperator
from linops.operators.block_diag import BlockDiag
from linops.operators.circulant import Circulant
from linops.operators.direct_sum import DirectSum
from linops.operators.identity import Identity
from linops.operators.kronecker import Kronecker
from linops.operators.kronecker_sum import KroneckerSum
from linops.operators.low_rank import LowRank
from linops.operators.permutation import Permutation
from linops.operators.permute import Permute
from linops.operators.power import Power
from linops.operators.scaled import Scaled
from linops.operators.sum import Sum
from linops.plan.step import Step
from linops.tags import Tag

#: the eigenvalues of a Hermitian operator
eigvalsh_: Function = Function("eigvalsh")
#: the eigenvalues of a square operator, complex
eigvals_: Function = Function("eigvals")


def as_complex(values: Any) -> Any:
    """An array as complex numbers."""
    if backends.is_complex(values.dtype):
        return values
    backend = backends.backend_of(values)
    return backends.namespace(backend).astype(values, backends.result_type(backend, values.dtype, 1j))


def _both(function: Function) -> None:
    """Rules that are the same for Hermitian operators, whose parts are so, and for others."""
    hermitian = function is eigvalsh_

    def fits(name: str) -> Any:
        square = square_parts(name)
        return lambda a: all(map(is_hermitian, getattr(a, name))) if hermitian else square(a)

    @function.rule(
        "products of the factors'",
        of="Hermitian factors" if hermitian else "square factors",
        when=fits("factors"),
        parts=parts_of(function, "factors"),
        cost="N",
    )
    def _kronecker(a: Kronecker):
        return outer(a, [function(factor) for factor in a.factors], lambda one, other: one * other)

    @function.rule(
        "sums of the factors'",
        of="Hermitian factors" if hermitian else "square factors",
        when=fits("factors"),
        parts=parts_of(function, "factors"),
        cost="N",
    )
    def _kronecker_sum(a: KroneckerSum):
        return outer(a, [function(factor) for factor in a.factors], lambda one, other: one + other)

    @function.rule(
        "those of the blocks",
        of="Hermitian blocks" if hermitian else "square blocks",
        when=fits("blocks"),
        parts=parts_of(function, "blocks"),
        cost="n",
    )
    def _direct_sum(a: DirectSum):
        return joined(a, [function(block) for block in a.blocks])

    @function.rule(
        "those of the blocks, batched",
        of="square blocks",
        when=lambda a: a.blocks.shape[1] == a.blocks.shape[2],
        steps=_block_steps,
    )
    def _blocks(a: BlockDiag):
        blocks = widened(a, a.blocks)
        return (lapack.eigvalsh(hermitian_part(blocks)) if hermitian else lapack.eigvals(blocks)).reshape(-1)

    @function.rule(
        "those of the base, to the power",
        of="Hermitian base" if hermitian else "",
        parts=lambda a: [(function, a.base)],
        when=_fits_base(hermitian),
    )
    def _power(a: Power):
        return function(a.base) ** a.exponent

    @function.rule(
        "c times those of the base",
        of="Hermitian base" if hermitian else "",
        parts=lambda a: [(function, a.base)],
        when=_fits_base(hermitian),
    )
    def _scaled(a: Scaled):
        number = scalar_of(a)
        return (real_part(number) if hermitian else number) * function(a.base)

    @function.rule(
        "of c I + X: c + those of X",
        when=lambda a: split_shift(a) is not None and (not hermitian or _shifts_are_real(a)),
        parts=lambda a: [(function, split_shift(a)[1])],  # type: ignore[index]
    )
    def _shifted(a: Sum):
        shifts, rest = split_shift(a)  # type: ignore[misc]
        number = sum(scalar_of(shift) for shift in shifts)
        return function(rest) + (real_part(number) if hermitian else number)

    @function.rule("the spectrum of its kernel", of="square", when=lambda a: a.shape[0] == a._length, cost="n log n")
    def _circulant(a: Circulant):
        return real_part(spectrum_of(a)) if hermitian else spectrum_of(a)

    @function.rule(
        "those of V U, and zeros",
        of="U Uᴴ" if hermitian else "rank below its size",
        when=lambda a: a.U.shape[1] < a.shape[0] and _is_square(a, hermitian),
        cost="n r²",
    )
    def _low_rank(a: LowRank):
        small = widened(a, a.V) @ widened(a, a.U)
        values = lapack.eigvalsh(hermitian_part(small)) if hermitian else lapack.eigvals(small)
        return backends.pad_rows(values, a.shape[0])


def _fits_base(hermitian: bool) -> Any:
    return lambda a: is_hermitian(a.base) or not hermitian


def _is_square(a: LinearOperator, hermitian: bool) -> bool:
    """Whether V U is as a rule needs it: Hermitian where V = Uᴴ."""
    return Tag.POSITIVE_SEMIDEFINITE in (a.tags.yes & ~a.assumed) if hermitian else True


def _shifts_are_real(a: Any) -> bool:
    shifts, rest = split_shift(a)  # type: ignore[misc]
    return is_hermitian(rest) and all(map(is_hermitian, shifts))


def _block_steps(a: Any) -> Any:
    count, n, _ = a.blocks.shape
    return (Step("batched eigenvalues", f"({count}, {n}, {n})", macs=count * n**3 * 2 // 3, inputs=count * n * n),)


_both(eigvalsh_)
_both(eigvals_)


def _cycles(indices: np.ndarray) -> list[np.ndarray]:
    """The cycles of a permutation, each in the order in which it goes round."""
    found, seen = [], np.zeros(len(indices), bool)
    for start in range(len(indices)):
        if not seen[start]:
            cycle, place = [], start
            while not seen[place]:
                seen[place] = True
                cycle.append(place)
                place = int(indices[place])
            found.append(np.array(cycle))
    return found


def cycles_of(a: Any) -> list[np.ndarray]:
    """The cycles of a permutation whose indices are at hand."""
    return _cycles(backends.to_numpy(a.indices) if isinstance(a, Permute) else (a @ np.arange(a.shape[0])))


def knows_indices(a: Any) -> bool:
    """Whether the indices of a permutation are at hand."""
    return not isinstance(a, Permute) or lapack.is_known(a.indices)


def roots_of_unity(n: int) -> np.ndarray:
    """The n-th roots of unity, anticlockwise."""
    return np.exp(2j * np.pi * np.arange(n) / n)


@eigvals_.rule("roots of unity of its cycles", when=knows_indices, cost="n")
def _eigvals_permutation(a: Permutation):
    found = [roots_of_unity(len(cycle)) for cycle in cycles_of(a)]
    return np.concatenate(found) if found else np.zeros(0, complex)


@eigvals_.rule("ones", cost="n")
def _eigvals_identity(a: Identity):
    return as_complex(ones(a, a.shape[0]))


def _is_structured(a: LinearOperator) -> bool:
    return is_hermitian(a) and eigvalsh_.find(a).says != DENSELY


@eigvals_.rule(
    "those of a Hermitian operator",
    of="Hermitian, structured eigenvectors",
    when=_is_structured,
    parts=lambda a: [(eigvalsh_, a)],
)
def _eigvals_hermitian(a: LinearOperator):
    return as_complex(eigvalsh_(a))


@eigvals_.rule(
    "its diagonal",
    of="triangular",
    when=lambda a: bool((Tag.LOWER_TRIANGULAR | Tag.UPPER_TRIANGULAR) & a.tags.yes),
    parts=lambda a: [(diagonal_, a)],
    cost="n",
)
def _eigvals_triangular(a: LinearOperator):
    return as_complex(diagonal_(a))


@eigvalsh_.rule(
    "its diagonal", of="diagonal", when=lambda a: Tag.DIAGONAL in a.tags.yes, parts=lambda a: [(diagonal_, a)], cost="n"
)
def _eigvalsh_diagonal(a: LinearOperator):
    return real_part(diagonal_(a))


def _steps(a: LinearOperator) -> Any:
    n = a.shape[0]
    return (Step("eigenvalues", f"({n}, {n})", macs=2 * n**3 // 3, inputs=n * n, outputs=n),)


@eigvalsh_.rule(
    "those that eigh finds with vectors",
    of="structured eigenvectors",
    when=lambda a: eigh_.find(a).says != DENSELY,
    parts=lambda a: [(eigh_, a)],
)
def _eigvalsh_structured(a: LinearOperator):
    return eigh_(a)[0]


@eigvalsh_.rule(DENSELY, steps=_steps, cost="n³")
def _eigvalsh_any(a: LinearOperator):
    return lapack.eigvalsh(hermitian_part(matrix_of(a)))


@eigvals_.rule(DENSELY, steps=_steps, cost="n³")
def _eigvals_any(a: LinearOperator):
    return lapack.eigvals(matrix_of(a))
