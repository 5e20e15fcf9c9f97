"""Flax NNX models on a mesh; see `linops.nn.shardings`."""

from __future__ import annotations

from typing import Any

import jax
from flax import nnx

from linops.nn.flax.layer import Linear
from linops.nn.flax.nonlinear import Nonlinear


def shardings(model: Any, placing: Any) -> nnx.State:
    """Where the variables of a model lie.

    Args:
        model: The model.
        placing: Where layers lie.

    Returns:
        The state of the model, with shardings in the place of arrays.

    Raises:
        TypeError: If it is no module of Flax NNX.
    """
    if not isinstance(model, nnx.Module):
        raise TypeError(f"{placing.where}({type(model).__name__}): of Flax, expected a module of flax.nnx")
    layers = {name: placing.layer(name, one.structure.operator, one) for name, one in _structured(model)}
    modules = nnx.iter_modules(model)
    placing.whole += [".".join(map(str, path)) for path, one in modules if isinstance(one, Nonlinear)]
    names = {name: set(one.leaf_names) for name, one in _structured(model)}

    def sharding(path: Any, array: Any) -> Any:
        *steps, leaf = [str(step.key) for step in path if hasattr(step, "key")]
        name = ".".join(steps)
        if leaf == "bias" and name in layers:
            return layers[name](None, array)
        return layers[name](leaf, array) if leaf in names.get(name, ()) else placing.everywhere

    return jax.tree_util.tree_map_with_path(sharding, nnx.state(model))


def sharded(model: Any, placing: Any) -> Any:
    """A model on a mesh whose products run divided.

    Args:
        model: The model.
        placing: Where layers lie.

    Returns:
        A new model.
    """
    found = shardings(model, placing)
    graph, state = nnx.split(model)
    new = nnx.merge(graph, jax.tree.map(placing.put, state, found))
    for name, layer in _structured(new):
        layer.parallel = placing.parallel[name]
    return new


def _structured(model: nnx.Module) -> list[tuple[str, Linear]]:
    found = [(".".join(map(str, path)), module) for path, module in nnx.iter_modules(model)]
    return [(name, module) for name, module in found if isinstance(module, Linear)]
