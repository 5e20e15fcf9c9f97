"""The compiled kernels beside the default mode: where they are there, and in what their samples are taken."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import linops as lo
from linops.kernels.choice import STATE

#: up to so many vectors the kernel of few vectors multiplies
FEW = 64


@lru_cache(maxsize=1)
def are_there() -> bool:
    """Whether this machine compiles kernels for torch; the first call builds them.

    Returns:
        False where torch, a C++ compiler or ninja is missing.
    """
    try:
        from linops.kernels.building import chain_module
    except ImportError:
        return False
    return chain_module() is not None


@contextmanager
def with_kernels() -> Iterator[None]:
    """A context with kernels where they were measured to be faster, `lo.kernels.use("auto")`.

    Samples are taken in it, so that no sample holds the time to switch. After it, products of the default mode take no
    look at kernels, as in a process that never asked for them.
    """
    before = STATE.asked
    try:
        with lo.kernels.use("auto"):
            yield
    finally:
        STATE.asked = before
