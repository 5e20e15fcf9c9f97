"""Compiles C++ with torch's extension machinery, once for each source, CPU and version of torch."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from linops.kernels.choice import STATE

SOURCE = Path(__file__).with_name("crossed.cpp")
FLAGS = ("-O3", "-march=native", "-ffp-contract=fast", "-std=c++20", "-fopenmp")


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL | None:
    """The compiled kernels, built if they were not; processes that do so at once build each for itself.

    Returns:
        The library; None where it cannot be built, and then `lo.kernels.status().reason` says why.
    """
    try:
        from torch.utils import cpp_extension  # which needs setuptools

        root = os.environ.get("TORCH_EXTENSIONS_DIR") or cpp_extension.get_default_build_root()
        path = Path(root, "linops", f"linops_{hashlib.sha256(target().encode()).hexdigest()[:16]}.so")
        if not path.exists():
            _build(cpp_extension.load, path)
        found = ctypes.CDLL(str(path))
    except Exception as error:  # a compiler can fail in any way, and plain products need none
        STATE.reason = f"{type(error).__name__}: {str(error).strip()[:2000]}"
        return None
    STATE.library, STATE.reason = str(path), ""
    return found


def _build(load: Callable[..., Any], path: Path) -> None:
    """Build in a folder of this process, as torch waits without end for a lock that a killed build left in its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="building_", dir=path.parent, ignore_cleanup_errors=True) as folder:
        built = load(
            path.stem,
            [str(SOURCE)],
            extra_cflags=list(FLAGS),
            extra_ldflags=["-fopenmp"],
            build_directory=folder,
            is_python_module=False,
        )
        os.replace(built, path)


@lru_cache(maxsize=1)
def target() -> str:
    """What the kernels are compiled for, and measured on.

    Returns:
        The CPU and what it has, torch's version, and a hash of source and flags.
    """
    source = hashlib.sha256(SOURCE.read_bytes() + " ".join(FLAGS).encode()).hexdigest()[:16]
    return f"{_cpu()}; torch {torch.__version__}; {source}"


def _cpu() -> str:
    """The CPU's name, with a hash of its features."""
    found = {}
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            found.setdefault(name.strip(), value.strip())
    except OSError:
        pass
    name = found.get("model name") or platform.processor() or "CPU"
    features = found.get("flags") or found.get("Features") or torch.backends.cpu.get_cpu_capability()
    return f"{name}, {platform.machine()}, {hashlib.sha256(features.encode()).hexdigest()[:8]}"
