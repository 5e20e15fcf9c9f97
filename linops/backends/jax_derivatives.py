"""Derivatives in JAX, and products that run otherwise where gradients are wanted."""

from __future__ import annotations

from typing import Any, Union

import jax
import jax.numpy as namespace
from jax._src.array import ArrayImpl
from jax.core import Tracer
from jax.custom_derivatives import SymbolicZero

from linops.backends import primitives as p

Array = Union[ArrayImpl, Tracer]


@p.jvp.dispatch
def _jvp(x: Array, function: Any, tangent: Array):
    if namespace.iscomplexobj(tangent) and not namespace.iscomplexobj(x):
        return jax.lax.complex(_jvp(x, function, tangent.real), _jvp(x, function, tangent.imag))
    dtype = namespace.result_type(x, tangent)
    return jax.jvp(function, (x.astype(dtype),), (tangent.astype(dtype),))[1]


@p.vjp.dispatch
def _vjp(x: Array, function: Any, cotangent: Array):
    value, pull, *_ = jax.vjp(function, x)
    if namespace.iscomplexobj(cotangent) and not namespace.iscomplexobj(value):
        return jax.lax.complex(_vjp(x, function, cotangent.real), _vjp(x, function, cotangent.imag))
    dtype = namespace.result_type(value, cotangent)
    if dtype != value.dtype:
        value, pull, *_ = jax.vjp(function, x.astype(namespace.result_type(x, dtype)))
    return pull(cotangent.astype(value.dtype))[0]


@p.differentiates.dispatch
def _differentiates(x: Array):
    return True


@p.forked.dispatch
def _forked(x: Array, leaves: tuple, product: Any):
    """A rule for derivatives in forward mode, from which JAX makes those in reverse mode and of higher order."""

    def with_gradients(primals: Any, tangents: Any) -> Any:
        asked = [not isinstance(tangent, SymbolicZero) for tangent in tangents]
        wanted = sum([1 << place for place, asks in enumerate(asked) if asks])

        def of_asked(*values: Any) -> Any:
            given = iter(values)
            x, *leaves = [next(given) if asks else primal for primal, asks in zip(primals, asked)]
            return product(wanted, leaves, x)

        given, moved = ([value for value, asks in zip(values, asked) if asks] for values in (primals, tangents))
        return jax.jvp(of_asked, tuple(given), tuple(moved))

    forward = jax.custom_jvp(lambda x, *leaves: product(0, leaves, x))
    forward.defjvp(with_gradients, symbolic_zeros=True)
    return forward(x, *[varying_as(x, leaf) for leaf in leaves])


def varying_as(x: Any, leaf: Any) -> Any:
    """A leaf as what devices have of their own wherever they do of x: its gradients are summed as they reach it.

    Args:
        x: What devices of `jax.shard_map` may have of their own.
        leaf: What they may all have.

    Returns:
        The leaf.
    """
    vary, varies = (jax.typeof(array).manual_axis_type.varying for array in (x, leaf))
    axes = tuple(sorted(vary - varies))
    return jax.lax.pcast(leaf, axes, to="varying") if axes else leaf
