"""The array frameworks: which one an array belongs to, and the few primitives that the array API lacks.

An array's type decides its backend, by one dict look-up. A type seen for the first time is resolved among the frameworks that the
program has already imported, so linops never imports torch or jax by itself. The primitives are plum functions, one method a
backend: `numpy.py`, `torch.py`, `jax.py`, `spec.py`.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from linops.backends.foreign import (
    Coordinates,
    coordinates,
    foreign_kind,
    index_array,
    is_numeric,
    native,
    plain,
    stands_for_array,
)
from linops.backends.primitives import (
    Positions,
    add_slice,
    all_finite,
    applied,
    block_matmul,
    block_matvec,
    check_permutation,
    concatenate,
    conj,
    constant,
    copy,
    crossed_matmul,
    device_of,
    eye,
    fourier,
    gather,
    grid_matmul,
    inverse_permutation,
    jvp,
    magnitude,
    map_columns,
    mesh_product,
    on_mesh,
    pad_rows,
    permute,
    same_array,
    scatter,
    shared_matmul,
    solve_triangular,
    sparse_matmul,
    spread,
    to_integers,
    to_numpy,
    value_of,
    vjp,
    zeros,
)
from linops.install import command
from linops.specs import Spec, dtype_name, numpy_dtype

__all__ = [
    "Coordinates",
    "Positions",
    "add_slice",
    "all_finite",
    "applied",
    "asarray",
    "backend_of",
    "block_matmul",
    "block_matvec",
    "canonical_dtype",
    "check_name",
    "check_permutation",
    "concatenate",
    "conj",
    "constant",
    "coordinates",
    "copy",
    "crossed_matmul",
    "device_of",
    "eye",
    "foreign_kind",
    "fourier",
    "gather",
    "grid_matmul",
    "index_array",
    "inverse_permutation",
    "is_array",
    "is_autocasting",
    "is_compiling",
    "is_complex",
    "is_inexact",
    "is_numeric",
    "is_placeholder",
    "is_symbol",
    "is_traced",
    "itemsize",
    "jvp",
    "load",
    "magnitude",
    "map_columns",
    "mesh_product",
    "namespace",
    "native",
    "on_cpu",
    "on_mesh",
    "on_new_framework",
    "pad_rows",
    "permute",
    "plain",
    "real_dtype",
    "register_type",
    "result_type",
    "same_array",
    "scatter",
    "shared_matmul",
    "solve_triangular",
    "sparse_matmul",
    "spread",
    "stands_for_array",
    "to_integers",
    "to_numpy",
    "value_of",
    "vjp",
    "weak_number",
    "zeros",
]

FRAMEWORKS = ("torch", "jax")

_BACKENDS: dict[type, str | None] = {Spec: "spec"}
_MODULES: dict[str, ModuleType] = {}


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
    given = backend if isinstance(backend, (str, type)) or "dtype" in type(backend).__name__.lower() else type(backend).__name__
    text = repr(backend) if isinstance(backend, str) else str(given)
    hint = ""
    if (isinstance(backend, str) and backend.partition(":")[0] in _DEVICES) or type(backend).__name__ in ("device", "Device"):
        hint = f"; a device goes to device={text if isinstance(backend, str) else '…'}"
    elif not is_array(backend):
        with suppress(TypeError):
            hint = f"; a dtype goes to dtype={dtype_name(canonical_dtype(backend, None))!r}"
    raise (ValueError if isinstance(backend, str) else TypeError)(f"backend {text}: expected 'numpy', 'torch' or 'jax'{hint}")


_DEVICES = ("cpu", "cuda", "gpu", "mps", "xpu", "tpu", "meta", "rocm")


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
    found = _BACKENDS.get(type(value))
    return _resolve(type(value)) if found is None else found


def _resolve(kind: type) -> str | None:
    on_new_framework()
    if issubclass(kind, np.ndarray):
        return None  # a subclass may have another arithmetic: `plain` decides
    found = next((_BACKENDS[base] for base in kind.__mro__ if _BACKENDS.get(base)), None)
    _BACKENDS[kind] = found
    return found


def is_placeholder(value: Any) -> bool:
    """Whether a value stands for an array in a graph that torch.compile is building."""
    fx = sys.modules.get("torch.fx")
    return fx is not None and isinstance(value, fx.Proxy)


def is_symbol(value: Any) -> bool:
    """Whether a value is an integer, or True or False, that torch traces as a symbol."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, (torch.SymInt, torch.SymBool))


def is_traced(value: Any) -> bool:
    """Whether a value is an array that JAX traces."""
    return backend_of(value) == "jax" and isinstance(value, sys.modules["jax"].core.Tracer)


