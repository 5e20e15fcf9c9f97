"""Which framework an array belongs to, and the modules of the frameworks.

An array's type decides its backend, by one dict look-up. A type seen for the first time is resolved among the
frameworks that the program has already imported, so linops never imports torch or jax by itself.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from linops.install import command
from linops.specs import Spec, dtype_name, numpy_dtype
from linops.tracing import assume_constant_result

FRAMEWORKS = ("torch", "jax")

_BACKENDS: dict[type, str | None] = {Spec: "spec"}
_MODULES: dict[str, ModuleType] = {}
_DEVICES = ("cpu", "cuda", "gpu", "mps", "xpu", "tpu", "meta", "rocm")


def register_type(array_type: type, backend: str) -> None:
    """Say that arrays of a type belong to a backend.

    Args:
        array_type: The class of the arrays.
        backend: The name of the backend.
    """
    _BACKENDS[array_type] = backend


def load(backend: str) -> None:
    """Register a backend's primitives; imports its framework.

    Args:
        backend: ``"numpy"``, ``"torch"`` or ``"jax"``.

    Raises:
        ImportError: If the framework is not installed.
        ValueError: If there is no such backend.
    """
    if isinstance(backend, str) and backend in _MODULES:
        return
    check_name(backend)
    try:
        _MODULES[backend] = import_module(f"linops.backends.{backend}")
    except ModuleNotFoundError as error:
        if error.name != backend:
            raise
        raise ImportError(f"backend {backend!r} needs {backend}: {command(backend, backend)}") from error


def loaded(backend: str) -> ModuleType:
    """The module of a backend, with its framework.

    Args:
        backend: ``"numpy"``, ``"torch"`` or ``"jax"``.

    Returns:
        The module.

    Raises:
        ImportError: If the framework is not installed.
        ValueError: If there is no such backend.
    """
    module = _MODULES.get(backend)
    if module is None:
        load(backend)
        module = _MODULES[backend]
    return module


def check_name(backend: Any) -> None:
    """Raise unless a value is the name of a backend.

    Args:
        backend: The value.

    Raises:
        ValueError: If it is another text; the message says where a device or a dtype belongs.
        TypeError: If it is no text.
    """
    if isinstance(backend, str) and backend in ("numpy", *FRAMEWORKS):
        return
    given = (
        backend
        if isinstance(backend, (str, type)) or "dtype" in type(backend).__name__.lower()
        else type(backend).__name__
    )
    text = repr(backend) if isinstance(backend, str) else str(given)
    hint = ""
    if (isinstance(backend, str) and backend.partition(":")[0] in _DEVICES) or type(backend).__name__ in (
        "device",
        "Device",
    ):
        hint = f"; a device goes to device={text if isinstance(backend, str) else '…'}"
    elif not is_array(backend):
        with suppress(TypeError):
            hint = f"; a dtype goes to dtype={dtype_name(numpy_dtype(backend))!r}"
    raise (ValueError if isinstance(backend, str) else TypeError)(
        f"backend {text}: expected 'numpy', 'torch' or 'jax'{hint}"
    )


def on_new_framework() -> None:
    """Register the frameworks that the program imported since the last call (a few dict look-ups otherwise)."""
    for framework in FRAMEWORKS:
        if framework not in _MODULES and framework in sys.modules:
            module = sys.modules[framework]
            if not getattr(getattr(module, "__spec__", None), "_initializing", False):
                load(framework)


def backend_of(value: Any) -> str | None:
    """The backend that an array belongs to.

    Args:
        value: Anything.

    Returns:
        ``"numpy"``, ``"torch"``, ``"jax"`` or ``"spec"``, or None if the value is no array.
    """
    return _backend_of_class(type(value))


@assume_constant_result
def _backend_of_class(kind: type) -> str | None:
    """The backend of the arrays of a class; torch.compile traces no import, so it runs this and keeps the result."""
    found = _BACKENDS.get(kind)
    return _resolve(kind) if found is None else found


def _resolve(kind: type) -> str | None:
    on_new_framework()
    if issubclass(kind, np.ndarray):
        return None  # a subclass may have another arithmetic: `plain` decides
    found = next((_BACKENDS[base] for base in kind.__mro__ if _BACKENDS.get(base)), None)
    _BACKENDS[kind] = found
    return found


def is_array(value: Any) -> bool:
    """Whether a value is an array of some backend, or a spec."""
    return backend_of(value) is not None


def namespace(backend: str | None) -> ModuleType:
    """The array-API namespace of a backend (NumPy's for specs and for no backend).

    Args:
        backend: The name of the backend, or None.

    Returns:
        A module.
    """
    if backend is None or backend == "spec":
        return np
    return loaded(backend).namespace
