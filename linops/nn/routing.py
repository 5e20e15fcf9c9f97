"""Where the rows of a mixture go, in sizes that do not depend on where: array code for torch and JAX alike.

Every expert's rows are cut into blocks of one size, the last one padded, so that a product is one batch of blocks, each
with a copy of its expert's leaves: nothing is dropped, and programs compile for all inputs (as MegaBlocks; Gale et al.,
"MegaBlocks: Efficient Sparse Training with Mixture-of-Experts", 2022). With `BLOCKS` blocks an expert besides its last
one, at most a quarter of the rows is padding, and a row for each block.
"""

from __future__ import annotations

from typing import Any

#: into how many blocks the rows of an expert are cut where all experts have as many; one more holds the rest
BLOCKS = 4


def sizes(count: Any, experts: int) -> tuple[Any, int]:
    """The rows of a block, and how many blocks there are.

    Args:
        count: How many rows there are, each for one expert; a number, or a symbol of one.
        experts: How many experts there are.

    Returns:
        Both.
    """
    most = (BLOCKS + 1) * experts
    return count // (BLOCKS * experts) + 1, min(most, max(count, 1)) if isinstance(count, int) else most


def placed(chosen: Any, numbers: Any, size: Any, blocks: Any) -> tuple[Any, Any, Any]:
    """Where each row goes.

    Args:
        chosen: (count,) integers: the expert of each row.
        numbers: 0, 1, … experts − 1.
        size: The rows of a block.
        blocks: 0, 1, … one less than the number of blocks.

    Returns:
        The place of each row among all rows of blocks; the expert of each block; and how many rows each expert has.

    Example:
        >>> import numpy as np
        >>> placed(np.array([1, 0, 1, 1]), np.arange(2), 2, np.arange(4))
        (array([2, 0, 3, 4]), array([0, 1, 1, 1]), array([1, 3]))
    """
    hits = chosen[:, None] == numbers
    counts = hits.sum(0)
    ends = ((counts + size - 1) // size).cumsum(0)
    starts = ends - (counts + size - 1) // size
    places = starts[chosen] * size + (hits.cumsum(0) * hits).sum(1) - 1
    owners = (blocks[:, None] >= ends).sum(1).clip(max=numbers.shape[0] - 1)
    return places, owners, counts
