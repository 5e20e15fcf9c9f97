"""Dtypes of every framework: what they promote to, and what kind they are."""

from __future__ import annotations

from typing import Any

from linops.backends.registry import loaded, namespace
from linops.specs import dtype_name, numpy_dtype


def result_type(backend: str | None, *dtypes: Any) -> Any:
    """The dtype that dtypes and Python numbers promote to, by a backend's own rules.

    Args:
        backend: The name of the backend, or None for NumPy.
        *dtypes: Dtypes as the backend spells them, and Python numbers, which are weak.

    Returns:
        A dtype as the backend spells it.

    Example:
        >>> import numpy as np
        >>> result_type("numpy", np.dtype("float32"), 1j)
        dtype('complex64')
    """
    if backend == "torch":
        return loaded("torch").result_type(*dtypes)
    return namespace(backend).result_type(*dtypes)


def promotes(backend: str | None) -> bool:
    """Whether products of arrays of two dtypes are in the dtype that these promote to: torch mixes none.

    Args:
        backend: The name of the backend.

    Returns:
        True or False; False of specs and of no backend.
    """
    return backend in ("numpy", "jax")


def exact_float(dtype: Any, backend: str | None) -> Any:
    """The floating dtype that holds the most integers of a dtype: float64, and on JAX without x64 float32.

    Args:
        dtype: A dtype of integers or booleans as the backend spells it.
        backend: The backend, or None for NumPy.

    Returns:
        A dtype as the backend spells it.
    """
    return result_type("jax", dtype, 1.0) if backend == "jax" else canonical_dtype("float64", backend)


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
        return loaded("torch").torch_dtype(dtype)
    return numpy_dtype(dtype)


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
        >>> import numpy as np
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


def weak_number(value: Any) -> Any:
    """A Python number that promotes as a weakly typed array of JAX does; None of what is none."""
    if not getattr(value, "weak_type", False):
        return None
    return 1j if is_complex(value.dtype) else 1.0 if is_inexact(value.dtype) else 1


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
    return loaded(backend).convert(x, None if dtype is None else canonical_dtype(dtype, backend), device)
