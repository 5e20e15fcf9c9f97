"""What a number was measured on."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from linops.lab import threads as cpu

PACKAGES = ("linops", "numpy", "scipy", "torch", "triton", "jax")


def environment(threads: int) -> dict[str, Any]:
    """The machine, the versions, the number of threads, the load and the date.

    Args:
        threads: The number of threads that the benchmark was given.

    Returns:
        A dict for JSON.
    """
    info = Path("/proc/cpuinfo")
    models = (
        [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.exists()
        else []
    )
    return {
        "processor": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
        "load_average": round(os.getloadavg()[0], 2),
        "date": datetime.now(UTC).date().isoformat(),
        "commit": _commit(),
    }


def _commit() -> str | None:
    """The commit of the checkout, with a plus where files differ from it; None outside of one."""
    call = ["git", "describe", "--always", "--exclude=*", "--dirty=+"]
    try:
        return subprocess.run(
            call, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _version(package: str) -> str | None:
    """Linops' own, where it is run from a checkout."""
    if package == "linops":
        import linops

        return linops.__version__
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def use_threads(threads: int, jax: bool = False) -> None:
    """Limits the threads of NumPy and torch, and of JAX if it is measured, which pins this process to so many CPUs.

    Args:
        threads: How many.
        jax: Whether JAX is measured; it must not have been imported yet.
    """
    if find_spec("threadpoolctl"):  # where it is not installed, NumPy is not what is measured
        cpu.limit(threads, "numpy")
    cpu.limit(threads, "torch")
    if jax:
        cpu.limit(threads, "jax")