def weak_number(value: Any) -> Any:
    """A Python number that promotes as a weakly typed array of JAX does; None of what is none."""
    if not getattr(value, "weak_type", False):
        return None
    return 1j if is_complex(value.dtype) else 1.0 if is_inexact(value.dtype) else 1


def is_compiling() -> bool:
    """Whether torch.compile or torch.export is tracing: sizes may be symbols then, and caches are not looked into.

    Returns:
        True or False.
    """
    torch = sys.modules.get("torch")
    return torch is not None and torch.compiler.is_compiling()


def is_autocasting() -> bool:
    """Whether torch narrows matrix products on CPUs now.

    Returns:
        True or False.
    """
    torch = sys.modules.get("torch")
    return torch is not None and torch.is_autocast_enabled("cpu")


def on_cpu(array: Any) -> bool:
    """Whether an array's numbers are on a CPU; specs are taken to be.

    Args:
        array: An array or a spec.

    Returns:
        True or False; of an array that JAX traces, whether that is JAX's default.
    """
    backend = backend_of(array)
    if backend == "torch":
        return array.device.type in ("cpu", "meta")
    if backend == "jax":
        jax = sys.modules["jax"]
        platforms = {jax.default_backend()} if isinstance(array, jax.core.Tracer) else {device.platform for device in array.devices()}
        return platforms == {"cpu"}
    return True


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
    load(backend)
    return _MODULES[backend].namespace


def result_type(backend: str | None, *dtypes: Any) -> Any:
    """The dtype that dtypes and Python numbers promote to, by a backend's own rules.

    Args:
        backend: The name of the backend, or None for NumPy.
        *dtypes: Dtypes as the backend spells them, and Python numbers, which are weak.

    Returns:
        A dtype as the backend spells it.

    Example:
        >>> result_type("numpy", np.dtype("float32"), 1j)
        dtype('complex64')
    """
    if backend == "torch":
        return _MODULES["torch"].result_type(*dtypes)
    return namespace(backend).result_type(*dtypes)


def canonical_dtype(dtype: Any, backend: str | None) -> Any:
    """A dtype as a backend spells it.

    Args:
        dtype: A dtype of any framework, or its name.
        backend: The backend, or None for NumPy.

    Returns:
        A torch dtype for torch, else a NumPy dtype.

    Raises:
        TypeError: If the backend has no such dtype.

    Example:
        >>> canonical_dtype("float32", "numpy")
        dtype('float32')
    """
    if backend == "torch":
        load("torch")
        return _MODULES["torch"].torch_dtype(dtype)
    return numpy_dtype(dtype)


def asarray(x: Any, backend: str, dtype: Any = None, device: Any = None) -> Any:
    """An array on another backend, dtype or device, copied only if it has to be.

    Args:
        x: An array of any backend.
        backend: ``"numpy"``, ``"torch"`` or ``"jax"``.
        dtype: A dtype of any framework, or None to keep it.
        device: A device of the framework, or None for its own rule.

    Returns:
        The array.

    Raises:
        TypeError: If the backend cannot hold the dtype as it stands.
    """
    load(backend)
    return _MODULES[backend].convert(x, None if dtype is None else canonical_dtype(dtype, backend), device)


def is_complex(dtype: Any) -> bool:
    """Whether a dtype of any framework is complex.

    Args:
        dtype: A NumPy or torch dtype.

    Returns:
        True or False.
    """
    kind = getattr(dtype, "kind", None)  # NumPy's
    if kind is not None:
        return kind == "c"
    found = getattr(dtype, "is_complex", None)  # torch's
    return dtype_name(dtype).startswith("complex") if found is None else found


def is_inexact(dtype: Any) -> bool:
    """Whether a dtype of any framework is floating or complex.

    Args:
        dtype: A dtype of any framework, or its name.

    Returns:
        True or False.
    """
    kind = getattr(dtype, "kind", "V")  # NumPy's; "V" of bfloat16
    return kind in "fc" if kind != "V" else dtype_name(dtype).startswith(("float", "bfloat", "complex"))


def real_dtype(dtype: Any, backend: str | None) -> Any:
    """The dtype of the real part of numbers of a dtype.

    Args:
        dtype: A dtype as the backend spells it.
        backend: The backend, or None for NumPy.

    Returns:
        A dtype as the backend spells it.

    Example:
        >>> real_dtype(np.dtype("complex64"), "numpy")
        dtype('float32')
    """
    halves = {"complex32": "float16", "complex64": "float32", "complex128": "float64"}
    half = halves.get(dtype_name(dtype))
    return dtype if half is None else canonical_dtype(half, backend)


def itemsize(dtype: Any) -> int:
    """Bytes of one number of a dtype; 4 (float32) where the dtype is open.

    Args:
        dtype: A NumPy or torch dtype, or None.

    Returns:
        The number of bytes.
    """
    return 4 if dtype is None else dtype.itemsize


load("numpy")
