"""Time and peak memory of products on torch, against d, against the batch, and against the number of factors."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial, reduce
from operator import matmul
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

import linops as lo
from benchmarks.progress import progress
from linops.families.text import parse
from linops.lab.measure import Function, compiler, side_by_side
from linops.lab.products import forward_step, needed_flops, training_step

BATCH = 64
#: what is drawn against d: (structure, the exponent that its FLOPs approach)
AGAINST_D = {
    "dense": "2",
    "monarch": "2",
    "btt": "3/2",
    "low_rank": "3/2",
    "kronecker": "3/2",
    "btt:cores=3": "4/3",
    "kronecker:factors=3": "4/3",
    "tensor_train:rank=4:cores=3": "4/3",
    "butterfly": "1, × log d",
    "circulant": "1, × log d",
}
AGAINST_BATCH = ("dense", "monarch", "btt", "kronecker", "butterfly", "circulant")
#: structures of so many parameters that they stop at half of the largest d
HALF = ("dense", "monarch")
PRODUCT = "product of Permute @ BlockDiag"
#: what is measured against the number of factors, and the fewest
AGAINST_FACTORS = {"kronecker:factors": 1, "tensor_train:rank=4:cores": 2, "btt:cores": 1}
#: d of the operators whose products with one vector are all overhead
SMALL = 64


@dataclass(frozen=True)
class Point:
    """What to measure.

    Attributes:
        against: ``"d"``, ``"batch"`` or ``"factors"``.
        structure: The name of the curve.
        d: in = out.
        batch: Number of vectors.
        factors: How many; 0 where that is not the question.
        make: Makes the symbolic operator.
        small: Makes the operator whose product with one vector is all overhead.
    """

    against: str
    structure: str
    d: int
    batch: int
    factors: int
    make: Callable[[], lo.LinearOperator]
    small: Callable[[], lo.LinearOperator]


def product_of(factors: int, d: int, blocks: int) -> lo.LinearOperator:
    """A product of so many Permute @ BlockDiag.

    Args:
        factors: How many.
        d: in = out.
        blocks: The blocks of each, a divisor of d.

    Returns:
        A symbolic operator.
    """
    size = d // blocks
    pairs = [
        lo.Permute.axes((blocks, size), (1, 0)) @ lo.BlockDiag(lo.spec(blocks, size, size)) for _ in range(factors)
    ]
    return reduce(matmul, pairs)


def points(largest: int) -> list[Point]:
    """All points whose operators are no larger.

    Args:
        largest: The largest d; dense goes up to half of it.

    Returns:
        The points.
    """
    sizes = [2**k for k in range(8, 21) if 2**k <= largest]
    made = [
        _family("d", text, d, BATCH)
        for text in AGAINST_D
        for d in sizes
        if text not in HALF or d <= max(largest // 2, sizes[0])
    ]
    middle = min(1024, largest)
    made += [_family("batch", text, middle, 4**k) for text in AGAINST_BATCH for k in range(7)]
    large, blocks = min(4096, largest), 64 if largest >= 4096 else 16
    for factors in (1, 2, 4, 8, 16, 32):
        make, small = (partial(product_of, factors, d, b) for d, b in ((large, blocks), (SMALL, 8)))
        made.append(Point("factors", PRODUCT, large, BATCH, factors, make, small))
    for text, least in AGAINST_FACTORS.items():
        for factors in (1, 2, 3, 4, 6)[least - 1 :]:
            point = _family("factors", f"{text}={factors}", large, BATCH)
            made.append(replace(point, structure=text.rpartition(":")[0], factors=factors))
    return made


def _family(against: str, text: str, d: int, batch: int) -> Point:
    structure = parse(text)
    make, small = (
        partial(structure, size, size, **({} if text == "dense" else {"allow_dearer": True})) for size in (d, SMALL)
    )
    return Point(against, text, d, batch, 0, make, small)


def measure(
    largest: int = 16384, seconds: float = 0.5, known: Iterable[dict[str, Any]] = ()
) -> Iterator[dict[str, Any]]:
    """Time and peak memory of products on torch against d, the batch, and the number of factors.

    Args:
        largest: The largest d.
        seconds: About how long to measure each point.
        known: Rows that need not be measured again.

    Yields:
        Rows; `floor_us` is the time of the same structure at d = 64 with one vector, which is all overhead.
    """
    done = {_key(row) for row in known}
    left = [
        point
        for point in points(largest)
        if (point.against, point.structure, point.d, point.batch, point.factors) not in done
    ]
    for point in progress(left, "growth"):
        yield _row(point, seconds)


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["against"], row["structure"], row["d"], row["batch"], row["factors"]


def _row(point: Point, seconds: float) -> dict[str, Any]:
    symbolic = point.make()
    operator, small = symbolic.init(seed=0, backend="torch"), point.small().init(seed=0, backend="torch")
    compiled, _ = compiler("torch")
    x, vector = torch.randn(point.d, point.batch), torch.randn(SMALL)
    product, training = forward_step(operator, x, compiled), training_step(operator, x, "torch", compiled)
    candidates = {"product": product, "training": training, "floor": forward_step(small, vector, compiled)}
    times = side_by_side(candidates, seconds=seconds, rounds=9, least_rounds=3)
    return {
        "against": point.against,
        "structure": point.structure,
        "d": point.d,
        "batch": point.batch,
        "factors": point.factors,
        "flops": needed_flops(symbolic, point.batch),
        "params": symbolic.num_params,
        "forward_us": 1e6 * times["product"].median,
        "training_us": 1e6 * times["training"].median,
        "floor_us": 1e6 * times["floor"].median,
        "forward_bytes": peak_bytes(product),
        "training_bytes": peak_bytes(training),
    }


def peak_bytes(function: Function) -> int:
    """The most memory that a call on torch holds at once beyond what was there before, its result included.

    Args:
        function: The call.

    Returns:
        Bytes, as torch's allocator reports them.
    """
    function()
    with _without_stderr(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        result = function()
    del result
    recorded: Any = profiled.profiler
    events = [event for event in recorded.kineto_results.events() if event.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


@contextmanager
def _without_stderr() -> Iterator[None]:
    """Keeps off the terminal what the profiler's library writes to the process's standard error."""
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
