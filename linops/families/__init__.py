"""Families: functions (out_features, in_features, **options) → symbolic operator.

Each takes any sizes. Where dims do not divide, the operator pads its input with zeros and crops its output, in such a
way that every input counts and no output is frozen. A member that you ask for and that costs more than dense is refused
unless allowed. A function of yours becomes a family by `family`.
"""

from __future__ import annotations

from linops.families.blocks import blast, block_diag, butterfly, dense, low_rank, monarch
from linops.families.choice import knob_of, members
from linops.families.convolutions import circulant, toeplitz
from linops.families.knob import Knob
from linops.families.registry import FAMILIES, family
from linops.families.sums import low_rank_block, low_rank_semi_structured, low_rank_sparse
from linops.families.trains import btt, einsum, kronecker, tensor_train

__all__ = [
    "FAMILIES",
    "Knob",
    "blast",
    "block_diag",
    "btt",
    "butterfly",
    "circulant",
    "dense",
    "einsum",
    "family",
    "knob_of",
    "kronecker",
    "low_rank",
    "low_rank_block",
    "low_rank_semi_structured",
    "low_rank_sparse",
    "members",
    "monarch",
    "tensor_train",
    "toeplitz",
]
