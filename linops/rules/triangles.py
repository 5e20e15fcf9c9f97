"""Tridiagonal operators take in diagonals and add up; one reflection is a vector.

Triangles need no rules: each becomes a matrix, which costs less, and is known to be triangular.
"""

from __future__ import annotations

from typing import Any

from linops.operators.diagonal import Diagonal
from linops.operators.householder import Householder
from linops.operators.identity import Identity
from linops.operators.scaled import Scaled
from linops.operators.tridiagonal import Tridiagonal
from linops.rules.diagonals import multiple
from linops.rules.functions import absorb, join, merge, reduce
from linops.rules.pairs import computable


@merge.dispatch
def _merge_diagonal_tridiagonal(a: Diagonal, b: Tridiagonal):
    d = a.diagonal
    return Tridiagonal(d[1:] * b.lower, d * b.diag, d[:-1] * b.upper)


@merge.dispatch
def _merge_tridiagonal_diagonal(a: Tridiagonal, b: Diagonal):
    d = b.diagonal
    return Tridiagonal(a.lower * d[:-1], a.diag * d, a.upper * d[1:])


@join.dispatch
def _join_tridiagonals(a: Tridiagonal, b: Tridiagonal):
    lower = a.lower + b.lower
    upper = lower if a.upper is a.lower and b.upper is b.lower else a.upper + b.upper  # symmetric ones stay so
    return Tridiagonal(lower, a.diag + b.diag, upper)


@join.dispatch
def _join_tridiagonal_diagonal(a: Tridiagonal, b: Diagonal):
    return Tridiagonal(a.lower, a.diag + b.diagonal, a.upper)


@join.dispatch
def _join_diagonal_tridiagonal(a: Diagonal, b: Tridiagonal):
    return Tridiagonal(b.lower, a.diagonal + b.diag, b.upper)


@join.dispatch
def _join_tridiagonal_identity(a: Tridiagonal, b: Identity | Scaled):
    number = multiple(b)
    return None if number is None else Tridiagonal(a.lower, a.diag + number, a.upper)


@join.dispatch
def _join_identity_tridiagonal(a: Identity | Scaled, b: Tridiagonal):
    return _join_tridiagonal_identity(b, a)


@absorb.dispatch
def _absorb_tridiagonal(a: Tridiagonal, scalar: Any):
    lower = scalar * a.lower
    return Tridiagonal(lower, scalar * a.diag, lower if a.upper is a.lower else scalar * a.upper)


@reduce.dispatch
def _reduce_householder(a: Householder):
    single = len(a.v.shape) == 2 and a.v.shape[0] == 1 and computable(a)
    return Householder(a.v.reshape(a.v.shape[1])) if single else None
