"""Arrays of every dtype and memory layout, on every backend, and as Python text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from linops import backends

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
REAL = {
    "numpy": ("float64", "float32", "float16", "longdouble", ">f8", ">f4"),
    "torch": ("float64", "float32", "float16", "bfloat16"),
    "jax": ("float64", "float32", "float16", "bfloat16"),
}
COMPLEX = {
    "numpy": ("complex128", "complex64", ">c16"),
    "torch": ("complex128", "complex64"),
    "jax": ("complex128", "complex64"),
}
SIGNED = ("int8", "int16", "int32", "int64")
INTEGER = {
    "numpy": (*SIGNED, "uint8", "uint16", "uint32", "uint64", ">i4", ">i2"),
    "torch": (*SIGNED, "uint8"),
    "jax": (*SIGNED, "uint8", "uint32"),
}
#: torch multiplies no matrices of booleans
BOOL = {"numpy": ("bool",), "torch": (), "jax": ("bool",)}


def dtype_of(name: str) -> np.dtype:
    """NumPy's dtype of a name."""
    return BFLOAT16 if name == "bfloat16" else np.dtype(name)


@dataclass(frozen=True)
class Array:
    """An array as it is drawn.

    Attributes:
        values: The numbers, in NumPy.
        layout: How they lie in memory: "C", "F", "reversed" (negative strides), "strided", "frozen" (not to be written
            to) or "matrix" (`np.matrix`); on other backends "C".
    """

    values: np.ndarray
    layout: str = "C"

    def on(self, backend: str) -> Any:
        """The array on a backend, in memory of its own."""
        if backend != "numpy":
            return backends.asarray(self.values.copy(), backend)
        values, axes = self.values, range(self.values.ndim)
        if self.layout == "F":
            return np.array(values, order="F")
        if self.layout == "reversed":
            flip = (slice(None, None, -1),) * values.ndim
            return values[flip].copy()[flip]
        if self.layout == "strided":
            wide = np.zeros([2 * size for size in values.shape], values.dtype)
            part = wide[tuple(slice(0, 2 * values.shape[axis], 2) for axis in axes)]
            part[...] = values
            return part
        if self.layout == "matrix":
            return np.matrix(values)
        values = values.copy()
        values.setflags(write=self.layout != "frozen")
        return values

    def text(self, backend: str) -> str:
        """Python that makes the array."""
        numbers, name = text_of(self.values.tolist()), self.values.dtype.name
        if backend == "torch":
            return f"torch.tensor({numbers}, dtype=torch.{name}){self._reshape}"
        if backend == "jax":
            return f"jnp.array({numbers}, dtype=jnp.{'bool_' if name == 'bool' else name}){self._reshape}"
        if self.values.dtype.char in "gG":
            numbers = str(self.values.tolist()).replace("np.longdouble", "np.longdouble").replace("nan", "np.nan")
        kind = self.values.dtype.str if self.values.dtype.byteorder == ">" else name
        made = f"np.array({numbers}, dtype={kind!r}){self._reshape}"
        flip = f"[{', '.join(['::-1'] * self.values.ndim)}]"
        return {
            "F": f"np.asfortranarray({made})",
            "reversed": f"{made}{flip}.copy(){flip}",
            "strided": f"np.repeat({made}, 2, -1)[..., ::2]",
            "matrix": f"np.matrix({made})",
        }.get(self.layout, made)

    @property
    def _reshape(self) -> str:
        return "" if self.values.size else f".reshape({self.values.shape})"


def text_of(numbers: Any) -> str:
    """Nested lists of numbers as Python, of what tolist gives."""
    if isinstance(numbers, list):
        return f"[{', '.join(map(text_of, numbers))}]"
    return repr(numbers) if not isinstance(numbers, (np.generic, ml_dtypes.bfloat16)) else repr(float(numbers))
