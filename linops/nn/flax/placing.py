"""New layers in the place of old ones in a Flax NNX model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
from flax import nnx

from linops.nn.flax.dense import features
from linops.nn.flax.general import LinearGeneral
from linops.nn.flax.layer import Linear
from linops.nn.flax.nonlinear import LAYERS, Nonlinear
from linops.nn.jax import raised
from linops.nn.nonlinear import Nonlinear as Description
from linops.nn.projected import Fit
from linops.nn.swap import Swap


def build(swap: Swap, weight_norm: bool, rngs: nnx.Rngs | None, fit: Fit | None = None) -> Any:
    """A new layer, with the bias of the old.

    Args:
        swap: The old layer.
        weight_norm: Whether the new one normalises its factors.
        rngs: The random streams, where its weight is drawn.
        fit: What its weight is to be; drawn if None. That of what is no linear map says nothing: the layer is
            abstract.

    Returns:
        The layer.
    """
    old = swap.found.layer
    if isinstance(target := swap.operators[0], Description):
        if fit is not None:
            return nnx.eval_shape(partial(_build_nonlinear, swap, target), nnx.Rngs(0))
        return _build_nonlinear(swap, target, rngs)
    kernel = old.kernel.get_value()

    def make(rngs: nnx.Rngs | None) -> Linear:
        operator, bias = fit.operators[0] if fit else swap.operators[0], swap.found.bias
        options = {
            "dtype": old.dtype,
            "param_dtype": kernel.dtype,
            "zero_init": swap.zero_init,
            "weight_norm": weight_norm,
            "scheme": swap.scheme,
        }
        if isinstance(old, nnx.LinearGeneral):
            return LinearGeneral(operator, *features(old), old.axis, bias, **options, rngs=rngs)
        return Linear(operator, bias, **options, rngs=rngs)

    layer = nnx.eval_shape(make, rngs) if isinstance(kernel, jax.ShapeDtypeStruct) else make(rngs)
    if fit and weight_norm:
        gains = {name: getattr(layer, f"{name}_gain", None) for name in layer.leaf_names}
        known = {name: gain.get_value() for name, gain in gains.items() if gain is not None}
        for name, gain in raised(fit.operators[0], known).items():
            getattr(layer, f"{name}_gain").set_value(gain)
    for name, factor in ({} if fit else swap.starts(swap.operators[0])).items():
        leaf = getattr(layer, name)
        leaf.set_value(leaf.get_value() * factor)
    if swap.found.bias:
        layer.bias = old.bias
    return layer


def _build_nonlinear(swap: Swap, target: Any, rngs: nnx.Rngs | None) -> Nonlinear:
    """A new layer that is no linear map, with the bias of the old."""
    old = swap.found.layer
    if isinstance(old, nnx.LinearGeneral):
        raise ValueError(
            f"layer {swap.found.name!r} is an nnx.LinearGeneral, for which there is no {target.kind}; exclude it"
        )
    kernel = old.kernel.get_value()
    options = {"dtype": old.dtype, "param_dtype": kernel.dtype, "zero_init": swap.zero_init, "nonlinear": target}

    def make(rngs: nnx.Rngs | None) -> Nonlinear:
        return LAYERS[type(target)](*target.shape, bias=swap.found.bias, **options, rngs=rngs)

    layer = nnx.eval_shape(make, rngs) if isinstance(kernel, jax.ShapeDtypeStruct) else make(rngs)
    for name, factor in swap.starts(target).items():
        leaf = getattr(layer, name)
        leaf.set_value(leaf.get_value() * factor)
    if swap.found.bias:
        layer.bias = old.bias
    return layer


def exchange(model: nnx.Module, new: Mapping[int, Any], undo: list[Callable[[], object]] | None = None) -> None:
    """Put new layers in the place of old ones, wherever they occur.

    Args:
        model: The model.
        new: The new layers by the ids of the old.
        undo: Takes functions which, called last first, make the model what it was.
    """
    for _, module in list(nnx.iter_modules(model)):
        for key, value in list(vars(module).items()):
            changed = _exchanged(value, new)
            if changed is not value:
                if undo is not None:
                    undo.append(partial(setattr, module, key, value))
                setattr(module, key, changed)


def _exchanged(value: Any, new: Mapping[int, Any]) -> Any:
    """A module's attribute with its layers exchanged, also in lists, tuples, dicts; the same object without any."""
    if id(value) in new:
        return new[id(value)]
    if not isinstance(value, (list, tuple, dict)):
        return value
    changed = jax.tree.map(lambda item: new.get(id(item), item), value, is_leaf=_no_container)
    leaves = zip(jax.tree.leaves(value, is_leaf=_no_container), jax.tree.leaves(changed, is_leaf=_no_container))
    return changed if any(a is not b for a, b in leaves) else value


def _no_container(value: Any) -> bool:
    return not isinstance(value, (list, tuple, dict))
