"""Compiles C++ with torch's extension machinery, once for each source, CPU and version of torch."""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import tempfile
from collections.abc import Callable
from functools import lru_cache
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from linops.kernels.choice import STATE
from linops.kernels.choosing import Choices, choices_file

#: what is compiled, and what that includes
SOURCES = {name: Path(__file__).with_name(f"{name}.cpp") for name in ("crossed", "chain")}
INCLUDED = [Path(__file__).with_name(name) for name in ("chain.h", "chain_gradients.h")]
FLAGS = ("-O3", "-march=native", "-ffp-contract=fast", "-std=c++20", "-fopenmp")


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL | None:
    """The compiled kernels of two block products, built if they were not.

    Returns:
        The library; None where it cannot be built, and then `lo.kernels.status().reason` says why.
    """
    return _loaded("crossed", lambda path: ctypes.CDLL(str(path)))


@lru_cache(maxsize=1)
def chain_module() -> Any:
    """The compiled module that multiplies by chains of tensors, built if it was not.

    Returns:
        The module; None where it cannot be built, and then `lo.kernels.status().reason` says why.
    """
    return _loaded("chain", _imported)


def _imported(path: Path) -> ModuleType:
    loader = ExtensionFileLoader(path.stem, str(path))
    module = module_from_spec(ModuleSpec(path.stem, loader, origin=str(path)))
    loader.exec_module(module)
    return module


def _loaded(name: str, load: Callable[[Path], Any]) -> Any:
    """What a source was compiled to; processes that compile it at once do so each for itself."""
    try:
        from torch.utils import cpp_extension  # which needs setuptools

        root = os.environ.get("TORCH_EXTENSIONS_DIR") or cpp_extension.get_default_build_root()
        told = target() if name == "crossed" else f"{name}; {target()}"
        path = Path(root, "linops", f"linops_{hashlib.sha256(told.encode()).hexdigest()[:16]}.so")
        if not path.exists():
            _build(cpp_extension, SOURCES[name], path)
        found = load(path)
    except Exception as error:  # a compiler can fail in any way, and plain products need none
        STATE.reasons[name] = f"{type(error).__name__}: {str(error).strip()[:2000]}"
        return None
    STATE.library = str(path)
    STATE.reasons.pop(name, None)
    return found


def _build(cpp_extension: Any, source: Path, path: Path) -> None:
    """Build in a folder of this process, as torch waits without end for a lock that a killed build left in its own."""
    if shutil.which(compiler := cpp_extension.get_cxx_compiler().split()[0]) is None:
        raise RuntimeError(f"no C++ compiler ({compiler}) was found: install one, or say which by the variable CXX")
    path.parent.mkdir(parents=True, exist_ok=True)
    logging.getLogger("linops").warning("linops compiles %s: 10 to 40 s, once for this CPU and torch", source.name)
    with tempfile.TemporaryDirectory(prefix="building_", dir=path.parent, ignore_cleanup_errors=True) as folder:
        built = cpp_extension.load(
            path.stem,
            [str(source)],
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
        The CPU and what it has, torch's version, and a hash of sources and flags.
    """
    read = b"".join([source.read_bytes() for source in (*SOURCES.values(), *INCLUDED)])
    source = hashlib.sha256(read + " ".join(FLAGS).encode()).hexdigest()[:16]
    return f"{_cpu()}; torch {torch.__version__}; {source}"


def measured() -> Choices:
    """What was measured of kernels on this CPU.

    Returns:
        It, as read from the user's file at the first call.
    """
    if STATE.choices is None:
        STATE.choices = Choices(target(), choices_file())
    return STATE.choices


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
