"""Structured layers of an Equinox model for inference: frozen, or as the dense layers that they compute."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax

from linops.freezing import freeze as freeze_operator
from linops.nn.equinox.dense import name_of
from linops.nn.equinox.layer import Linear
from linops.nn.equinox.nonlinear import Nonlinear
from linops.nn.jax_nonlinear import warn_left


def freeze(model: Any, batch: int = 1) -> Any:
    """The model with every structured layer's operator frozen: `lo.freeze` for many products with the same weights.

    What can be multiplied beforehand is multiplied, weight normalisation too.

    Args:
        model: A model or a layer.
        batch: The number of vectors of the products to come.

    Returns:
        The model.

    Example:
        >>> import jax, linops as lo
        >>> layer = lo.nn.equinox.Linear(lo.dense(16, 16) + lo.dense(16, 16), key=jax.random.key(0))
        >>> lo.nn.equinox.freeze(layer).operator
        Dense()  16×16  float32  256 parameters  jax
    """

    def frozen(layer: Linear) -> Linear:
        layer = layer.fold()
        return eqx.tree_at(
            lambda one: one.operator,
            layer,
            freeze_operator(layer.operator, batch),
            is_leaf=lambda one: one is layer.operator,
        )

    return _mapped(model, frozen)


def to_dense(model: Any) -> Any:
    """The model with an `equinox.nn.Linear` in the place of every structured layer, with the weights that it computes.

    Args:
        model: A model or a layer.

    Returns:
        The model.

    Warns:
        UserWarning: If layers stay because they are no linear maps.

    Example:
        >>> import jax, linops as lo
        >>> layer = lo.nn.equinox.Linear(lo.btt(16, 16), key=jax.random.key(0))
        >>> lo.nn.equinox.to_dense([layer])[0].weight.shape
        (16, 16)
    """
    nodes = jax.tree_util.tree_leaves_with_path(model, is_leaf=lambda node: isinstance(node, Nonlinear))
    warn_left("to_dense", [(name_of(path), node) for path, node in nodes if isinstance(node, Nonlinear)])
    return _mapped(model, lambda layer: layer.to_dense())


def _mapped(model: Any, function: Any) -> Any:
    return jax.tree.map(lambda one: function(one) if _is_layer(one) else one, model, is_leaf=_is_layer)


def _is_layer(node: Any) -> bool:
    return isinstance(node, Linear)
