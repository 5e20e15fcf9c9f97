"""JAX: functions of matrices by `jax.scipy.linalg.expm`, and by iterations."""

from __future__ import annotations

from typing import Any, Union

import jax
import jax.numpy as jnp
from jax._src.array import ArrayImpl
from jax.core import Tracer

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
