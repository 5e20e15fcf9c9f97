"""Permutations and pads: indices of neighbours are one array, and permutations move past diagonals."""

from __future__ import annotations

from linops import backends
from linops.algebra.permutations import axes_of, both_indices, by_indices, pad, simplest
from linops.operator import LinearOperator
from linops.operators.diagonal import Diagonal
from linops.operators.identity import Identity
from linops.operators.pad import Pad
from linops.operators.permutation import Permutation
from linops.operators.permute import Permute
from linops.operators.permute_axes import PermuteAxes
from linops.rules.functions import commute, merge, reduce


@merge.dispatch
def _merge_permutations(a: Permutation, b: Permutation):
    found = both_indices(a, b)
    return None if found is None else by_indices(backends.gather(found[1], found[0]))  # (A B x)[i] = x[b[a[i]]]


@reduce.dispatch
def _reduce_permute(a: Permute):
    return by_indices(a.indices)


@reduce.dispatch
def _reduce_axes(a: PermuteAxes):
    return simplest(a.dims, a.order)


@reduce.dispatch
def _reduce_pad(a: Pad):
    return pad(a.rows, a.columns)


def kron_of_permutations(a: Identity | Permutation, b: Identity | Permutation) -> LinearOperator | None:
    """The Kronecker product of identities and permutations as one of them; None if their indices are of two backends.

    Args:
        a: The slower factor.
        b: The faster factor.

    Returns:
        The operator.
    """
    one, other = axes_of(a), axes_of(b)
    if one is not None and other is not None:
        (dims, order), (more, after) = one, other
        return simplest((*dims, *more), (*order, *(axis + len(dims) for axis in after)))
    found = both_indices(a, b)
    if found is None:
        return None
    slow, fast = found
    return by_indices((slow[:, None] * fast.shape[0] + fast).reshape(a.shape[0] * b.shape[0]))


@commute.dispatch
def _commute_permutation_diagonal(a: Permutation, b: Diagonal):
    return Diagonal(a @ b.diagonal), a  # P D = (P D Pᵀ) P


@commute.dispatch
def _commute_diagonal_permutation(a: Diagonal, b: Permutation):
    return b, Diagonal(b.T @ a.diagonal)  # D P = P (Pᵀ D P)
