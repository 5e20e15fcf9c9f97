"""New layers of Equinox from old ones."""

from __future__ import annotations

from functools import partial
from typing import Any

import equinox as eqx
import jax

from linops.nn.equinox.layer import Linear
from linops.nn.equinox.nonlinear import LAYERS, Nonlinear
from linops.nn.jax import raised, shifted, started
from linops.nn.nonlinear import Nonlinear as Description
from linops.nn.projected import Fit
from linops.nn.swap import Swap


def build(swap: Swap, weight_norm: bool, key: Any, fit: Fit | None = None) -> Any:
    """A new layer, with the bias of the old, which takes the mean of what is lost.

    Args:
        swap: The old layer.
        weight_norm: Whether the new one normalises its factors.
        key: Of random numbers, where its weight is drawn.
        fit: What its weight is to be; drawn if None. That of what is no linear map says nothing: the layer is
            abstract.

    Returns:
        The layer.
    """
    old = swap.found.layer
    if isinstance(target := swap.operators[0], Description):
        if fit is not None:
            return eqx.filter_eval_shape(partial(_build_nonlinear, swap, target), jax.random.key(0))
        return _build_nonlinear(swap, target, key)
    if fit is not None:
        layer = Linear(fit.operators[0], swap.found.bias, old.weight.dtype, weight_norm=weight_norm, scheme=swap.scheme)
        if layer.gains is not None:
            layer = eqx.tree_at(lambda one: one.gains, layer, raised(layer.operator, layer.gains))
        shift = fit.shifts.get(swap.found.name)
        bias = old.bias if shift is None else shifted(old.bias, shift)
        return eqx.tree_at(lambda one: one.bias, layer, bias) if swap.found.bias else layer
    options = {"zero_init": swap.zero_init, "weight_norm": weight_norm, "scheme": swap.scheme}
    make = partial(Linear, swap.operators[0], swap.found.bias, old.weight.dtype, **options)
    layer = eqx.filter_eval_shape(make, key=key) if isinstance(old.weight, jax.ShapeDtypeStruct) else make(key=key)
    if factors := swap.starts(swap.operators[0]):
        layer = eqx.tree_at(lambda one: one.operator, layer, started(layer.operator, factors))
    return eqx.tree_at(lambda one: one.bias, layer, old.bias) if swap.found.bias else layer


def _build_nonlinear(swap: Swap, target: Any, key: Any) -> Nonlinear:
    """A new layer that is no linear map, with the bias of the old."""
    old = swap.found.layer
    options = {"bias": swap.found.bias, "dtype": old.weight.dtype, "zero_init": swap.zero_init, "nonlinear": target}
    make = partial(LAYERS[type(target)], *target.shape, **options)
    layer = eqx.filter_eval_shape(make, key=key) if isinstance(old.weight, jax.ShapeDtypeStruct) else make(key=key)
    if factors := swap.starts(target):
        scaled = {name: leaf * factors.get(name, 1) for name, leaf in layer.leaves.items()}
        layer = eqx.tree_at(lambda one: one.leaves, layer, scaled)
    return eqx.tree_at(lambda one: one.bias, layer, old.bias) if swap.found.bias else layer
