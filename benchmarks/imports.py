"""What ``import linops`` adds to ``import numpy``, in fresh processes."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from linops.lab.measure import side_by_side


def _run(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True)


def measure(seconds: float = 15.0) -> list[dict[str, Any]]:
    """Seconds that importing linops adds to importing numpy, in fresh processes.

    Args:
        seconds: About how long to measure.

    Returns:
        Median seconds of a process that imports numpy, of one that imports numpy and linops, and the median difference.
    """
    times = side_by_side(
        {"numpy": lambda: _run("import numpy"), "linops": lambda: _run("import numpy, linops")}, seconds=seconds, rounds=15
    )
    added = sorted(a - b for a, b in zip(times["linops"].seconds, times["numpy"].seconds))
    return [{"numpy_s": times["numpy"].median, "linops_s": times["linops"].median, "added_s": added[len(added) // 2], "goal_s": 0.25}]
