"""BlockDiag: equal blocks in one array, or blocks of any shapes."""

from __future__ import annotations

from typing import Any

from linops import backends
from linops.checks import admit, require_same_backend
from linops.declaration import declare, remembered, tree
from linops.operator import LinearOperator, flat
from linops.operators.outputs import every, numbered
from linops.operators.wrap import aslinearoperator
from linops.plan.network import Axes, Graph
from linops.plan.step import Step, matmul_step
from linops.tags import BLOCKWISE, Knowledge, Tag, common


@declare
class BlockDiag(LinearOperator):
    """The block-diagonal operator.

    Cost: b p q MACs a vector for b blocks (p, q), in one batched product; or that of its blocks, one after the other.

    Attributes:
        blocks: (b, p, q) array or spec of equal blocks, or a list of operators and matrices of any shapes.

    Raises:
        ValueError: If an array has not three axes, or the list is empty.
        TypeError: If a block is neither array nor operator, or backends are mixed.

    Example:
        >>> import linops as lo, numpy as np
        >>> lo.BlockDiag(np.array([[[1.]], [[2.]]])) @ np.ones(2)
        array([1., 2.])
        >>> lo.BlockDiag([np.ones((1, 2)), lo.Identity(3)]).shape
        (4, 5)
    """

    blocks: Any = tree(axes=3)

    def __post_init__(self) -> None:
        if isinstance(self.blocks, (list, tuple)):
            if not self.blocks:
                raise ValueError("BlockDiag: expected at least one block")
            object.__setattr__(self, "blocks", tuple(aslinearoperator(block) for block in self.blocks))
            require_same_backend("BlockDiag", self.blocks)
        else:
            admit(self, "blocks", 3)

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        if isinstance(self.blocks, tuple):
            return sum([block.shape[0] for block in self.blocks]), sum([block.shape[1] for block in self.blocks])
        b, p, q = self.blocks.shape
        return b * p, b * q

    @remembered
    def _sizes(self) -> tuple[int, int, int]:
        """(b, p, q) of equal blocks."""
        b, p, q = self.blocks.shape
        return b, p, q

    def _columns(self, x: Any) -> Any:
        if isinstance(self.blocks, tuple):
            x, start, parts = flat(x), 0, []
            for block in self.blocks:
                stop = start + block.shape[1]
                parts.append(flat(block._columns(x[start:stop])))
                start = stop
            return backends.concatenate(parts[0], parts[1:])
        (b, _, q), shape = self._sizes, x.shape
        if len(shape) != 3 or shape[0] != b:
            x = x.reshape(b, q, shape[-1])
        return backends.block_matmul(self.blocks, x)

    def _vector(self, x: Any) -> Any:
        if isinstance(self.blocks, tuple):
            return super()._vector(x)
        return backends.block_matvec(self.blocks, x).reshape(self.shape[0])

    def _transpose(self) -> BlockDiag:
        if isinstance(self.blocks, tuple):
            return BlockDiag(tuple(block.T for block in self.blocks))
        return BlockDiag(backends.permute(self.blocks, (0, 2, 1)))

    def _conj(self) -> BlockDiag:
        if isinstance(self.blocks, tuple):
            return BlockDiag(tuple(block.conj() for block in self.blocks))
        return BlockDiag(backends.conj(self.blocks))

    def _trace(self, graph: Graph, axes: Axes, leaf: int) -> Axes | None:
        if isinstance(self.blocks, tuple):
            return None
        b, p, q = self._sizes
        split = graph.split(axes, (b, q))
        if split is None:
            return None
        (blocks, columns), rows = split, graph.axes(p)
        graph.add(leaf, (*blocks, *rows, *columns))
        return (*blocks, *rows)

    def _lower(self, batch: int) -> tuple[Step, ...]:
        if isinstance(self.blocks, tuple):
            join = Step(
                "concatenate", f"{len(self.blocks)} blocks", inputs=self.shape[0] * batch, outputs=self.shape[0] * batch
            )
            return (*(step for block in self.blocks for step in block._lower(batch)), join)
        b, p, q = self.blocks.shape
        return (matmul_step(b, p, q, batch),)

    def _leaf_fans(self) -> dict[str, tuple[int, int]]:
        if isinstance(self.blocks, tuple):
            return {}
        _, p, q = self.blocks.shape
        return {"blocks": (q, p)}

    def _output_leaves(self) -> tuple[str, ...]:
        return every(numbered("blocks", self.blocks)) if isinstance(self.blocks, tuple) else ("blocks",)

    def _knowledge(self) -> Knowledge:
        if not isinstance(self.blocks, tuple):
            return Knowledge(Tag.DIAGONAL if tuple(self.blocks.shape[1:]) == (1, 1) else Tag.NONE)
        if any(block.shape[0] != block.shape[1] for block in self.blocks):
            return Knowledge()
        return Knowledge(common(block.tags.yes for block in self.blocks) & BLOCKWISE)

    def _detail(self) -> str:
        if isinstance(self.blocks, tuple):
            return f"{len(self.blocks)} blocks"
        b, p, q = self.blocks.shape
        return f"{b} blocks of {p}×{q}"
