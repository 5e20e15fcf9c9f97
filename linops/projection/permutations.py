"""`Assignment`: the set of permutations of a size, as a target."""

from __future__ import annotations

from linops.declaration import declare
from linops.operator import LinearOperator


@declare
class Assignment(LinearOperator):
    """Any permutation of n numbers: a target of `project`, which chooses one.

    Attributes:
        size: n.
    """

    size: int

    @property
    def shape(self) -> tuple[int, int]:
        """(n, n)."""
        return self.size, self.size
