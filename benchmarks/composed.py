"""A composed ``Permute @ BlockDiag @ Permute @ BlockDiag`` against the kernel that one writes by hand for it.

By hand, for several vectors: bmm, a transposed view, bmm, and the copy of the last permutation. For one vector: the
best of bmm with a column, bmm with a row, and multiply-and-sum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import product
from math import isqrt
from typing import Any

import numpy as np

import linops as lo
from benchmarks.plain import batched, forms
from benchmarks.progress import progress
from linops import backends as lops
from linops.lab.measure import compiler, side_by_side
from linops.lab.products import forward_step


def composed(d: int, blocks: int) -> lo.LinearOperator:
    """The symbolic operator, composed of its factors.

    Args:
        d: in = out.
        blocks: The number of blocks of both factors, a divisor of d.

    Returns:
        What `lo.monarch` makes.
    """
    size = d // blocks
    left, right = (lo.BlockDiag(lo.spec(blocks, size, size)) for _ in range(2))
    return lo.Permute.axes((blocks, size), (1, 0)) @ left @ lo.Permute.axes((size, blocks), (1, 0)) @ right


def by_hand(backend: str, batch: int) -> dict[str, Callable[[Any, Any, Any], Any]]:
    """Functions of left, right and the vectors.

    Args:
        backend: ``"numpy"``, ``"torch"`` or ``"jax"``.
        batch: Number of vectors; those of one vector take a vector.

    Returns:
        The functions by name.
    """
    if batch == 1:
        return {name: _of_blocks(form) for name, form in forms("monarch", backend).items()}
    bmm = batched(backend)

    def kernel(left: Any, right: Any, x: Any) -> Any:
        blocks, size, _ = left.shape
        middle = bmm(right, x.reshape(blocks, size, -1)).reshape(size, blocks, -1)
        return bmm(left, middle.swapaxes(0, 1)).swapaxes(0, 1).reshape(blocks * size, -1)

    return {"bmm with columns": kernel}


def _of_blocks(form: Callable[[Any, Any], Any]) -> Callable[[Any, Any, Any], Any]:
    """A form of the operator as a function of its blocks."""

    class Factor:
        def __init__(self, blocks: Any) -> None:
            self.blocks = blocks

    class Operator:
        def __init__(self, left: Any, right: Any) -> None:
            self.factors = (None, Factor(left), None, Factor(right))

    return lambda left, right, x: form(Operator(left, right), x)


def measure(
    sizes: tuple[int, ...] = (256, 1024, 4096),
    batches: tuple[int, ...] = (1, 16, 256, 2048),
    backends: tuple[str, ...] = ("numpy", "torch", "jax"),
    seconds: float = 1.0,
    known: Iterable[dict[str, Any]] = (),
) -> Iterator[dict[str, Any]]:
    """A composed Permute @ BlockDiag @ Permute @ BlockDiag over the hand-written kernel (goal: at most 1.1).

    Args:
        sizes: d = in = out; with 4 and with √d blocks each.
        batches: Numbers of vectors.
        backends: Of numpy, torch, jax (compiled, with arguments).
        seconds: About how long to measure each case.
        known: Rows that need not be measured again.

    Yields:
        Rows.
    """
    done = {(row["backend"], row["d"], row["batch"], row["blocks"]) for row in known}
    cells = [
        (backend, d, batch, blocks)
        for backend, d, batch in product(backends, sizes, batches)
        for blocks in dict.fromkeys((4, isqrt(d)))
        if (backend, d, batch, blocks) not in done and d % blocks == 0
    ]
    for backend, d, batch, blocks in progress(cells, "composed"):
        operator = composed(d, blocks).init(seed=0, backend=backend)
        left, right = (leaf for _, leaf in operator.named_leaves())
        vectors = np.random.default_rng(0).standard_normal((d, batch) if batch > 1 else d)
        x = lops.asarray(vectors, backend, "float32")
        compiled, wait = compiler(backend)
        candidates = {"composed": forward_step(operator, x, compiled)}
        for name, function in by_hand(backend, batch).items():
            candidates[name] = _bound(compiled(function), left, right, x)
        times = side_by_side(candidates, seconds=seconds, least_rounds=5, wait=wait)
        ours = times.pop("composed")
        best = min(times, key=lambda name: times[name].median)
        yield {
            "backend": backend,
            "d": d,
            "batch": batch,
            "blocks": blocks,
            "composed_us": 1e6 * ours.median,
            "by_hand_us": 1e6 * times[best].median,
            "ratio": ours.ratio(times[best]),
            "by_hand": best,
        }


def _bound(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    return lambda: function(*arguments)
