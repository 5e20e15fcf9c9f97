"""Eigenvalues and eigenvectors of any square operator, structure by structure.

Rules of `eig_` give (w, V) in an order of their own, w complex and V an operator.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from linops.backends import factorizations as lapack
from linops.linalg.eigenvalues import as_complex, cycles_of, knows_indices, roots_of_unity
from linops.linalg.function import Function
from linops.linalg.inputs import matrix_of, of_whole, widened
from linops.linalg.parts import joined, outer, parts_of, square_parts
from linops.linalg.spectra import DENSELY, eigh_, is_hermitian, scalar_of, spectrum_of, split_shift
from linops.operator import LinearOperator
from linops.operators.block_diag import BlockDiag
from linops.operators.circulant import Circulant
from linops.operators.dense import Dense
from linops.operators.dft import DFT
from linops.operators.direct_sum import DirectSum
from linops.operators.kronecker import Kronecker
from linops.operators.kronecker_sum import KroneckerSum
from linops.operators.permutation import Permutation
from linops.operators.permute import Permute
from linops.operators.power import Power
from linops.operators.scaled import Scaled
from linops.operators.sum import Sum
from linops.plan.step import Step

#: (w, V) of a square operator, w complex and in any order
eig_: Function = Function("eig")


@eig_.rule(
    "products of the factors' eigenvalues, and the Kronecker product of their eigenvectors",
    of="square factors",
    when=square_parts("factors"),
    parts=parts_of(eig_, "factors"),
    cost="Σ n_k³ + N",
)
def _eig_kronecker(a: Kronecker):
    found = [eig_(factor) for factor in a.factors]
    values = outer(a, [values for values, _ in found], lambda one, other: one * other)
    return values, Kronecker(*of_whole(a, [vectors for _, vectors in found]))


@eig_.rule(
    "sums of the factors' eigenvalues, and the Kronecker product of their eigenvectors",
    parts=parts_of(eig_, "factors"),
    cost="Σ n_k³ + N",
)
def _eig_kronecker_sum(a: KroneckerSum):
    found = [eig_(factor) for factor in a.factors]
    values = outer(a, [values for values, _ in found], lambda one, other: one + other)
    return values, Kronecker(*of_whole(a, [vectors for _, vectors in found]))


@eig_.rule(
    "those of the blocks",
    of="square blocks",
    when=square_parts("blocks"),
    parts=parts_of(eig_, "blocks"),
    cost="Σ n_k³",
)
def _eig_direct_sum(a: DirectSum):
    found = [eig_(block) for block in a.blocks]
    return joined(a, [values for values, _ in found]), DirectSum(of_whole(a, [vectors for _, vectors in found]))


def _block_steps(a: Any) -> Any:
    count, n, _ = a.blocks.shape
    return (Step("batched eig", f"({count}, {n}, {n})", macs=10 * count * n**3, inputs=count * n * n),)


@eig_.rule(
    "batched, those of the blocks",
    of="square blocks",
    when=lambda a: a.blocks.shape[1] == a.blocks.shape[2],
    steps=_block_steps,
    cost="b n³",
)
def _eig_blocks(a: BlockDiag):
    values, vectors = lapack.eig(widened(a, a.blocks))
    return values.reshape(-1), BlockDiag(vectors)


@eig_.rule("c times those of the base", parts=lambda a: [(eig_, a.base)])
def _eig_scaled(a: Scaled):
    values, vectors = eig_(a.base)
    return scalar_of(a) * values, vectors


@eig_.rule("those of the base, to the power", parts=lambda a: [(eig_, a.base)])
def _eig_power(a: Power):
    values, vectors = eig_(a.base)
    return values**a.exponent, vectors


@eig_.rule(
    "of c I + X: c + those of X",
    when=lambda a: split_shift(a) is not None,
    parts=lambda a: [(eig_, split_shift(a)[1])],  # type: ignore[index]
)
def _eig_shifted(a: Sum):
    shifts, rest = split_shift(a)  # type: ignore[misc]
    values, vectors = eig_(rest)
    return values + sum(scalar_of(shift) for shift in shifts), vectors


@eig_.rule(
    "the spectrum of its kernel, and a Fourier transform",
    of="square",
    when=lambda a: a.shape[0] == a._length,
    cost="n log n",
)
def _eig_circulant(a: Circulant):
    return spectrum_of(a), DFT(a.shape[0], "ortho").H


@eig_.rule("roots of unity of its cycles, and their Fourier transforms", when=knows_indices, cost="n log n")
def _eig_permutation(a: Permutation):
    cycles = cycles_of(a)
    if not cycles:
        return np.zeros(0, complex), a
    transforms = DirectSum([DFT(len(cycle), "ortho").H for cycle in cycles])
    return np.concatenate([roots_of_unity(len(one)) for one in cycles]), Permute(np.concatenate(cycles)).T @ transforms


@eig_.rule(
    "those of a Hermitian operator",
    of="Hermitian, structured eigenvectors",
    when=lambda a: is_hermitian(a) and eigh_.find(a).says != DENSELY,
    parts=lambda a: [(eigh_, a)],
)
def _eig_hermitian(a: LinearOperator):
    values, vectors = eigh_(a)
    return as_complex(values), vectors


def _steps(a: LinearOperator) -> Any:
    n = a.shape[0]
    return (Step("eig", f"({n}, {n})", macs=10 * n**3, inputs=n * n, outputs=n * n),)


@eig_.rule(DENSELY, steps=_steps, cost="n³")
def _eig_any(a: LinearOperator):
    values, vectors = lapack.eig(matrix_of(a))
    return values, Dense(vectors)
