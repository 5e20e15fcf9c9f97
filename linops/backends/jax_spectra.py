"""JAX: spectra whose derivatives are finite where eigenvalues or singular values coincide; see `torch_spectra.py`."""

from __future__ import annotations

from typing import Any, Union

import jax
import jax.numpy as jnp
from jax._src.array import ArrayImpl
from jax.core import Tracer

from linops.backends import factorizations as p
from linops.backends.coinciding import rounding_of_values

Array = Union[ArrayImpl, Tracer]


def _rounding(one: Any) -> Any:
    """The largest difference of two values that are one."""
    largest = jax.lax.stop_gradient(jnp.abs(one).max(-1, keepdims=True))
    return rounding_of_values(one.shape[-1], float(jnp.finfo(one.dtype).eps)) * largest


def _inverse_gaps(one: Any) -> Any:
    """1 / (x_j − x_i), and 0 where that is a difference by rounding alone."""
    gaps = one[..., None, :] - one[..., :, None]
    apart = jnp.abs(gaps) > _rounding(one)[..., None]
    return jnp.where(apart, 1 / jnp.where(apart, gaps, 1), 0)


def _inverse(one: Any) -> Any:
    """1 / x, and 0 where x is zero but for rounding."""
    away = jnp.abs(one) > _rounding(one)
    return jnp.where(away, 1 / jnp.where(away, one, 1), 0)


def _adjoint(a: Any) -> Any:
    return jnp.conj(jnp.swapaxes(a, -1, -2))


def _diagonal(a: Any) -> Any:
    return jnp.diagonal(a, axis1=-2, axis2=-1)


def _on_diagonal(numbers: Any) -> Any:
    return numbers[..., None] * jnp.eye(numbers.shape[-1], dtype=numbers.dtype)


@jax.custom_jvp
def _hermitian(a: Any) -> Any:
    return tuple(jnp.linalg.eigh(a, symmetrize_input=False))


@_hermitian.defjvp
def _hermitian_jvp(primals: Any, tangents: Any) -> Any:
    (a,), (tangent,) = primals, tangents
    w, V = _hermitian(a)
    inner = _adjoint(V) @ ((tangent + _adjoint(tangent)) / 2) @ V
    return (w, V), (_diagonal(inner).real, V @ (_inverse_gaps(w) * inner))


@jax.custom_jvp
def _eigenvalues(a: Any) -> Any:
    return jnp.linalg.eigvalsh(a, symmetrize_input=False)


@_eigenvalues.defjvp
def _eigenvalues_jvp(primals: Any, tangents: Any) -> Any:
    (w, _), (moved, _) = jax.jvp(_hermitian, primals, tangents)
    return w, moved


@jax.custom_jvp
def _decomposed(a: Any) -> Any:
    return tuple(jnp.linalg.svd(a, full_matrices=False))


@_decomposed.defjvp
def _decomposed_jvp(primals: Any, tangents: Any) -> Any:
    (a,), (tangent,) = primals, tangents
    U, s, Vh = _decomposed(a)
    V = _adjoint(Vh)
    inner = _adjoint(U) @ tangent @ V
    gaps, over = _inverse_gaps(s * s), _inverse(s)
    across, down = s[..., None, :], s[..., :, None]
    left = gaps * (inner * across + down * _adjoint(inner))
    right = gaps * (down * inner + _adjoint(inner) * across)
    if jnp.iscomplexobj(a):
        left = left + _on_diagonal(1j * _diagonal(inner).imag * over)
    outside = (tangent @ V - U @ inner) * over[..., None, :]
    beside = (_adjoint(tangent) @ U - V @ _adjoint(inner)) * over[..., None, :]
    return (U, s, Vh), (U @ left + outside, _diagonal(inner).real, _adjoint(V @ right + beside))


@jax.custom_jvp
def _singular(a: Any) -> Any:
    return jnp.linalg.svd(a, compute_uv=False)


@_singular.defjvp
def _singular_jvp(primals: Any, tangents: Any) -> Any:
    (_, s, _), (_, moved, _) = jax.jvp(_decomposed, primals, tangents)
    return s, moved


@p.eigh.dispatch
def _eigh(a: Array):
    return _hermitian(a) if a.size else tuple(jnp.linalg.eigh(a))


@p.dots.dispatch
def _dots(x: Array, y: Array):
    return jnp.vecdot(x, y)


@p.column_dots.dispatch
def _column_dots(x: Array, y: Array):
    return (x.conj() * y).sum(0)


@p.leading_eigenvectors.dispatch
def _leading_eigenvectors(a: Array, count: int):
    return p.eigh(a)[1][..., a.shape[-1] - count :]


@p.eigvalsh.dispatch
def _eigvalsh(a: Array):
    return _eigenvalues(a) if a.size else jnp.linalg.eigvalsh(a)


@p.svd.dispatch
def _svd(a: Array):
    # LAPACK does not return from infinities
    return (
        _decomposed(jnp.where(jnp.isfinite(a), a, jnp.nan)) if a.size else tuple(jnp.linalg.svd(a, full_matrices=False))
    )


@p.svdvals.dispatch
def _svdvals(a: Array):
    return _singular(a) if a.size else jnp.linalg.svd(a, compute_uv=False)
