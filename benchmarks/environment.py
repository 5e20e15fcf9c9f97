"""What a number was measured on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch


def environment(threads: int) -> dict[str, Any]:
    """The machine, the versions and the number of threads.

    Args:
        threads: The number of threads that the benchmark was given.

    Returns:
        A dict for JSON.
    """
    info = Path("/proc/cpuinfo")
    models = (
        [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    )
    return {
        "processor": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("linops", "numpy", "torch")},
        "load_average": os.getloadavg()[0],
    }


def use_threads(threads: int) -> None:
    """Give torch a number of threads (NumPy's follow OMP_NUM_THREADS, which must be set before Python starts).

    Args:
        threads: How many.
    """
    torch.set_num_threads(threads)
