"""Slices A[s, s] of equal rows and columns in the structure of A: a part of a Toeplitz matrix is one, of a sum a sum.

The rules of `lo.linalg` for such a slice are those of what is found here.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from linops import backends
from linops.backends import factorizations as lapack
from linops.dispatch import generic
from linops.linalg.determinants import slogdet_
from linops.linalg.eigenpairs import eig_
from linops.linalg.eigenvalues import eigvals_, eigvalsh_
from linops.linalg.factors import cholesky_, lu_, qr_
from linops.linalg.function_rules import expm_, funm_, logm_, power_, sqrtm_
from linops.linalg.inversion import inverse_
from linops.linalg.norms import norm_
from linops.linalg.pseudoinversion import pinv_
from linops.linalg.singular import svd_
from linops.linalg.spectra import eigh_
from linops.linalg.traces import diagonal_, trace_
from linops.operator import LinearOperator, assume
from linops.operators.block_diag import BlockDiag
from linops.operators.circulant import Circulant
from linops.operators.diagonal import Diagonal
from linops.operators.direct_sum import DirectSum
from linops.operators.identity import Identity
from linops.operators.kronecker import Kronecker
from linops.operators.kronecker_sum import KroneckerSum
from linops.operators.low_rank import LowRank
from linops.operators.product import Product
from linops.operators.scaled import Scaled
from linops.operators.sliced import Sliced, as_slice
from linops.operators.sparse import Sparse
from linops.operators.sum import Sum
from linops.operators.toeplitz import Toeplitz
from linops.operators.triangular import Triangular
from linops.operators.tridiagonal import Tridiagonal
from linops.tags import Tag


@generic
def principal(a, span):
    """A[span, span] of a square operator in its structure; None where there is none.

    Args:
        a: A square operator with numbers.
        span: A range of positive step within its size, not empty.

    Returns:
        An operator whose leaves are parts of those of A, or None.
    """


@principal.dispatch
def _principal_of_any(a: LinearOperator, span: range):
    return None


@principal.dispatch
def _principal_of_identity(a: Identity, span: range):
    return Identity(len(span))


@principal.dispatch
def _principal_of_scaled(a: Scaled, span: range):
    base = principal(a.base, span)
    return None if base is None else Scaled(base, a.number, a.gain, a.divisor)


@principal.dispatch
def _principal_of_diagonal(a: Diagonal, span: range):
    return Diagonal(a.diagonal[as_slice(span)])


@principal.dispatch
def _principal_of_triangular(a: Triangular, span: range):
    part = as_slice(span)
    return Triangular(a.matrix[part, part], lower=a.lower)


@principal.dispatch
def _principal_of_tridiagonal(a: Tridiagonal, span: range):
    if span.step > 1:
        return Diagonal(a.diag[as_slice(span)])
    beside = slice(span.start, span.stop - 1)
    return Tridiagonal(a.lower[beside], a.diag[as_slice(span)], a.upper[beside])


@principal.dispatch
def _principal_of_toeplitz(a: Toeplitz, span: range):
    # entry (i, j) only depends on i - j: every part at equal places is a leading one
    steps = slice(0, (len(span) - 1) * span.step + 1, span.step)
    return Toeplitz(a.c[steps], a.r[steps], transposed=a.transposed)


@principal.dispatch
def _principal_of_circulant(a: Circulant, span: range):
    if span.step > 1:
        return None
    row = backends.gather(a.c, backends.indices_beside(a.c, -np.arange(len(span)) % a.c.shape[0]))
    return Toeplitz(a.c[: len(span)], row, transposed=a.transposed)


@principal.dispatch
def _principal_of_low_rank(a: LowRank, span: range):
    part = as_slice(span)
    return LowRank(a.U[part], a.V[:, part])


@principal.dispatch
def _principal_of_sparse(a: Sparse, span: range):
    if span.step > 1 or not lapack.is_known(a.rows):
        return None
    rows, columns = (np.asarray(backends.to_numpy(one)) for one in (a.rows, a.columns))
    inside = (rows >= span.start) & (rows < span.stop) & (columns >= span.start) & (columns < span.stop)
    values = backends.gather(a.values, backends.indices_beside(a.values, np.flatnonzero(inside)))
    return Sparse(values, rows[inside] - span.start, columns[inside] - span.start, (len(span),) * 2)


@principal.dispatch
def _principal_of_block_diag(a: BlockDiag, span: range):
    blocks = a.blocks
    places = _aligned(span, blocks.shape[1]) if blocks.shape[1] == blocks.shape[2] else None
    return None if places is None else BlockDiag(blocks[as_slice(places)])


@principal.dispatch
def _principal_of_direct_sum(a: DirectSum, span: range):
    if span.step > 1 or any(block.shape[0] != block.shape[1] for block in a.blocks):
        return None
    parts, start = [], 0
    for block in a.blocks:
        stop = start + block.shape[0]
        first, last = max(span.start, start), min(span.stop, stop)
        if first < last:
            own = range(first - start, last - start)
            parts.append(block if len(own) == block.shape[0] else Sliced(block, own, own))
        start = stop
    return parts[0] if len(parts) == 1 else DirectSum(parts)


@principal.dispatch
def _principal_of_kronecker(a: Kronecker, span: range):
    first = _first_of(a, span)
    return None if first is None else Kronecker(first, *a.factors[1:])


@principal.dispatch
def _principal_of_kronecker_sum(a: KroneckerSum, span: range):
    first = _first_of(a, span)
    return None if first is None else KroneckerSum(first, *a.factors[1:])


def _first_of(a: Any, span: range) -> LinearOperator | None:
    """The part of the first factor that takes a part of a Kronecker product or sum to be one."""
    first, *rest = a.factors
    if any(factor.shape[0] != factor.shape[1] for factor in a.factors):
        return None
    places = _aligned(span, prod(factor.shape[0] for factor in rest))
    return None if places is None else Sliced(first, places, places)


@principal.dispatch
def _principal_of_sum(a: Sum, span: range):
    parts = [principal(term, span) for term in a.terms]
    return None if any(part is None for part in parts) else Sum(tuple(parts))


@principal.dispatch
def _principal_of_product(a: Product, span: range):
    """Of triangular factors around at most one that is not: a leading block of L M U is that of each."""
    n = a.shape[0]
    if span.step > 1 or any(factor.shape != (n, n) for factor in a.factors):
        return None
    if span.start == 0:
        before, after = Tag.LOWER_TRIANGULAR, Tag.UPPER_TRIANGULAR
    elif span.stop == n:
        before, after = Tag.UPPER_TRIANGULAR, Tag.LOWER_TRIANGULAR
    else:
        before = after = Tag.DIAGONAL
    others = [k for k, factor in enumerate(a.factors) if before not in factor.tags.yes]
    place = others[0] if others else n
    if any(after not in factor.tags.yes for factor in a.factors[place + 1 :]):
        return None
    return Product(tuple(Sliced(factor, span, span) for factor in a.factors))


def _aligned(span: range, size: int) -> range | None:
    """Which blocks of a size a range takes, if it takes entire ones."""
    if span.step > 1 or not size or span.start % size or span.stop % size:
        return None
    return range(span.start // size, span.stop // size)


# ---------------------------------------------------------------- the rules


def part_of(a: Sliced) -> LinearOperator | None:
    """A slice of equal rows and columns in the structure of its base, or None."""
    (m, n), rows, columns = a.base.shape, a.rows, a.columns
    if m != n or a.is_symbolic or not len(rows) or (rows.start, rows.step) != (columns.start, columns.step):
        return None
    if len(rows) != len(columns):
        return None
    found = principal(a.base, range(rows.start, rows[-1] + 1, rows.step))
    if found is None:
        return None
    tags = a.tags.yes & ~found.tags.yes
    return assume(found, tags) if tags else found


def _register(function: Any) -> None:
    """The rule of a function for slices."""

    @function.rule(
        "that of the slice in the structure of its base",
        of="equal rows and columns",
        when=lambda a: part_of(a) is not None,
        parts=lambda a: [(function, part_of(a))],
        cost="that of the slice",
    )
    def _of_part(a: Sliced, *rest: Any):
        return function(part_of(a), *rest)


for _function in (
    *(inverse_, pinv_, slogdet_, trace_, diagonal_, norm_),
    *(eigh_, eigvalsh_, eig_, eigvals_, svd_),
    *(cholesky_, lu_, qr_),
    *(expm_, logm_, sqrtm_, power_, funm_),
):
    _register(_function)
