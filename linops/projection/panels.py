"""Panels: the columns of an operator too large to be written out, some at a time, of which each takes a product.

What is linear in entries, as means of them, is a sum over panels; blocks are whole in panels that are cut between
them. In a norm of inputs A W C takes panels too: of columns of C, and then of products with W and A.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from linops import backends
from linops.linalg.spectra import real_part
from linops.operator import LinearOperator, flat
from linops.operators.dense import Dense

#: entries of a panel of columns: 32 MiB in float64
PANEL = 2**22
#: entries of W beyond which so many products are not taken unasked: 65,536 × 65,536
MOST = 2**32


def spans(shape: tuple[int, int], unit: int = 1) -> Iterator[slice]:
    """The columns of a matrix in panels.

    Args:
        shape: Of the matrix.
        unit: Panels hold a multiple of so many columns.

    Yields:
        Slices.
    """
    width = max(PANEL // max(*shape, 1) // unit, 1) * unit
    for start in range(0, shape[1], width):
        yield slice(start, min(start + width, shape[1]))


def columns(A: LinearOperator, at: slice) -> Any:
    """Columns of an operator (m, k), by a product."""
    if isinstance(A, Dense):
        return A.matrix[:, at]
    return flat(A._matmul(A._unit_columns(at.start, at.stop - at.start)))


def weighted(goal: Any, A: LinearOperator, at: slice) -> Any:
    """Columns of an operator with the metrics of a goal around it."""
    C, metric = goal.second_moment, goal.output_metric
    if C is None:
        E = columns(A, at)
    elif len(C.shape) == 1:
        E = columns(A, at) * C[at]
    else:
        E = flat(A @ C[:, at])
    if metric is None:
        return E
    return metric[:, None] * E if len(metric.shape) == 1 else metric @ E


def inner(goal: Any, A: LinearOperator, B: LinearOperator) -> Any:
    """The inner product of two operators in a goal's norm, from panels.

    Args:
        goal: The goal, a `Goal`.
        A: An operator of its shape.
        B: Another.

    Returns:
        Σ conj(A)_ij (M B C)_ij, a 0-d array.
    """
    space, total = goal.space, None
    for at in spans(goal.shape):
        part = space.sum(backends.conj(columns(A, at)) * weighted(goal, B, at))
        total = part if total is None else total + part
    return space.sum(goal.like) if total is None else total


def square(goal: Any, A: LinearOperator) -> float:
    """The squared norm of an operator in a goal's norm; what rounding makes negative is zero."""
    return max(float(real_part(inner(goal, A, A))), 0.0)
