"""Inverses of sums: Kronecker sums, c I + X, pairs of Kronecker products, something plus low rank."""

from __future__ import annotations

from typing import Any, cast

from linops.linalg.inverse import Inverse
from linops.linalg.inversion import inverse_, inverse_of_diagonal, inverse_of_orthogonal
from linops.linalg.merging import merged
from linops.linalg.methods.eigenvectors import Eigh
from linops.linalg.methods.pencil import Pencil, is_pencil
from linops.linalg.methods.schur import Schur
from linops.linalg.methods.woodbury import Split, Woodbury, split
from linops.linalg.shifts import is_shifted, shifted
from linops.linalg.spectra import eigh_, has_parts, is_hermitian
from linops.operator import LinearOperator
from linops.operators.kronecker_sum import KroneckerSum
from linops.operators.sum import Sum


@inverse_.rule(
    "the factors' eigenvectors",
    of="Hermitian",
    when=is_hermitian,
    parts=lambda a: [(eigh_, a)],
    cost="Σ n_k³ once, 2 N Σ n_k a vector",
)
def _inverse_kronecker_sum(a: KroneckerSum, kept: bool):
    return Inverse(a, Eigh(), kept)


@inverse_.rule(
    "of c I + X: that of X, shifted in its structure",
    when=is_shifted,
    parts=lambda a: [(inverse_, shifted(a))],
    cost="that of an operator like X",
)
def _inverse_in_structure(a: Sum, kept: bool):
    return inverse_(shifted(a), kept)


@inverse_.rule(
    "of c I + X: the eigenvectors of X",
    of="Hermitian, of smaller parts",
    when=lambda a: is_hermitian(a) and eigh_.find(a).kind is Sum and has_parts(a),
    parts=lambda a: [(eigh_, a)],
    cost="that of eigh of X once, two products with its eigenvectors a vector",
)
def _inverse_shifted(a: Sum, kept: bool):
    return Inverse(a, Eigh(), kept)


@inverse_.rule(
    "the factors' Schur forms",
    of="others",
    when=lambda a: a.backend is not None,
    cost="25 Σ n_k³ once, 10 N Σ n_k a vector",
)
def _inverse_general_kronecker_sum(a: KroneckerSum, kept: bool):
    return Inverse(a, Schur(), kept)


@inverse_.rule(
    "generalised eigenvectors of the two pairs",
    of="two Kronecker products",
    when=is_pencil,
    cost="60 Σ n_k³ once, 24 N Σ n_k a vector",
)
def _inverse_pencil(a: Sum, kept: bool):
    return Inverse(a, Pencil(), kept)


def has_low_rank(a: Any) -> bool:
    """Whether a sum is of low rank beside what has a rule of its own, or a small matrix."""
    found = split(a)
    return found is not None and _is_cheap(found.rest)


def _is_cheap(a: LinearOperator) -> bool:
    """Whether solving does not write a matrix out."""
    rule = inverse_.find(a)
    return rule.kind is not LinearOperator or rule.run in (inverse_of_orthogonal, inverse_of_diagonal)


@inverse_.rule(
    "Woodbury: S plus low rank",
    when=has_low_rank,
    parts=lambda a: [(inverse_, cast(Split, split(a)).rest)],
    cost="that of S, n r² once, n r a vector",
)
def _inverse_low_rank_update(a: Sum, kept: bool):
    return Inverse(a, Woodbury(inverse_), kept)


def _simpler(a: Any) -> Any:
    """A sum whose terms merge to what has a rule."""
    found = merged(a)
    return found if found is not None and _is_cheap(found) else None


@inverse_.rule(
    "of terms that merge: that of the simplified sum",
    of="sparse terms, circulants, blocks, …",
    when=lambda a: _simpler(a) is not None,
    parts=lambda a: [(inverse_, _simpler(a))],
    cost="that of the merged sum",
)
def _inverse_merged(a: Sum, kept: bool):
    return inverse_(_simpler(a), kept)
