"""Fast transforms: circulants multiply and add up, Toeplitz operators add up, transforms meet their inverses."""

from __future__ import annotations

from typing import Any

from linops import backends
from linops.operators.circulant import Circulant
from linops.operators.dft import DFT
from linops.operators.hadamard import Hadamard
from linops.operators.identity import Identity
from linops.operators.scaled import Scaled
from linops.operators.toeplitz import Toeplitz
from linops.rules.diagonals import multiple
from linops.rules.functions import absorb, join, merge

# ---------------------------------------------------------------- circulants


def _is_whole(a: Circulant) -> bool:
    """Whether a circulant is all of its matrix, and not a block of it."""
    return a.shape == (a.c.shape[0], a.c.shape[0])


@merge.dispatch
def _merge_circulants(a: Circulant, b: Circulant):
    if not _is_whole(a) or not _is_whole(b):
        return None
    if b.transposed:  # A B = (Aᵀ Bᵀ)ᵀ, as circulants commute, and c is the first column of Bᵀ
        return Circulant(a.T @ b.c, transposed=True)
    return Circulant(a @ b.c)


@join.dispatch
def _join_circulants(a: Circulant, b: Circulant):
    if a.c.shape != b.c.shape:
        return None
    if a.transposed == b.transposed:
        return Circulant(a.c + b.c, a.rows, a.columns, a.transposed)
    return Circulant(a.c + _from_the_end(b.c), transposed=a.transposed) if _is_whole(a) else None


def _from_the_end(c: Any) -> Any:
    """The first row of a circulant: c[-j mod N]."""
    return backends.concatenate(c[:1], [backends.namespace(backends.backend_of(c)).flip(c[1:])])


@absorb.dispatch
def _absorb_circulant(a: Circulant, scalar: Any):
    return Circulant(scalar * a.c, a.rows, a.columns, a.transposed)


# ---------------------------------------------------------------- Toeplitz


@join.dispatch
def _join_toeplitz(a: Toeplitz, b: Toeplitz):
    if a.transposed == b.transposed:
        return Toeplitz(a.c + b.c, a.r + b.r, a.transposed)
    if not b.c.shape[0] or not b.r.shape[0]:
        return None
    column = backends.concatenate(b.c[:1], [b.r[1:]])  # of Bᵀ: the corner is that of c
    return Toeplitz(a.c + column, a.r + b.c, a.transposed)


@absorb.dispatch
def _absorb_toeplitz(a: Toeplitz, scalar: Any):
    return Toeplitz(scalar * a.c, scalar * a.r, a.transposed)


# ---------------------------------------------------------------- and multiples of the identity


@join.dispatch
def _join_identity_on_the_right(a: Circulant | Toeplitz, b: Identity | Scaled):
    number = multiple(b)
    if number is None or not a.shape[0]:
        return None
    c = backends.concatenate(a.c[:1] + number, [a.c[1:]])
    return Toeplitz(c, a.r, a.transposed) if isinstance(a, Toeplitz) else Circulant(c, a.rows, a.columns, a.transposed)


@join.dispatch
def _join_identity_on_the_left(a: Identity | Scaled, b: Circulant | Toeplitz):
    return _join_identity_on_the_right(b, a)


# ---------------------------------------------------------------- transforms and their inverses


@merge.dispatch
def _merge_hadamards(a: Hadamard, b: Hadamard):
    return Scaled(Identity(a.size), a.size)


@merge.dispatch
def _merge_transforms(a: DFT, b: DFT):
    if a.conjugate == b.conjugate:
        return None
    scaled = (a.norm, b.norm).count("backward")  # each √n times a unitary transform
    return Scaled(Identity(a.size), complex(a.size ** (scaled / 2)))  # a complex number, for the product is complex
