"""BlockDiag: equal blocks in one array."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, overload

from linops import backends
from linops.checks import admit
from linops.declaration import declare, remembered, tree
from linops.kernels.choice import STATE
from linops.operators.chained import Chained
from linops.operators.direct_sum import DirectSum
from linops.plan.network import Axes, Graph
from linops.plan.step import Step, matmul_step
from linops.tags import Knowledge, Tag


@declare
class BlockDiag(Chained):
    """The block-diagonal operator of equal blocks in one array; of a list of operators it is a `DirectSum`.

    Cost: b p q MACs a vector for b blocks (p, q), in one batched product.

    Attributes:
        blocks: (b, p, q) array or spec; or a list of operators and matrices of any shapes, which gives a `DirectSum`.

    Raises:
        ValueError: If an array has not three axes, or the list is empty.
        TypeError: If a block is neither array nor operator, or backends are mixed.

    Example:
        >>> import linops as lo, numpy as np
        >>> lo.BlockDiag(np.array([[[1.]], [[2.]]])) @ np.ones(2)
        array([1., 2.])
        >>> lo.BlockDiag([np.ones((1, 2)), lo.Identity(3)])
        DirectSum(2 blocks)  4×5  float64  2 parameters  numpy
        ├─ Dense()  1×2  float64  2 parameters  numpy
        └─ Identity(3)  3×3  no parameters
    """

    blocks: Any = tree(axes=3)

    @overload
    def __new__(cls, blocks: list[Any] | tuple[Any, ...], *, assumed: Tag = Tag.NONE) -> DirectSum: ...
    @overload
    def __new__(cls, blocks: Any = None, *, assumed: Tag = Tag.NONE) -> Self: ...
    def __new__(cls, blocks: Any = None, *, assumed: Tag = Tag.NONE) -> Any:
        """An instance, or of a list a `DirectSum`; copies call it without arguments."""
        return DirectSum(blocks, assumed=assumed) if isinstance(blocks, (list, tuple)) else object.__new__(cls)

    if TYPE_CHECKING:  # which take the `__new__` of a dataclass only where it has an `__init__`

        def __init__(self, blocks: Any, *, assumed: Tag = Tag.NONE) -> None: ...

    def __post_init__(self) -> None:
        admit(self, "blocks", 3)

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        b, p, q = self.blocks.shape
        return b * p, b * q

    @remembered
    def _sizes(self) -> tuple[int, int, int]:
        """(b, p, q)."""
        b, p, q = self.blocks.shape
        return b, p, q

    def _columns(self, x: Any) -> Any:
        if STATE.asked and (y := self._compiled(x, x.shape[-1], False)) is not None:
            return y
        (b, _, q), shape = self._sizes, x.shape
        if len(shape) != 3 or shape[0] != b:
            x = x.reshape(b, q, shape[-1])
        return backends.block_matmul(self.blocks, x)

    def _vector(self, x: Any) -> Any:
        if STATE.asked and (y := self._compiled(x, 1, False)) is not None:
            return y
        return backends.block_matvec(self.blocks, x).reshape(self.shape[0])

    def _rows(self, x: Any) -> Any:
        if STATE.asked and (y := self._compiled(x, x.shape[0], True)) is not None:
            return y
        return super()._rows(x)

    def _transpose(self) -> BlockDiag:
        return BlockDiag._unchecked(blocks=backends.permute(self.blocks, (0, 2, 1)))

    def _trace(self, graph: Graph, axes: Axes, leaf: int) -> Axes | None:
        b, p, q = self._sizes
        split = graph.split(axes, (b, q))
        if split is None:
            return None
        (blocks, columns), rows = split, graph.axes(p)
        graph.add(leaf, (*blocks, *rows, *columns))
        return (*blocks, *rows)

    def _lower(self, batch: int) -> tuple[Step, ...]:
        b, p, q = self.blocks.shape
        return (matmul_step(b, p, q, batch),)

    def _leaf_fans(self) -> dict[str, tuple[int, int]]:
        _, p, q = self.blocks.shape
        return {"blocks": (q, p)}

    def _output_leaves(self) -> tuple[str, ...]:
        return ("blocks",)

    def _knowledge(self) -> Knowledge:
        return Knowledge(Tag.DIAGONAL if tuple(self.blocks.shape[1:]) == (1, 1) else Tag.NONE)

    def _detail(self) -> str:
        b, p, q = self.blocks.shape
        return f"{b} blocks of {p}×{q}"
