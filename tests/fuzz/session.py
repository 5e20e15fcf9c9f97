"""A run over many cases, within bounded time and memory."""

from __future__ import annotations

import re
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import randbits

from .check import Failure, Outcome, draw_case, run
from .shrink import shrunk

#: seconds of the processor that a case may take before it counts as hanging
PATIENCE = 60
#: bytes of memory from which JAX's compiled programs are dropped
MEMORY = 2e9


def session(backend: str, seconds: float, seed: int | None = None, case: int | None = None, failures: int = 1) -> int:
    """Run cases for some time and print what was found; the exit status."""
    seed = randbits(32) if seed is None else seed
    print(f"backend {backend}, seed {seed}", flush=True)
    prepare(backend)
    totals, refusals, found = Counter(), Counter(), {}
    start = last = time.monotonic()
    numbers = iter(int, 1) if case is None else iter([case])
    number = -1 if case is None else case - 1
    for _ in numbers:
        number += 1
        outcome = attempt(seed, number, backend)
        totals += Counter(
            expressions=1, comparisons=outcome.checks, skipped=outcome.skipped, refused=bool(outcome.refused)
        )
        if outcome.refused:
            refusals[re.sub(r"\d+", "#", outcome.refused)] += 1
        if outcome.failure is not None:
            signature = outcome.failure.kind
            totals["failures"] += 1
            if signature not in found:
                found[signature] = number
                with patience(PATIENCE):
                    small = shrunk(outcome.failure, seed)
                failed = f"{outcome.failure.check or 'A'}: {outcome.failure.what[:300]}"
                print(f"\ncase {number} after {time.monotonic() - start:.1f} s fails: {failed}")
                print(f"again: python -m tests.fuzz --backend {backend} --seed {seed} --case {number}\n")
                print(small.text(), flush=True)
            if len(found) >= failures:
                break
        now = time.monotonic()
        if now - start > seconds:
            break
        if now - last > 10:
            last = now
            tidy(backend)
            if sys.stdout.isatty():
                print(f"{now - start:.0f} s: {totals['expressions']} expressions", flush=True)
    spent = time.monotonic() - start
    print(
        f"\n{totals['expressions']:,} expressions, {totals['comparisons']:,} comparisons in {spent:.1f} s "
        f"({totals['expressions'] / spent:.0f} expressions/s), {totals['skipped']:,} out of range, "
        f"{totals['refused']:,} refused, {totals['failures']:,} failures; backend {backend}, seed {seed}, "
        f"{memory() / 1e6:.0f} MB"
    )
    for refusal, count in refusals.most_common(5):
        print(f"refused {count}: {refusal}")
    return 1 if totals["failures"] else 0


def attempt(seed: int, number: int, backend: str) -> Outcome:
    """One case; what takes too long is a failure."""
    case = draw_case(seed, number, backend)
    try:
        with patience(PATIENCE), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return run(case)
    except TimeoutError as error:
        return Outcome(failure=Failure(case, "", str(error)))


def prepare(backend: str) -> None:
    """Settings of this process."""
    if backend == "torch":
        import torch

        torch.set_num_threads(1)
    if backend == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
        jax.config.update("jax_disable_most_optimizations", True)  # many small programs: compile them fast


def tidy(backend: str) -> None:
    """Keep memory bounded."""
    if backend == "jax" and memory() > MEMORY:
        import jax

        jax.clear_caches()


def memory() -> float:
    """Bytes that the process holds."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * 4096.0 if statm.exists() else 0.0


@contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in what keeps the processor busy for longer."""

    def ring(*_: object) -> None:
        raise TimeoutError(f"takes more than {seconds} s")

    before = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
