"""Block: operators in a grid; hstack and vstack."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from linops import backends
from linops.checks import require_same_backend
from linops.declaration import declare, remembered, tree
from linops.operator import LinearOperator, flat
from linops.operators.outputs import every
from linops.operators.wrap import as_operators, aslinearoperator
from linops.operators.zero import Zero
from linops.plan.step import Step
from linops.sameness import adjoint_of, transpose_of
from linops.tags import BLOCKWISE, Knowledge, Tag, common


@declare
class Block(LinearOperator):
    """A grid of blocks, [[A, B], [C, D]]: block (i, j) maps part j of the operand to part i of the result.

    Parts of the operand are views; the products of a row of blocks add up, and the rows are joined. Blocks that are
    `Zero` cost nothing.

    Cost: that of the blocks, an addition per number and block of a row after the first, and the copy that joins the
    rows.

    Attributes:
        blocks: Rows of operators and matrices, those of a row of one height, those of a column of one width; None
            stands for zeros.

    Raises:
        ValueError: If the blocks make no grid, or their shapes do not fit.
        TypeError: If one is neither array nor operator, or backends are mixed.

    Example:
        >>> import linops as lo, numpy as np
        >>> A = lo.Block([[np.ones((2, 3)), lo.Identity(2)], [lo.Identity(3), None]])
        >>> A @ np.array([1., 2., 3., 4., 5.])
        array([10., 11.,  1.,  2.,  3.])
    """

    blocks: Any = tree()

    _adds: ClassVar[bool] = True

    def __post_init__(self) -> None:
        rows = self.blocks
        if (
            not isinstance(rows, (list, tuple))
            or not rows
            or not all(isinstance(row, (list, tuple)) and row for row in rows)
        ):
            raise ValueError(
                "Block: expected rows of blocks, as in [[A, B], [C, D]]; lo.hstack and lo.vstack take one row or column"
            )
        if len({len(row) for row in rows}) > 1:
            raise ValueError(
                f"Block: the rows have {', '.join(str(len(row)) for row in rows)} blocks; expected as many in each"
            )
        grid = [[None if block is None else aslinearoperator(block) for block in row] for row in rows]
        heights = [_size("row", i, row, 0) for i, row in enumerate(grid)]
        widths = [_size("column", j, column, 1) for j, column in enumerate(zip(*grid))]
        filled = tuple(
            tuple([Zero(height, width) if block is None else block for block, width in zip(row, widths)])
            for row, height in zip(grid, heights)
        )
        object.__setattr__(self, "blocks", filled)
        require_same_backend("Block", [block for row in filled for block in row])

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        return sum([row[0].shape[0] for row in self.blocks]), sum(self._widths)

    @remembered
    def _widths(self) -> list[int]:
        return [block.shape[1] for block in self.blocks[0]]

    @remembered
    def _rows_of_terms(self) -> list[list[tuple[int, LinearOperator]]]:
        """Of each row the blocks that do something, with their columns; where all are zero, the first."""
        rows = [[(column, block) for column, block in enumerate(row) if not block._is_zero] for row in self.blocks]
        return [terms or [(0, row[0])] for terms, row in zip(rows, self.blocks)]

    @remembered
    def _aliases(self) -> bool:
        rows = self._rows_of_terms
        return len(rows) == 1 and len(rows[0]) == 1 and rows[0][0][1]._aliases

    @property
    def _prefers_rows(self) -> bool:
        return all(block._prefers_rows or block._is_zero for terms in self._rows_of_terms for _, block in terms)

    def _columns(self, x: Any) -> Any:
        return self._joined(flat(x), 0, lambda block, part: flat(block._columns(part)))

    def _rows(self, x: Any) -> Any:
        if not self._prefers_rows:
            return super()._rows(x)
        return self._joined(x, 1, lambda block, part: block._rows(part))

    def _stacked(self, x: Any) -> Any:
        return self._joined(x, 1, lambda block, part: block._stacked(part))

    def _vector(self, x: Any) -> Any:
        return self._joined(x, 0, lambda block, part: block._vector(part))

    def _joined(self, x: Any, axis: int, product: Callable[[Any, Any], Any]) -> Any:
        """The product with an x that has the features along an axis, given that of a block with its part of x."""
        parts, start = [], 0
        for width in self._widths:
            parts.append(x[start : start + width] if axis == 0 else x[:, start : start + width])
            start += width
        results = []
        for (column, first), *rest in self._rows_of_terms:
            y = product(first, parts[column])
            for column, block in rest:
                y = y + product(block, parts[column])
            results.append(y)
        if len(results) == 1:
            return results[0]
        join: Any = backends.namespace(backends.backend_of(x)).concat
        return join(results, axis=axis)

    def _transpose(self) -> Block:
        return Block(tuple(tuple(block.T for block in column) for column in zip(*self.blocks)))

    def _conj(self) -> Block:
        return Block(tuple(tuple(block.conj() for block in row) for row in self.blocks))

    def _lower(self, batch: int) -> tuple[Step, ...]:
        steps: list[Step] = []
        for terms in self._rows_of_terms:
            for number, (_, block) in enumerate(terms):
                steps += block._lower(batch)
                if number:
                    size = block.shape[0] * batch
                    steps.append(
                        Step("add", f"({block.shape[0]}, {batch})", other_flops=size, inputs=2 * size, outputs=size)
                    )
        if len(self.blocks) > 1:
            size = self.shape[0] * batch
            steps.append(Step("concatenate", f"{len(self.blocks)} rows of blocks", inputs=size, outputs=size))
        return tuple(steps)

    def _output_leaves(self) -> tuple[str, ...]:
        grid = [(f"blocks_{i}_{j}", block) for i, row in enumerate(self.blocks) for j, block in enumerate(row)]
        return every([(name, block) for name, block in grid if not block._is_zero])

    def _knowledge(self) -> Knowledge:
        blocks, count = self.blocks, len(self.blocks)
        if [row[0].shape[0] for row in blocks] != self._widths:
            return Knowledge()
        diagonal = common(blocks[i][i].tags.yes for i in range(count))
        pairs = [(blocks[i][j], blocks[j][i]) for i in range(count) for j in range(i)]  # below and above the diagonal
        lower = all(above._is_zero for _, above in pairs)
        upper = all(below._is_zero for below, _ in pairs)
        if lower and upper:
            return Knowledge(diagonal & BLOCKWISE)
        yes = diagonal & (Tag.LOWER_TRIANGULAR if lower else Tag.UPPER_TRIANGULAR if upper else Tag.NONE)
        if lower or upper:
            yes |= diagonal & Tag.INVERTIBLE
        if Tag.SYMMETRIC in diagonal and all(transpose_of(below, above) for below, above in pairs):
            yes |= Tag.SYMMETRIC
        if Tag.HERMITIAN in diagonal and all(adjoint_of(below, above) for below, above in pairs):
            yes |= Tag.HERMITIAN
        return Knowledge(yes)

    def _detail(self) -> str:
        return f"{len(self.blocks)}×{len(self.blocks[0])} blocks"


def _size(line: str, number: int, blocks: Iterable[LinearOperator | None], axis: int) -> int:
    """The height of the blocks of a row (axis 0), or the width of those of a column (axis 1), which must agree."""
    known = [block for block in blocks if block is not None]
    if not known:
        raise ValueError(f"Block: {line} {number} has no block but None, which has no size; use lo.Zero(m, n)")
    size = known[0].shape[axis]
    for block in known:
        if block.shape[axis] != size:
            what = "height" if axis == 0 else "width"
            raise ValueError(
                f"Block: {line} {number} has {known[0]._short()} and {block._short()}; expected blocks of one {what}"
            )
    return size


def hstack(*operators: Any) -> Block:
    """The operator [A, B, …]: A x_1 + B x_2 + … of an operand in parts.

    Args:
        *operators: Operators and matrices of one height, one by one or in a list.

    Returns:
        The operator.

    Raises:
        ValueError: If there is none, or the heights differ.
        TypeError: If one is neither array nor operator, or backends are mixed.

    Example:
        >>> import linops as lo, numpy as np
        >>> lo.hstack(np.ones((2, 3)), lo.Identity(2)).shape
        (2, 5)
    """
    return Block([as_operators("hstack", operators)])


def vstack(*operators: Any) -> Block:
    """The operator of A, B, … on top of each other: A x, B x, … joined.

    Args:
        *operators: Operators and matrices of one width, one by one or in a list.

    Returns:
        The operator.

    Raises:
        ValueError: If there is none, or the widths differ.
        TypeError: If one is neither array nor operator, or backends are mixed.

    Example:
        >>> import linops as lo, numpy as np
        >>> lo.vstack([np.ones((2, 3)), lo.Identity(3)]).shape
        (5, 3)
    """
    return Block([[operator] for operator in as_operators("vstack", operators)])
