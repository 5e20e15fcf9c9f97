"""Permutations and pads: indices of neighbours are one array, and permutations move past diagonals."""

from __future__ import annotations

from linops import backends
from linops.algebra.permutations import both_indices, by_indices, pad, simplest
from linops.operator import LinearOperator
from linops.operators.diagonal import Diagonal
from linops.operators.identity import Identity
from linops.operators.pad import Pad
from linops.operators.permute import Permute
from linops.rules.functions import merge, reduce, swap


@merge.dispatch
def _merge_permutes(a: Permute, b: Permute):
    found = both_indices(a, b)
    return None if found is None else by_indices(backends.gather(found[1], found[0]))  # (A B x)[i] = x[b[a[i]]]


@reduce.dispatch
def _reduce_permute(a: Permute):
    return by_indices(a.indices) if a.indices is not None else simplest(a.dims, a.order)


@reduce.dispatch
def _reduce_pad(a: Pad):
    return pad(a.rows, a.columns)


def kron_of_permutes(a: Identity | Permute, b: Identity | Permute) -> LinearOperator | None:
    """The Kronecker product of identities and permutations as one of them; None if their indices are of two backends.

    Args:
        a: The slower factor.
        b: The faster factor.

    Returns:
        The operator.
    """
    if isinstance(a, Identity) and isinstance(b, Identity):
        return Identity(a.size * b.size)
    if all(isinstance(one, Identity) or one.indices is None for one in (a, b)):
        (dims, order), (more, after) = (
            ((one.size,), (0,)) if isinstance(one, Identity) else (one.dims, one.order) for one in (a, b)
        )
        return simplest((*dims, *more), (*order, *(axis + len(dims) for axis in after)))
    found = both_indices(a, b)
    if found is None:
        return None
    slow, fast = found
    return by_indices((slow[:, None] * fast.shape[0] + fast).reshape(a.shape[0] * b.shape[0]))


@swap.dispatch
def _swap_permute_diagonal(a: Permute, b: Diagonal):
    return Diagonal(a @ b.diagonal), a  # P D = (P D Pᵀ) P


@swap.dispatch
def _swap_diagonal_permute(a: Diagonal, b: Permute):
    return b, Diagonal(b.T @ a.diagonal)  # D P = P (Pᵀ D P)
