"""Determinants of sums: Kronecker sums, c I + X, pairs of Kronecker products, something plus low rank."""

from __future__ import annotations

from functools import reduce
from typing import Any, cast

from linops.backends import factorizations as lapack
from linops.linalg.curvature import products, slogdet_of_parts, sums
from linops.linalg.determinants import product_of, real_of, slogdet_, zero_of
from linops.linalg.eigenvalues import eigvalsh_
from linops.linalg.errors import SingularError
from linops.linalg.inputs import matrices_of
from linops.linalg.inversion import inverse_
from linops.linalg.inversion_of_sums import has_low_rank
from linops.linalg.merging import merged
from linops.linalg.methods.woodbury import Split, Updated, Woodbury, split
from linops.linalg.parts import is_constant
from linops.linalg.shifts import is_shifted, shifted
from linops.linalg.spectra import eigh_, has_parts, is_hermitian, scalar_of, shifts_base, split_shift
from linops.operator import LinearOperator
from linops.operators.kronecker import Kronecker
from linops.operators.kronecker_sum import KroneckerSum
from linops.operators.sum import Sum
from linops.plan.step import Step


@slogdet_.rule(
    "sums of the factors' eigenvalues",
    of="Hermitian",
    when=is_hermitian,
    parts=lambda a: [(eigvalsh_, a)],
    cost="Σ n_k³ + N",
)
def _slogdet_kronecker_sum(a: KroneckerSum):
    return lapack.log_product(eigvalsh_(a)) if is_constant(a) else slogdet_of_parts(a, a.factors, sums)


@slogdet_.rule(
    "of c I + X: that of X, shifted in its structure",
    when=is_shifted,
    parts=lambda a: [(slogdet_, shifted(a))],
    cost="that of an operator like X",
)
def _slogdet_in_structure(a: Sum):
    return slogdet_(shifted(a))


@slogdet_.rule(
    "of c I + X: sums of eigenvalues",
    of="Hermitian, of smaller parts",
    when=lambda a: is_hermitian(a) and eigh_.find(a).kind is Sum and has_parts(a),
    parts=lambda a: [(eigvalsh_, a)],
    cost="that of eigh of X",
)
def _slogdet_shifted(a: Sum):
    shifts, rest = cast(Any, split_shift(a))
    base = shifts_base(rest)
    if is_constant(a) or not isinstance(base, (Kronecker, KroneckerSum)):
        return lapack.log_product(eigvalsh_(a))
    grid, scale, shift = products if isinstance(base, Kronecker) else sums, scalar_of(rest), sum(map(scalar_of, shifts))
    return slogdet_of_parts(a, base.factors, lambda values: scale * grid(values) + shift)


@slogdet_.rule(
    "sums of the factors' eigenvalues",
    of="others",
    when=lambda a: a.backend is not None,
    steps=lambda a: [step for factor in a.factors for step in _eigvals_steps(factor.shape[0])],
    cost="10 Σ n_k³ + N",
)
def _slogdet_general_kronecker_sum(a: KroneckerSum):
    found = [lapack.eigvals(matrix) for matrix in matrices_of(a, a.factors)]
    return real_of(a, lapack.log_product(reduce(lambda one, other: (one[:, None] + other).reshape(-1), found)))


def _eigvals_steps(n: int) -> list[Step]:
    return [Step("eigenvalues", f"({n}, {n})", macs=10 * n**3, inputs=n * n, outputs=n)]


def _low_rank_parts(a: Any) -> Any:
    return [(slogdet_, cast(Split, split(a)).rest)]


@slogdet_.rule(
    "the determinant lemma: S plus low rank", when=has_low_rank, parts=_low_rank_parts, cost="that of S, n r²"
)
def _slogdet_low_rank_update(a: Sum):
    try:
        factor = Woodbury(inverse_).factor(a, False)
    except SingularError:
        return zero_of(a)
    if not isinstance(factor, Updated):  # S itself is singular
        return factor.slogdet()
    return product_of([slogdet_(cast(Split, split(a)).rest), factor.core.slogdet()])


def _simpler(a: Any) -> Any:
    """A sum whose terms merge to what has a rule."""
    found = merged(a)
    return found if found is not None and slogdet_.find(found).kind is not LinearOperator else None


@slogdet_.rule(
    "of terms that merge: that of the simplified sum",
    of="sparse terms, circulants, blocks, …",
    when=lambda a: _simpler(a) is not None,
    parts=lambda a: [(slogdet_, _simpler(a))],
    cost="that of the merged sum",
)
def _slogdet_merged(a: Sum):
    return slogdet_(_simpler(a))
