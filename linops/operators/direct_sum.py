"""DirectSum: operators of any shapes along the diagonal."""

from __future__ import annotations

from typing import Any, ClassVar

from linops import backends
from linops.checks import require_same_backend
from linops.declaration import declare, tree
from linops.operator import LinearOperator, flat
from linops.operators.outputs import every, numbered
from linops.operators.wrap import aslinearoperator
from linops.plan.step import Step
from linops.tags import BLOCKWISE, Knowledge, common


@declare
class DirectSum(LinearOperator):
    """The direct sum of operators: they stand along the diagonal, each with its own part of the operand.

    `BlockDiag` of a list makes one.

    Cost: that of the blocks, one after the other, and the copy that joins their results.

    Attributes:
        blocks: A list of at least one operator or matrix, of any shapes.

    Raises:
        ValueError: If the list is empty.
        TypeError: If a block is neither array nor operator, or backends are mixed.

    Example:
        >>> import linops as lo, numpy as np
        >>> lo.DirectSum([np.ones((1, 2)), lo.Identity(3)]) @ np.arange(5.0)
        array([1., 2., 3., 4.])
    """

    blocks: Any = tree()

    _adds: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not isinstance(self.blocks, (list, tuple)):
            raise TypeError(
                f"DirectSum: expected a list of operators and matrices, got {type(self.blocks).__name__}; "
                "lo.BlockDiag takes equal blocks in one array"
            )
        if not self.blocks:
            raise ValueError("DirectSum: expected at least one block")
        object.__setattr__(self, "blocks", tuple(aslinearoperator(block) for block in self.blocks))
        require_same_backend("DirectSum", self.blocks)

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        return sum([block.shape[0] for block in self.blocks]), sum([block.shape[1] for block in self.blocks])

    def _columns(self, x: Any) -> Any:
        x, start, parts = flat(x), 0, []
        for block in self.blocks:
            stop = start + block.shape[1]
            parts.append(flat(block._columns(x[start:stop])))
            start = stop
        return backends.concatenate(parts[0], parts[1:])

    def _transpose(self) -> DirectSum:
        return DirectSum(tuple(block.T for block in self.blocks))

    def _conj(self) -> DirectSum:
        return DirectSum(tuple(block.conj() for block in self.blocks))

    def _lower(self, batch: int) -> tuple[Step, ...]:
        size = self.shape[0] * batch
        join = Step("concatenate", f"{len(self.blocks)} blocks", inputs=size, outputs=size)
        return (*(step for block in self.blocks for step in block._lower(batch)), join)

    def _output_leaves(self) -> tuple[str, ...]:
        return every(numbered("blocks", self.blocks))

    def _knowledge(self) -> Knowledge:
        if any(block.shape[0] != block.shape[1] for block in self.blocks):
            return Knowledge()
        return Knowledge(common(block.tags.yes for block in self.blocks) & BLOCKWISE)

    def _detail(self) -> str:
        return f"{len(self.blocks)} blocks"
