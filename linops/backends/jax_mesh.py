"""Products on a mesh of devices: the vectors stay where they are.

XLA keeps an array's division among devices through a program as long as no axis is joined with one that is divided;
where one is, it gathers the array, and with explicit axes JAX refuses. Operators lay out vectors and features as one
device computes fastest, and join them. So on a mesh each vector is multiplied by itself, as `jax.vmap` has it: its axes
hold features alone.
"""

from __future__ import annotations

from functools import lru_cache, partial
from math import isqrt, prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from linops.tuning import JAX_PRIME, JAX_WHOLE


def on_mesh(x: Any) -> bool:
    """Whether an array, or that of a tracer, may be divided among devices: its type names a mesh of several.

    With explicit axes the type counts, also on a mesh of one. Inside `jax.shard_map` each device has arrays of its own,
    which are not.
    """
    return _divides(x.aval.sharding.mesh)


def is_own(x: Any) -> bool:
    """Whether an array, or that of a tracer, is a device's own, inside `jax.shard_map`."""
    return AxisType.Manual in x.aval.sharding.mesh.axis_types


@lru_cache(maxsize=256)
def _divides(mesh: Any) -> bool:
    kinds = zip(mesh.axis_names, mesh.axis_types)
    return any(kind == AxisType.Explicit or (kind == AxisType.Auto and mesh.shape[name] > 1) for name, kind in kinds)


def multiply(x: Any, operator: Any, axis: int) -> Any:
    """The product with every vector along an axis, -1 or -2, of an array on a mesh; other axes keep their division.

    With explicit axes that of the features does so too, where their number allows it.

    Args:
        x: The array.
        operator: The operator.
        axis: The axis of the features.

    Returns:
        The array with the product along the axis.
    """
    return _multiply(operator, x, axis)


@partial(jax.jit, static_argnums=2)
def _multiply(operator: Any, x: Any, axis: int) -> Any:
    sharding = x.aval.sharding
    explicit = tuple(
        name for name, kind in zip(sharding.mesh.axis_names, sharding.mesh.axis_types) if kind == AxisType.Explicit
    )
    if not explicit:
        return _each(operator, x, axis)
    # XLA divides the program as with automatic axes: JAX's own rules know no axes that are split in one way and joined
    # in another
    spec = [*sharding.spec, *[None] * (x.ndim - len(sharding.spec))]
    names = spec[axis] if isinstance(spec[axis], tuple) else (spec[axis],)
    if operator.shape[0] % prod([sharding.mesh.shape[name] for name in names if name is not None]):
        spec[axis] = None
    out = NamedSharding(sharding.mesh, PartitionSpec(*spec))
    divide: Any = jax.sharding.auto_axes(partial(_each, axis=axis), axes=explicit, out_sharding=out)
    return divide(operator, x)


def _each(operator: Any, x: Any, axis: int) -> Any:
    product = operator._vector
    if axis == -2:
        product = jax.vmap(product, in_axes=1, out_axes=1)
    for _ in range(x.ndim + axis):
        product = jax.vmap(product)
    return product(x)


def fourier(x: Any, transform: str, length: int, axis: int, norm: Any) -> Any:
    """As `primitives.fourier`, by matrix products, which XLA divides; for its own transform it gathers the whole array.

    A transform of length n = p q is q of length p and p of length q, with a factor for each number between them (Cooley
    & Tukey, 1965). It sums at most 64 numbers at a time, or as many as a prime factor up to 512 has: some n √n MACs.
    One of a larger prime length is a convolution with a chirp, of the next power of two (Bluestein, 1970).

    Args:
        x: The array.
        transform: ``"fft"``, ``"ifft"``, ``"rfft"`` or ``"irfft"``.
        length: n.
        axis: The axis.
        norm: As in `numpy.fft`.

    Returns:
        The transform.
    """
    x = jnp.moveaxis(x, axis, -1)
    held = length // 2 + 1 if transform == "irfft" else length
    x = x[..., :held] if x.shape[-1] >= held else jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, held - x.shape[-1])])
    if transform == "irfft":  # the other half mirrors the first
        x = jnp.concatenate([x, jnp.conj(jnp.flip(x[..., 1 : length - held + 1], -1))], axis=-1)
    inverse = transform in ("ifft", "irfft")
    y = _transformed(x, length, 1 if inverse else -1, jnp.result_type(x, 1j))
    y = y[..., : length // 2 + 1] if transform == "rfft" else y.real if transform == "irfft" else y
    scales = {"ortho": length**-0.5, "forward": 1.0 if inverse else 1 / length}
    scale = scales.get(norm, 1 / length if inverse else 1.0)
    return jnp.moveaxis(y if scale == 1 else y * scale, -1, axis)


def _transformed(x: Any, n: int, sign: int, dtype: Any) -> Any:
    """Σ_j exp(sign 2πi j k / n) x[…, j]."""
    is_prime = _largest_factor(n) == 1
    if n > JAX_PRIME and is_prime:
        return _chirped(x, n, sign, dtype)
    return (_by_matrix if n <= JAX_WHOLE or is_prime else _in_two)(x, n, sign, dtype)


def _largest_factor(n: int) -> int:
    """The largest factor of n up to √n."""
    return next((size for size in range(isqrt(n), 1, -1) if n % size == 0), 1)


def _by_matrix(x: Any, n: int, sign: int, dtype: Any) -> Any:
    """By one product."""
    return jnp.matmul(x, _roots(n, n, n, sign).astype(dtype), precision="highest")


def _in_two(x: Any, n: int, sign: int, dtype: Any) -> Any:
    """By transforms of two lengths, whose product is n."""
    size = _largest_factor(n)
    rest = n // size  # j = rest · a + b, k = c + size · d
    x = jnp.einsum(
        "...ab,ac->...cb",
        x.reshape(*x.shape[:-1], size, rest),
        _roots(size, size, size, sign).astype(dtype),
        precision="highest",
    )
    x = _transformed(x * _roots(size, rest, n, sign).astype(dtype), rest, sign, dtype)
    return x.swapaxes(-1, -2).reshape(*x.shape[:-2], n)


def _chirped(x: Any, n: int, sign: int, dtype: Any) -> Any:
    """For any n: c_k Σ_j conj(c_{k-j}) c_j x[…, j], c_j = exp(sign πi j² / n), as 2 j k = j² + k² - (k - j)²."""
    length, numbers = 1 << (2 * n - 2).bit_length(), np.arange(n)
    chirp = np.exp(sign * 1j * np.pi / n * (numbers * numbers % (2 * n)))
    kernel = np.zeros(length, complex)
    kernel[:n] = kernel[-numbers] = chirp.conj()
    x = jnp.pad(x * chirp.astype(dtype), [(0, 0)] * (x.ndim - 1) + [(0, length - n)])
    x = _transformed(x, length, -1, dtype) * (np.fft.fft(kernel) / length).astype(dtype)
    return _transformed(x, length, 1, dtype)[..., :n] * chirp.astype(dtype)


def _roots(rows: int, columns: int, n: int, sign: int) -> np.ndarray:
    """exp(sign 2πi j k / n) of j < rows, k < columns."""
    return np.exp(sign * 2j * np.pi / n * (np.outer(np.arange(rows), np.arange(columns)) % n))
