"""The dense layers of an Equinox model, and what keeps one of them from being replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import equinox as eqx
import jax

from linops.nn.jax import is_zero, stds_of
from linops.nn.obstacles import Obstacle
from linops.nn.swap import Found


def is_linear(node: Any) -> bool:
    """Whether a node of a pytree is a dense layer."""
    return isinstance(node, eqx.nn.Linear)


def name_of(path: Any) -> str:
    """A path as a dotted name."""
    return jax.tree_util.keystr(path, simple=True, separator=".")


def find(model: Any) -> Iterator[Found]:
    """The dense layers of a model, with their obstacles.

    Args:
        model: The model.

    Yields:
        The layers, in the order of the pytree.
    """
    for path, layer in jax.tree_util.tree_leaves_with_path(model, is_leaf=is_linear):
        if is_linear(layer):
            obstacle = obstacle_of(layer)
            shape = (0, 0) if obstacle else layer.weight.shape
            into, zero = shape[1], partial(is_zero, layer.weight)
            stds = partial(stds_of, layer.weight, (3 * into) ** -0.5 if into else 0.0)  # uniform within ±1/√in
            yield Found(name_of(path), layer, shape, layer.bias is not None, zero, obstacle, stds=stds)


def obstacle_of(layer: eqx.nn.Linear) -> str | Obstacle | None:
    """Why a layer cannot be replaced."""
    if type(layer) is not eqx.nn.Linear:
        return f"is a {type(layer).__name__}, a subclass of equinox.nn.Linear whose own behaviour would be lost"
    if not (eqx.is_array(layer.weight) or isinstance(layer.weight, jax.ShapeDtypeStruct)):
        return (
            f"has no array as its weight but {type(layer.weight).__name__}: shared with another layer, or filtered out"
        )
    if layer.weight.ndim != 2:
        reason = f"has a weight of shape {layer.weight.shape}, a stack of layers"
        return Obstacle(reason, "replace it before stacking", "a stack of layers")
    return "maps from or to scalars" if "scalar" in (layer.in_features, layer.out_features) else None


def exchanged(model: Any, other: Callable[[str, Any], Any]) -> Any:
    """A model with others in the place of its dense layers.

    Args:
        model: The model.
        other: A function of the name of a layer and the layer.

    Returns:
        The model.
    """

    def change(path: Any, node: Any) -> Any:
        return other(name_of(path), node) if is_linear(node) else node

    return jax.tree_util.tree_map_with_path(change, model, is_leaf=is_linear)
