"""Permutation: what permutations have in common, however they are given."""

from __future__ import annotations

from linops.operator import LinearOperator
from linops.tags import Knowledge, Tag


class Permutation(LinearOperator):
    """A permutation: by an index array (`Permute`), or of axes (`PermuteAxes`). Rules for both are registered on it."""

    def _knowledge(self) -> Knowledge:
        return Knowledge(Tag.ORTHOGONAL)
