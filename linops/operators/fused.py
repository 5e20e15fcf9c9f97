"""Fused patterns: neighbours in a product that one primitive computes, where each alone would take a pass over memory.

A pattern is a method of `fuse` for the class of the operator that acts first. `Product` asks for each of its operators
in turn; what matches no pattern runs alone. Where some factors are contractions and others are not, each run of several
contractions is one operator here, a `Product`. `BlockTensorTrain` calls the primitive of the first pattern itself.

| pattern, in the order in which its operators act | primitive |
|---|---|
| equal blocks, a swap of two axes, equal blocks, perhaps a swap after them, as in Monarch | `crossed_matmul` |
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from linops import backends
from linops.dispatch import generic
from linops.operator import LinearOperator
from linops.operators.block_diag import BlockDiag
from linops.operators.permute_axes import PermuteAxes, coarsest


@generic
def fuse(first: Any, rest: tuple[LinearOperator, ...]) -> tuple[int, Callable[[Any], Any]] | None:
    """How many operators, with this one, are a pattern, and what computes their product; None where they are none.

    Patterns are methods: ``@fuse.dispatch def _(first: MyOperator, rest: tuple): …``.

    Args:
        first: The operator that acts first.
        rest: Those that act after it, in that order. Where not all factors of a product have a `_trace`, neighbours
            that have one are a single `Product` here, and that asks for patterns among its own.

    Returns:
        The number of operators, and a function of a features-first operand. Its features may have several axes; `flat`
        of `linops.operator` joins them. A method is chosen by `first` alone, and checks the rest itself.
    """


@fuse.dispatch
def _fuse_any(first: LinearOperator, rest: tuple):
    return None


@fuse.dispatch
def _fuse_crossing(first: BlockDiag, rest: tuple):
    if len(rest) < 2 or not isinstance(rest[1], BlockDiag):
        return None
    (blocks, _, columns), (m, rows, middle) = first._sizes, rest[1]._sizes
    if _swapped(rest[0]) != (middle, m) or not blocks or middle % blocks:
        return None
    swapped = len(rest) > 2 and _swapped(rest[2]) == (m, rows)
    return 4 if swapped else 3, partial(_crossed, first.blocks, rest[1].blocks, blocks, columns, swapped)


def _swapped(operator: Any) -> tuple[int, ...] | None:
    """The two axes that an operator swaps, however it is written; None where it does not."""
    if not isinstance(operator, PermuteAxes):
        return None
    dims, order = (operator.dims, operator.order)
    if order != (1, 0):
        dims, order = coarsest(dims, order)
    return dims if order == (1, 0) else None


def _crossed(first: Any, second: Any, blocks: int, columns: int, swapped: bool, x: Any) -> Any:
    """Two block products with a swap of axes between, and one after."""
    return backends.crossed_matmul(first, second, x.reshape(blocks, columns, x.shape[-1]), swapped)
