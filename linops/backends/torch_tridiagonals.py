"""PyTorch: elimination of tridiagonal matrices, of half of the rows at a time."""

from __future__ import annotations

from typing import Any

import torch

from linops.backends import factorizations as p
from linops.backends.segments import joined


@p.tridiagonal_slogdet.dispatch
def _tridiagonal_slogdet(diag: torch.Tensor, lower: Any, upper: Any):
    """Nested dissection with pivoting: log n rounds of array operations, with derivatives of all orders.

    A segment is two equations in four unknowns: its first and its last one, and those of its neighbours beside them.
    Two neighbours are four equations in six unknowns, and elimination of the two in the middle makes one segment of
    them. The orders of rows and columns that this takes are even, but for swaps to pivots.
    """
    if diag.shape[0] % 2:  # one row of the identity more
        nothing = diag.new_zeros(1)
        diag = torch.cat([diag, nothing + 1])
        lower, upper = torch.cat([lower, nothing]), torch.cat([upper, nothing])
    ends = diag.new_zeros(1)
    below, above, nothing = torch.cat([ends, lower]), torch.cat([upper, ends]), torch.zeros_like(diag[0::2])
    rows = [
        torch.stack([below[0::2], diag[0::2], above[0::2], nothing]),
        torch.stack([nothing, below[1::2], diag[1::2], above[1::2]]),
    ]
    pivots = []
    while rows[0].shape[1] > 1:
        rows = _neighbours(rows)
        for _ in range(2):
            rows, pivot = _eliminated(rows)
            pivots.append(pivot)
    rows = [row[1:] for row in rows]  # beside which there is nothing
    for _ in range(2):
        rows, pivot = _eliminated(rows)
        pivots.append(pivot)
    return p.log_product(torch.cat(pivots))


@p.tridiagonal_pivots.dispatch
def _tridiagonal_pivots(diag: torch.Tensor, squares: Any):
    nothing = torch.zeros_like(diag)
    return _scanned((diag, torch.cat([nothing[:1], squares]), nothing))[0]


def _scanned(segments: Any) -> Any:
    """What the first 1, 2, … n segments make together: log n rounds of array operations."""
    n = segments[0].shape[0]
    if n < 2:
        return segments
    last = n - n % 2
    odd = _scanned(joined([x[0:last:2] for x in segments], [x[1:last:2] for x in segments]))
    even = joined([x[: (n - 1) // 2] for x in odd], [x[2::2] for x in segments])
    found = []
    for first, at_odd, at_even in zip(segments, odd, even):
        both = torch.stack([torch.cat([first[:1], at_even])[: last // 2], at_odd], 1).reshape(-1)
        found.append(torch.cat([both, at_even[-1:]]) if n % 2 else both)
    return found


def _neighbours(rows: list[Any]) -> list[Any]:
    """The equations of two segments each, the unknowns in the middle first; the last of an odd number beside a unit."""
    left, right = [row[:, 0::2] for row in rows], [row[:, 1::2] for row in rows]
    if rows[0].shape[1] % 2:
        unit = torch.eye(4, dtype=rows[0].dtype, device=rows[0].device)
        right = [torch.cat([row, unit[:, place : place + 1]], 1) for place, row in zip((1, 2), right)]
    nothing = torch.zeros_like(left[0][:2])
    return [
        *(torch.cat([row[2:], row[:2], nothing]) for row in left),
        *(torch.cat([row[:2], nothing, row[2:]]) for row in right),
    ]


def _eliminated(rows: list[Any]) -> tuple[list[Any], Any]:
    """Rows without the first unknown, and the largest of its coefficients, negative after an odd number of swaps."""
    top, *others = rows
    rest, sign = [], torch.ones_like(top[0].detach())
    for row in others:
        larger = row[0].detach().abs() > top[0].detach().abs()
        top, row = torch.where(larger, row, top), torch.where(larger, top, row)
        sign = torch.where(larger, -sign, sign)
        rest.append(row)
    divisor = torch.where(top[0] == 0, torch.ones_like(top[0]), top[0])  # zero where all are
    return [row[1:] - row[0] / divisor * top[1:] for row in rest], sign * top[0]
