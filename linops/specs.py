"""An array known by shape and dtype alone."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from linops.install import command


def dtype_name(dtype: Any) -> str:
    """The plain name of a dtype of any framework, such as ``"float32"``.

    Args:
        dtype: A string, a NumPy or JAX dtype or scalar type, or a torch dtype.

    Returns:
        The name without the framework's prefix.

    Raises:
        TypeError: If `dtype` names no dtype.

    Example:
        >>> dtype_name(np.float64), dtype_name("bfloat16")
        ('float64', 'bfloat16')
    """
    if isinstance(dtype, str):
        return dtype.removeprefix("torch.")
    text = str(dtype)
    return text.removeprefix("torch.") if text.startswith("torch.") else np.dtype(dtype).name


def numpy_dtype(dtype: Any) -> np.dtype:
    """The NumPy dtype of the same name; bfloat16 comes from ``ml_dtypes``.

    Args:
        dtype: A dtype of any framework, or its name.

    Returns:
        A NumPy dtype.

    Raises:
        TypeError: If NumPy has no dtype of that name.
    """
    name = dtype_name(dtype)
    if name == "bfloat16":
        try:
            import ml_dtypes
        except ImportError:
            raise TypeError(f"dtype 'bfloat16' needs the package ml_dtypes: {command('ml_dtypes')}") from None
        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


@dataclass(frozen=True)
class Spec:
    """The shape and dtype of an array that does not exist yet.

    Operators with a spec leaf are symbolic: they have a shape, a dtype, parameters, a cost and a repr, and
    `LinearOperator.init` makes them concrete. A spec is a value: two equal specs in one expression are two parameters.

    Attributes:
        shape: The sizes of the axes.
        dtype: A NumPy dtype (given as a dtype of any framework, or its name).

    Example:
        >>> Spec((48, 16, 16)).size
        12288
    """

    shape: tuple[int, ...]
    dtype: Any = "float32"

    def __post_init__(self) -> None:
        shape = tuple(int(size) for size in self.shape)
        if any(size < 0 for size in shape):
            raise ValueError(f"spec{shape}: sizes must not be negative")
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "dtype", numpy_dtype(self.dtype))

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return prod(self.shape)

    def reshape(self, *shape: Any) -> Spec:
        """A spec of another shape and the same size, by NumPy's rules (without -1).

        Args:
            *shape: The sizes, or one tuple of them.

        Returns:
            The spec.

        Raises:
            ValueError: If the sizes differ.
        """
        shape = shape[0] if len(shape) == 1 and isinstance(shape[0], tuple) else shape
        if prod(shape) != self.size:
            raise ValueError(f"cannot reshape {self!r} into shape {shape}")
        return Spec(shape, self.dtype)

    def __neg__(self) -> Spec:
        return self

    def __repr__(self) -> str:
        sizes = ", ".join(map(str, self.shape))
        suffix = "" if self.dtype == np.float32 else f", dtype={self.dtype.name!r}"
        return f"spec({sizes}{suffix})"


def spec(*shape: int, dtype: Any = "float32") -> Spec:
    """An array known by shape and dtype alone: a leaf of a symbolic operator.

    Args:
        *shape: The sizes of the axes.
        dtype: A dtype of any framework, or its name.

    Returns:
        The spec.

    Raises:
        ValueError: If a size is negative.
        TypeError: If a size is no integer, or there is no such dtype.

    Example:
        >>> spec(48, 16, 16, dtype="float64")
        spec(48, 16, 16, dtype='float64')
    """
    for size in shape:
        if not isinstance(size, (int, np.integer)):
            way = (
                f"; write spec({', '.join(map(str, size))})"
                if isinstance(size, (tuple, list)) and len(shape) == 1
                else ""
            )
            raise TypeError(f"spec({', '.join(map(repr, shape))}): sizes are integers, got {size!r}{way}")
    return Spec(shape, dtype)
