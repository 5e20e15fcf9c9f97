"""Fast transforms in JAX: XLA's, and what overflows in them."""

from __future__ import annotations

from typing import Any, Union

import jax
import jax.numpy as namespace
from jax._src.array import ArrayImpl
from jax.core import Tracer

from linops.backends import jax_mesh
from linops.backends import primitives as p

Array = Union[ArrayImpl, Tracer]


@p.fourier.dispatch
def _fourier(x: Array, transform: str, length: int, axis: int, norm: Any):
    if jax_mesh.on_mesh(x):
        return jax_mesh.fourier(x, transform, length, axis, norm)
    return getattr(namespace.fft, transform)(x, length, axis, norm)


@p.convolved.dispatch
def _convolved(x: Array, leaves: tuple, kernel: Any, length: int, axis: int, reverse: bool, kept: dict):
    return None


@p.columns_at_once.dispatch
def _columns_at_once(x: Array, length: int):
    return None


@p.suits_rows.dispatch
def _suits_rows(x: Array, length: int):
    return False


@p.multiply_quietly.dispatch
def _multiply_quietly(x: Array, y: Array):
    return x * y


@p.multiplies_integers.dispatch
def _multiplies_integers(x: Array):
    return True


@p.magnitude.dispatch
def _magnitude(x: Array, axis: int):
    x = jax.lax.stop_gradient(x)
    largest = namespace.maximum(abs(x.real), abs(x.imag)) if namespace.iscomplexobj(x) else abs(x)
    largest = largest.max(axis, keepdims=True, initial=0)
    limits = namespace.finfo(largest.dtype)
    exponents = namespace.clip(namespace.frexp(largest)[1] - 1, int(limits.minexp), int(limits.maxexp) - 1)
    return namespace.where(largest > 0, namespace.ldexp(namespace.ones_like(largest), exponents), 1)


@p.is_at_hand.dispatch
def _is_at_hand(x: Array):
    return False


@p.all_finite.dispatch
def _all_finite(x: Array):
    return None


@p.to_integers.dispatch
def _to_integers(x: Array, dtype: Any):
    # XLA clamps floats, and wraps integers
    return namespace.round(x).astype(f"int{8 * x.dtype.itemsize}").astype(dtype)
