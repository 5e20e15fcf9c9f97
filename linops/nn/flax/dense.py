"""The dense layers of a Flax NNX model, and what keeps one of them from being replaced."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterator
from functools import partial
from math import prod
from typing import Any

import jax
from flax import nnx

from linops.nn.jax import is_zero, stds_of
from linops.nn.obstacles import Obstacle
from linops.nn.swap import Found

#: how a dense layer multiplies; one that sets one of these multiplies in its own way
_OWN_WAYS = ("precision", "dot_general", "dot_general_cls", "promote_dtype", "preferred_element_type")
DENSE = (nnx.Linear, nnx.LinearGeneral)
_DEFAULTS = {
    kind: {name: one.default for name, one in inspect.signature(kind.__init__).parameters.items()} for kind in DENSE
}


def find(model: nnx.Module) -> Iterator[Found]:
    """The dense layers of a model, with their obstacles.

    Args:
        model: The model.

    Yields:
        The layers, in the model's order.
    """
    modules = [(".".join(map(str, path)), module) for path, module in nnx.iter_modules(model)]
    uses = uses_of(model)
    for name, module in modules:
        if isinstance(module, DENSE):
            into, out = (prod(sizes) for sizes in features(module))
            zero = partial(is_zero, module.kernel.get_value())
            stds = partial(stds_of, module.kernel.get_value(), into**-0.5 if into else 0.0)  # lecun_normal, the default
            obstacle = obstacle_of(name, module, uses)
            yield Found(name, module, (out, into), module.bias is not None, zero, obstacle, stds=stds)


def uses_of(model: nnx.Module) -> Counter:
    """In how many modules each variable is, by its id."""
    modules = [module for _, module in nnx.iter_modules(model)]
    return Counter(
        id(value) for module in modules for value in vars(module).values() if isinstance(value, nnx.Variable)
    )


def matrix_of(layer: Any) -> Any:
    """The kernel as (m, n) numbers; an abstract one as it is."""
    kernel = layer.kernel.get_value()
    into, out = (prod(sizes) for sizes in features(layer))
    return kernel if isinstance(kernel, jax.ShapeDtypeStruct) else kernel.reshape(into, out).T


def features(module: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The sizes of a dense layer's inputs and outputs."""
    into, out = module.in_features, module.out_features
    return (into if isinstance(into, tuple) else (into,)), (out if isinstance(out, tuple) else (out,))


def obstacle_of(name: str, module: Any, uses: Counter) -> str | Obstacle | None:
    """Why a layer cannot be replaced."""
    if not name:
        return "is the whole model, which cannot be replaced in place"
    if type(module) not in DENSE:
        base = next(kind.__name__ for kind in DENSE if isinstance(module, kind))
        return f"is a {type(module).__name__}, a subclass of nnx.{base} whose own behaviour would be lost"
    if getattr(module, "batch_axis", None):
        return "has batch axes, each with a kernel of its own"
    if tuple(module.kernel.shape) != sum(features(module), ()):
        reason = f"has a kernel of shape {module.kernel.shape}, a stack of layers"
        return Obstacle(reason, "replace it before stacking", "a stack of layers")
    if uses[id(module.kernel)] > 1:
        return "shares its kernel with another layer"
    defaults = _DEFAULTS[type(module)]
    own = next((way for way in _OWN_WAYS if getattr(module, way, None) is not defaults.get(way)), None)
    return f"has its own {own}, which would be lost" if own else None
