"""JAX: functions of matrices by `jax.scipy.linalg.expm`, and by iterations."""

from __future__ import annotations

from functools import partial
from typing import Any, Union

import jax
import jax.numpy as jnp
from jax._src.array import ArrayImpl
from jax.core import Tracer
from jax.custom_derivatives import SymbolicZero

from linops.backends import divided_differences
from linops.backends import matrix_functions as p

Array = Union[ArrayImpl, Tracer]
#: of matrices of norms up to 5e9
_SQUARINGS = 30


@p.expm.dispatch
def _expm(a: Array):
    return jax.scipy.linalg.expm(a, max_squarings=_SQUARINGS) if a.size else a


@p.sqrtm.dispatch
def _sqrtm(a: Array):
    return p.iterated_sqrtm(a)


@p.logm.dispatch
def _logm(a: Array):
    return p.iterated_logm(a)


@p.fractional_power.dispatch
def _fractional_power(a: Array, exponent: float):
    return p.iterated_power(a, exponent)


@p.repeated.dispatch
def _repeated(x: Array, step: Any, state: Any, count: Any, limit: int):
    if not isinstance(count, Tracer):
        return jax.lax.fori_loop(0, int(count), step, state)

    def guarded(state: Any, k: Any) -> Any:
        return jax.lax.cond(k < count, lambda state: step(k, state), lambda state: state, state), None

    return jax.lax.scan(guarded, state, jnp.arange(limit))[0]


@p.derived.dispatch
def _derived(x: Array, operator: Any, value: Any, weights: Any, surrogate: Any):
    @jax.custom_jvp
    def found(*leaves: Any) -> Any:
        return value(operator.with_leaves(leaves))

    @found.defjvp
    def _(leaves: Any, tangents: Any) -> Any:
        fixed = weights(operator.with_leaves(leaves))
        moved = jax.jvp(lambda *moving: surrogate(fixed, operator.with_leaves(moving)), leaves, tangents)[1]
        return found(*leaves), moved

    return found(*[leaf for _, leaf in operator.named_leaves()])


@p.derivative.dispatch
def _derivative(x: Array, f: Any, at: Any):
    return jax.jvp(f, (at,), (jnp.ones_like(at),))[1]


@p.spectral_function.dispatch
def _spectral_function(a: Array, w: Any, V: Any, W: Any, f: Any):
    w, V, W = (jax.lax.stop_gradient(one) for one in (w, V, W))
    pure, own = jax.closure_convert(f, w)
    if own:  # parameters that are differentiated, too
        return divided_differences.series(f, a, jax.lax.stop_gradient(a), w, V, W)
    return _spectral(pure, a, w, V, W)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _spectral(f: Any, a: Any, w: Any, V: Any, W: Any) -> Any:
    return divided_differences.composed(V, divided_differences.diagonal(f(w)), W)


@_spectral.defjvp
def _spectral_jvp(f: Any, values: Any, tangents: Any) -> Any:
    a, w, V, W = values
    return _spectral(f, a, w, V, W), _along(f, a, w, V, W, tangents[0])


def _along(f: Any, a: Any, w: Any, V: Any, W: Any, E: Any) -> Any:
    """The derivative along E, a linear map whose transpose is differentiated by the rule below, too.

    JAX forgets such rules in what it transposes, but for linear solves, which it knows by their products: with S X =
    L(Xᵀ), which is symmetric, the second half of [[−S, I], [I, 0]]⁻¹ (0, Eᵀ) is L(E).
    """
    across = E.mT.astype(jnp.result_type(E, V, f(w)))

    def S(x: Any) -> Any:
        return _moved(f, a, w, V, W, x.mT)

    # the factors 0 are there because JAX transposes only solves all of whose parts depend on what is transposed
    return jax.lax.custom_linear_solve(
        lambda x: (x[1] - S(x[0]), x[0] - 0 * S(x[1])),
        (0 * across, across),
        lambda _, b: (b[1], b[0] + S(b[1])),
        symmetric=True,
    )[1]


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _moved(f: Any, a: Any, w: Any, V: Any, W: Any, E: Any) -> Any:
    return divided_differences.along(f, w, V, W, E)


@_moved.defjvp
def _moved_jvp(f: Any, values: Any, tangents: Any) -> Any:
    (a, w, V, W, E), moved, turned = values, tangents[0], tangents[-1]
    return _moved(f, a, w, V, W, E), _moved(f, a, w, V, W, turned) + _twice(f, a, w, V, W, moved, E)


def _twice(f: Any, a: Any, w: Any, V: Any, W: Any, E: Any, G: Any) -> Any:
    """The second derivative, without a third."""
    return divided_differences.along_both(f, _final(w, a), V, W, E, G)


@jax.custom_jvp
def _final(w: Any, a: Any) -> Any:
    """W, whose derivative in A is NaN."""
    return w


@partial(_final.defjvp, symbolic_zeros=True)
def _final_jvp(values: Any, tangents: Any) -> Any:
    (w, _), (_, moved) = values, tangents
    if type(moved) is SymbolicZero:
        return w, jnp.zeros_like(w)
    return w, jnp.zeros_like(w) + jnp.nan * moved.real.sum((-1, -2))[..., None]  # linear, as rules have to be
