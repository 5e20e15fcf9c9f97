"""Timing on a shared machine: candidates take turns; medians and ratios within a round count. And the roofline."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from statistics import median, quantiles
from time import perf_counter
from typing import Any

import numpy as np

from linops import backends
from linops.specs import numpy_dtype

Function = Callable[[], Any]

#: a sample shorter than this would measure the clock
LEAST_SAMPLE = 2e-4
MATMUL_SIZES = (256, 512, 1024)


@dataclass(frozen=True)
class Timing:
    """What one candidate took.

    Attributes:
        seconds: Seconds a call, one number a round, in the order of the rounds.
    """

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median of the rounds, in seconds."""
        return median(self.seconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The lower and the upper quartile of the rounds, in seconds."""
        if len(self.seconds) == 1:
            return self.seconds[0], self.seconds[0]
        low, _, high = quantiles(self.seconds, n=4, method="inclusive")
        return low, high

    def ratio(self, other: Timing) -> float:
        """How many times as long as another candidate: the median over the rounds, in each of which both ran.

        Args:
            other: A candidate timed by the same call of `side_by_side`.

        Returns:
            The ratio.

        Raises:
            ValueError: If the numbers of rounds differ.

        Example:
            >>> Timing((2.0, 4.0, 9.0)).ratio(Timing((1.0, 2.0, 3.0)))
            2.0
        """
        if len(self.seconds) != len(other.seconds):
            raise ValueError(
                f"ratio of timings: {len(self.seconds)} and {len(other.seconds)} rounds; "
                "expected those of one measurement"
            )
        return median(a / b for a, b in zip(self.seconds, other.seconds))


def nothing(result: Any) -> None:
    """Waits for nothing: the result of a call that has finished when it returns."""


def side_by_side(
    functions: Mapping[str, Function],
    *,
    seconds: float = 3.0,
    rounds: int = 15,
    least_rounds: int | None = None,
    wait: Callable[[Any], Any] = nothing,
    tell: Callable[[str], Any] = nothing,
    sample: Callable[[Function, int], float] | None = None,
    within: Mapping[str, Callable[[], AbstractContextManager[Any]]] | None = None,
) -> dict[str, Timing]:
    """Times candidates in turns, so that what else runs on the machine hits all of them alike.

    Each is first called until warm, which also says how many calls make a sample. Then, in every round, each candidate
    gives one sample; the order changes from round to round. Where `least_rounds` is 1 and one call of each takes longer
    than the time, the calls that warm up are the only round.

    Args:
        functions: Candidates by name: functions of no arguments.
        seconds: About how long to measure in all; rounds share it.
        rounds: How many rounds, at least 1.
        least_rounds: How many to do at least where a call takes so long that all of them would exceed the time; by
            default all.
        wait: Called on the last result of a sample before the clock stops, as `jax.block_until_ready`.
        tell: Called with what is being done, as ``"round 2 of 15"``.
        sample: Seconds a call, over so many calls; by default by the clock of the CPU, and `wait`.
        within: Makes, for candidates by name, the context in which each of their samples is taken.

    Returns:
        A `Timing` for each candidate.

    Raises:
        ValueError: If there is no candidate or no round.

    Example:
        >>> times = side_by_side({"short": lambda: sum(range(10)), "long": lambda: sum(range(10_000))}, seconds=0.1)
        >>> times["long"].ratio(times["short"]) > 10
        True
    """
    if not functions or rounds < 1:
        raise ValueError(
            f"side_by_side: {len(functions)} candidates and {rounds} rounds; expected at least one of each"
        )
    sample = partial(_sample, wait=wait) if sample is None else sample
    share, within = seconds / rounds / len(functions), within or {}
    calls: dict[str, int] = {}
    warm: dict[str, float] = {}
    for number, (name, function) in enumerate(functions.items()):
        tell(f"warming up {number + 1} of {len(functions)}")
        with within.get(name, nullcontext)():
            calls[name], warm[name] = _calls(function, share, sample)
    if least_rounds == 1 and sum(warm.values()) > seconds:
        return {name: Timing((each,)) for name, each in warm.items()}
    samples: dict[str, list[float]] = {name: [] for name in functions}
    names, start = list(functions), perf_counter()
    for number in range(rounds):
        if least_rounds is not None and number >= least_rounds and perf_counter() - start > seconds:
            break
        tell(f"round {number + 1} of {rounds}")
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            with within.get(name, nullcontext)():
                samples[name].append(sample(functions[name], calls[name]))
    return {name: Timing(tuple(values)) for name, values in samples.items()}


def _sample(function: Function, calls: int, wait: Callable[[Any], Any] = nothing) -> float:
    """Seconds a call, over so many calls, after one more, so that a candidate finds its own data in the caches."""
    wait(function())
    result, start = None, perf_counter()
    for _ in range(calls):
        result = function()
    wait(result)
    return (perf_counter() - start) / calls


def _calls(function: Function, seconds: float, sample: Callable[[Function, int], float]) -> tuple[int, float]:
    """How many calls fill the time, and seconds a call of the last sample."""
    calls = 1
    while (took := sample(function, calls) * calls) < min(seconds, LEAST_SAMPLE):
        calls *= 2
    return max(1, round(calls * max(seconds, LEAST_SAMPLE) / max(took, 1e-9))), took / calls


# ---------------------------------------------------------------- the roofline


@dataclass(frozen=True)
class Roofline:
    """What the machine can do at best, as measured now.

    Attributes:
        flops_per_second: FLOPs a second of the best large matrix product.
        bytes_per_second: Bytes a second of reading and writing in a sum, or of reading in a dot product, over so many
            bytes as in question.
    """

    flops_per_second: float
    bytes_per_second: float

    def seconds(self, flops: float, moved: float) -> float:
        """The least time for so many FLOPs and bytes: arithmetic and memory at their best, in parallel.

        Args:
            flops: FLOPs.
            moved: Bytes that must be read or written at least once.

        Returns:
            Seconds.

        Example:
            >>> Roofline(100.0, 10.0).seconds(flops=200, moved=50)
            5.0
        """
        return max(flops / self.flops_per_second, moved / self.bytes_per_second)


def roofline(backend: str, dtype: str = "float32", moved: int = 1 << 24, seconds: float = 1.0) -> Roofline:
    """Measures the roofline of a backend on its default device.

    Args:
        backend: ``"numpy"``, ``"torch"`` or ``"jax"``.
        dtype: Of the numbers.
        moved: Bytes that the products in question read and write: the bandwidth is that of whichever cache holds so
            much.
        seconds: About how long to measure.

    Returns:
        The roofline.
    """
    probes = Probes(backend, dtype, [moved])
    return probes.roofline(side_by_side(probes.functions, seconds=seconds, rounds=5, wait=compiler(backend)[1]), moved)


class Probes:
    """Candidates for `side_by_side` that find a backend's limits: large square matrix products, x + 1, dot products.

    Timed in one call with what the roofline is for, they meet the same other work on the machine.

    Attributes:
        functions: The candidates by name.

    Args:
        backend: ``"numpy"``, ``"torch"`` or ``"jax"``.
        dtype: Of the numbers.
        moved: Bytes that the products in question read and write.
        seconds: No matrix product that is expected to take longer is among the candidates, but the smallest.
    """

    def __init__(self, backend: str, dtype: str, moved: Iterable[int], seconds: float = float("inf")) -> None:
        compiled, wait = compiler(backend)
        multiply, increase = compiled(lambda a: a @ a), compiled(lambda a: a + 1)
        random, itemsize = np.random.default_rng(0), numpy_dtype(dtype).itemsize
        self._flops: dict[str, int] = {}
        self._bytes: dict[str, int] = {}
        self.functions: dict[str, Function] = {}
        for size in MATMUL_SIZES:
            name, square = f"matmul {size}", backends.asarray(random.standard_normal((size, size)), backend, dtype)
            self.functions[name], self._flops[name] = partial(multiply, square), 2 * size**3
            if 8 * _sample(self.functions[name], 1, wait) > seconds:  # the next size has eight times the FLOPs
                break
        for size in moved:
            count = max(size // itemsize, 2)
            for name, step, length in ((f"add {size}", increase, count // 2), (f"dot {size}", multiply, count)):
                self.functions[name] = partial(step, backends.asarray(np.zeros(length), backend, dtype))
                self._bytes[name] = itemsize * count

    def roofline(self, times: Mapping[str, Timing], moved: int) -> Roofline:
        """The best rates seen.

        Args:
            times: Of all candidates.
            moved: One of the numbers of bytes.

        Returns:
            The roofline for products that move so many bytes.
        """
        flops = max(count / min(times[name].seconds) for name, count in self._flops.items())
        names = f"add {moved}", f"dot {moved}"
        return Roofline(flops, max(self._bytes[name] / min(times[name].seconds) for name in names))


def compiler(backend: str) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """How a backend wants to be timed: what to wrap a function in, and how to wait for its result.

    Args:
        backend: ``"numpy"``, ``"torch"`` or ``"jax"``.

    Returns:
        `jax.jit` and `jax.block_until_ready` for JAX; for the others a function that returns its argument, and one that
        waits (for CUDA).
    """
    if backend == "jax":
        import jax

        return jax.jit, jax.block_until_ready
    if backend == "torch":
        import torch

        if torch.cuda.is_available():
            return _as_it_is, lambda _: torch.cuda.synchronize()
    return _as_it_is, nothing


def _as_it_is(function: Any) -> Any:
    return function
