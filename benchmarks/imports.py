"""What ``import linops`` adds to ``import numpy``, in fresh processes."""

from __future__ import annotations

import os
import subprocess
import sys
from tempfile import TemporaryDirectory
from typing import Any

from linops.lab.measure import side_by_side


def measure(seconds: float = 15.0) -> list[dict[str, Any]]:
    """Seconds that importing linops adds to importing numpy, in fresh processes.

    Their byte code is compiled before, as pip compiles what it installs, whatever PYTHONDONTWRITEBYTECODE says here.

    Args:
        seconds: About how long to measure.

    Returns:
        Median seconds of a process that imports numpy, of one that imports numpy and linops, and the median difference.
    """
    with TemporaryDirectory() as folder:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = folder

        def run(code: str) -> None:
            subprocess.run([sys.executable, "-c", code], check=True, env=environment)

        run("import numpy, linops")
        times = side_by_side(
            {"numpy": lambda: run("import numpy"), "linops": lambda: run("import numpy, linops")},
            seconds=seconds,
            rounds=15,
        )
    added = sorted(a - b for a, b in zip(times["linops"].seconds, times["numpy"].seconds))
    return [
        {
            "numpy_s": times["numpy"].median,
            "linops_s": times["linops"].median,
            "added_s": added[len(added) // 2],
            "goal_s": 0.25,
        }
    ]
