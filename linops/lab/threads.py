"""How many threads products may use, for this process alone."""

from __future__ import annotations

import os


def limit(threads: int, backend: str) -> None:
    """Limits the threads of a backend. For JAX this must come before its import, and pins the process to so many CPUs.

    Args:
        threads: How many, at least 1.
        backend: ``"numpy"``, ``"torch"`` or ``"jax"``.

    Raises:
        ValueError: If the number is less than 1, or the system cannot pin processes.
    """
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    if backend == "torch":
        import torch

        torch.set_num_threads(threads)
    elif backend == "numpy":
        from threadpoolctl import threadpool_limits

        threadpool_limits(threads, user_api="blas")
    elif not hasattr(os, "sched_setaffinity"):
        raise ValueError("threads of JAX can be limited on Linux only")
    else:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def used(backend: str) -> int:
    """How many threads products may use.

    Args:
        backend: ``"numpy"``, ``"torch"`` or ``"jax"``.

    Returns:
        The number; of JAX, whose threads nothing else limits, that of the CPUs.
    """
    if backend == "torch":
        import torch

        return torch.get_num_threads()
    if backend == "numpy":
        from threadpoolctl import threadpool_info

        return max((pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"), default=1)
    return available()


def available() -> int:
    """How many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
