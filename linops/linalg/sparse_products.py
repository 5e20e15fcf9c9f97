"""Products of operators of few entries, by their entries."""

from __future__ import annotations

from typing import Any

import numpy as np

from linops import backends

#: the most products of two entries that are made: as many as a matrix of `DENSE_LIMIT` has entries
MOST = 2**25

#: values, rows and columns; values at one position add up
Entries = tuple[Any, np.ndarray, np.ndarray]


def times(one: Entries, other: Entries, n: int) -> Entries | None:
    """The entries of A B, C_ij = Σ_k A_ik B_kj, each position once; None where they are too many products.

    Args:
        one: Those of A.
        other: Those of B, with values of the same framework and dtype.
        n: The number of columns of B.

    Returns:
        The entries in order of rows, then columns.

    Example:
        >>> row = np.array([1.0, 2.0]), np.array([0, 0]), np.array([0, 1])
        >>> column = np.array([3.0, 4.0]), np.array([0, 1]), np.array([0, 0])
        >>> times(row, column, 1)[0]
        array([11.])
    """
    values, rows, columns = other
    order = np.argsort(rows, kind="stable")
    ends = np.searchsorted(rows[order], np.stack([one[2], one[2] + 1]))  # the row of B that an entry of A meets
    counts = ends[1] - ends[0]
    total = int(counts.sum())
    if total > MOST:
        return None
    left = np.repeat(np.arange(counts.size), counts)
    right = order[np.arange(total) - np.repeat(np.cumsum(counts) - counts - ends[0], counts)]
    places, at = np.unique(one[1][left].astype(np.int64) * n + columns[right], return_inverse=True)
    found = _gathered(one[0], left) * _gathered(values, right)
    return backends.scatter(found, backends.indices_beside(found, at), places.size), places // n, places % n


def _gathered(x: Any, indices: np.ndarray) -> Any:
    return backends.gather(x, backends.indices_beside(x, indices))
