"""Adjoints of a layer's operator, made from their structure instead of anew at every step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from linops.structure import Structure


class Views(NamedTuple):
    """An adjoint whose leaves are views of the operator's.

    Attributes:
        structure: Of the adjoint.
        leaves: Of each leaf which one of the operator it is a view of, with its shape, strides and offset there.
    """

    structure: Structure
    leaves: tuple[tuple[int, tuple[int, ...], tuple[int, ...], int], ...]


def adjoint(operator: Any, structure: Structure, leaves: Sequence[Tensor], *, alike: bool) -> Any:
    """The adjoint of an operator that a structure was filled to.

    Args:
        operator: Of tensors.
        structure: Its structure, which keeps how the adjoint is made.
        leaves: Its leaves, in the order of the structure.
        alike: Whether `Structure.fill` was told that they are.

    Returns:
        ``operator.H``, with what is known of it where its leaves are views of the operator's.

    Example:
        >>> import linops as lo
        >>> A = lo.low_rank(8, 8, rank=2).init(seed=0, backend="torch")
        >>> leaves = [leaf for _, leaf in A.named_leaves()]
        >>> x = torch.ones(8, 2)
        >>> bool((adjoint(A, A.structure, leaves, alike=True) @ x == A.H @ x).all())
        True
    """
    if not alike or any(type(leaf) is not Tensor or leaf.is_complex() for leaf in leaves):
        return operator.H
    strides = tuple([leaf.stride() for leaf in leaves])
    key = ("adjoint", strides)
    if key not in structure.known:
        structure.known[key] = _found(structure, leaves)
    views = structure.known[key]
    if views is None:
        return operator.H
    filled = []
    for place, shape, stride, offset in views.leaves:
        leaf = leaves[place]
        filled.append(leaf.as_strided(shape, stride, leaf.storage_offset() + offset))
    return views.structure.fill(filled, alike=True)


def _found(structure: Structure, leaves: Sequence[Tensor]) -> Views | None:
    """How the adjoint is made; None where a leaf of it is no view, or it has index arrays or callables."""
    if structure.outline is not structure:
        return None
    marks = [
        torch.empty_strided(leaf.shape, leaf.stride(), dtype=leaf.dtype, device=leaf.device).zero_() for leaf in leaves
    ]
    places = {mark.untyped_storage().data_ptr(): place for place, mark in enumerate(marks)}
    found = structure.fill(marks).H
    if found.structure.outline is not found.structure:
        return None
    views = []
    for _, leaf in found.named_leaves():
        place = places.get(leaf.untyped_storage().data_ptr())
        if place is None or leaf.is_neg() or leaf.dtype != leaves[place].dtype:
            return None
        views.append((place, tuple(leaf.shape), leaf.stride(), leaf.storage_offset()))
    return Views(found.structure, tuple(views))
