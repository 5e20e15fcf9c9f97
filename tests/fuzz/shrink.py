"""Failures made small: a part that fails alone, parts replaced by leaves, numbers replaced by ones."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from .arrays import Array
from .check import Case, Failure, run, with_operands
from .draw import Draw, Node

#: seconds to look for a smaller failure
SECONDS = 5.0


def shrunk(failure: Failure, seed: int = 0) -> Failure:
    """The smallest failing case that is found, with one way that fails."""
    end, best, better = time.monotonic() + SECONDS, failure, True
    while better and time.monotonic() < end:
        better = False
        for case in _smaller(best.case, seed):
            if time.monotonic() > end:
                break
            found = _fails(case)
            if found is not None and found.manner == failure.manner:
                best, better = found, True
                break
    alone = _fails(replace(best.case, checks=(best.check,))) if best.check in best.case.checks else None
    return alone or best


def _fails(case: Case) -> Failure | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return run(case).failure


def _smaller(case: Case, seed: int) -> Iterator[Case]:
    """Smaller cases, the smallest first."""
    parts = sorted(list(case.node.nodes())[1:], key=_size)
    draws = Draw(np.random.default_rng(seed), case.backend)
    names = {array.values.dtype.str for part in case.node.nodes() for array in part.arrays.values()}
    if case.backend == "torch":
        names = {array.values.dtype.name for array in case.operands.values()}
    draws.dtypes = tuple(sorted(names)) or (case.operands["x"].values.dtype.name,)
    for part in parts:
        yield with_operands(replace(case, node=part), draws)
    for name, array in case.operands.items():
        yield from (replace(case, operands=case.operands | {name: fewer}) for fewer in _fewer(array, case.backend))
    for node in _replaced(case.node):
        yield replace(case, node=node)
    if case.moved:
        yield replace(case, moved=False)
    for name, array in case.operands.items():
        for plain in _plainer(array):
            yield replace(case, operands=case.operands | {name: plain})


def _size(node: Node) -> int:
    return sum(1 + sum(array.values.size for array in part.arrays.values()) for part in node.nodes())


def _replaced(node: Node) -> Iterator[Node]:
    """The expression with one part of it made smaller."""
    shape = node.twin().shape
    for place, part in enumerate(node.parts):
        same = part.twin().shape
        choices = [inner for inner in list(part.nodes())[1:] if inner.twin().shape == same]
        ones = next((array for inner in part.nodes() for array in inner.arrays.values()), None)
        if part.parts and ones is not None:
            choices.append(Node("lo.Dense({a})", (), {"a": Array(np.ones(same, ones.values.dtype))}, lambda a: a))
        choices += list(_replaced(part))
        for choice in choices:
            yield replace(node, parts=(*node.parts[:place], choice, *node.parts[place + 1 :]))
    for name, array in node.arrays.items():
        for plain in _plainer(array):
            yield replace(node, arrays=node.arrays | {name: plain})
    assert node.twin().shape == shape


def _fewer(array: Array, backend: str) -> Iterator[Array]:
    """An operand of fewer vectors."""
    values = array.values
    if values.ndim > 2 and values.size:
        yield replace(array, values=values.reshape(-1, *values.shape[-2:])[0], layout="C")
    if values.ndim == 2 and values.shape[1] > 1:
        yield replace(array, values=values[:, :1])
    if values.ndim == 2 and values.shape[0] > 1:
        yield replace(array, values=values[:1])


def _plainer(array: Array) -> Iterator[Array]:
    """An array of plainer numbers, or that lies plainly in memory."""
    if array.layout not in ("C", "matrix"):
        yield replace(array, layout="C")
    for values in (
        np.ones_like(array.values),
        np.round(array.values) if array.values.dtype.kind in "fc" else array.values,
    ):
        if (
            not np.array_equal(values, array.values)
            and np.abs(values).sum() < np.abs(array.values.astype(complex)).sum()
        ):
            yield replace(array, values=values)
