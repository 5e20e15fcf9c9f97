"""Families: functions (out_features, in_features, **options) → symbolic operator.

Each takes any sizes. Where dims do not divide, the operator pads its input with zeros and crops its output, in such a
way that every input counts and no output is frozen. A member that costs more than dense is refused unless asked for.
"""

from __future__ import annotations

from collections.abc import Callable

from linops.families.blocks import blast, block_diag, butterfly, dense, low_rank, monarch
from linops.families.convolutions import circulant, toeplitz
from linops.families.trains import btt, einsum, kronecker, tensor_train
from linops.operator import LinearOperator

__all__ = [
    "FAMILIES",
    "blast",
    "block_diag",
    "btt",
    "butterfly",
    "circulant",
    "dense",
    "einsum",
    "kronecker",
    "low_rank",
    "monarch",
    "tensor_train",
    "toeplitz",
]

#: the families by name, for command lines and tables
FAMILIES: dict[str, Callable[..., LinearOperator]] = {
    "dense": dense,
    "low_rank": low_rank,
    "block_diag": block_diag,
    "kronecker": kronecker,
    "monarch": monarch,
    "tensor_train": tensor_train,
    "btt": btt,
    "einsum": einsum,
    "blast": blast,
    "butterfly": butterfly,
    "circulant": circulant,
    "toeplitz": toeplitz,
}
