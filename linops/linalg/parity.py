"""The signs of permutations."""

from __future__ import annotations

import numpy as np


def parity(indices: np.ndarray) -> int:
    """The sign of a permutation, from the number of its cycles."""
    n = len(indices)
    smallest, jump = np.arange(n), np.asarray(indices)
    for _ in range(max(n - 1, 1).bit_length()):  # the smallest index on each one's cycle, in doubling steps
        smallest, jump = np.minimum(smallest, smallest[jump]), jump[jump]
    cycles = len(np.unique(smallest))
    return -1 if (n - cycles) % 2 else 1


def axes_parity(dims: tuple[int, ...], order: tuple[int, ...]) -> int:
    """The sign of a permutation of axes: neighbours of sizes a, b make C(a, 2) C(b, 2) exchanges."""
    order, sign, total = tuple(order), 1, int(np.prod(dims, dtype=object)) if dims else 1
    places = list(order)
    for _ in places:
        for i in range(len(places) - 1):
            if places[i] > places[i + 1]:
                a, b = dims[places[i + 1]], dims[places[i]]
                rest = total // max(a * b, 1)
                if (a * (a - 1) // 2) * (b * (b - 1) // 2) * rest % 2:
                    sign = -sign
                places[i], places[i + 1] = places[i + 1], places[i]
    return sign
