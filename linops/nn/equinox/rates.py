"""The learning-rate multipliers of an Equinox model."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import equinox as eqx
import jax

from linops.nn.equinox.layer import Linear
from linops.nn.rates import Entry, multipliers


def lr_multipliers(model: Any, optimizer: str = "adamw", base: Any = None) -> Any:
    """The factor on the learning rate of each parameter of a model, by the rules of `lo.nn.param_groups`.

    Args:
        model: A model, or the part of it that is trained, as from `equinox.filter`.
        optimizer: ``"adamw"``, ``"adam"``, ``"lion"`` or ``"sgd"``.
        base: The model's base shapes: a narrow model of the same layer names (from `equinox.filter_eval_shape`, best; structured or not);
            an integer, the base_in and base_out of every layer; or a dict of patterns over layer names to such integers, other layers
            being of base shape. None: every layer is.

    Returns:
        A tree of numbers like ``equinox.filter(model, equinox.is_inexact_array)``, for `linops.nn.optax`.

    Raises:
        ValueError: If there is no such optimiser, or the base model lacks a layer.

    Example:
        >>> import jax, linops as lo
        >>> layer = lo.nn.equinox.Linear(lo.low_rank(64, 16, rank=4), key=jax.random.key(0))
        >>> jax.tree.leaves(lo.nn.equinox.lr_multipliers(layer))
        [2.0, 0.5, 1.0]
    """
    if base is not None and not isinstance(base, (int, dict)):
        base = _entries(base)
    numbers = multipliers(_entries(model), optimizer, base)
    return jax.tree.structure(eqx.filter(model, _is_parameter)).unflatten(numbers)


def _is_parameter(leaf: Any) -> bool:
    return eqx.is_inexact_array(leaf) or (isinstance(leaf, jax.ShapeDtypeStruct) and jax.numpy.issubdtype(leaf.dtype, jax.numpy.inexact))


def _entries(model: Any) -> Iterator[Entry]:
    """Every parameter with its layer, in the order of the tree."""
    for path, node in jax.tree_util.tree_leaves_with_path(model, is_leaf=lambda node: isinstance(node, (Linear, eqx.nn.Embedding))):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        if isinstance(node, Linear):
            shape, bias = node.operator.shape, node.bias
            for key, leaf in node.operator.named_leaves():
                if _is_parameter(leaf):
                    yield Entry(name, key, node, leaf.shape, shape, node.operator)
            if bias is not None and _is_parameter(bias):
                yield Entry(name, "bias", node, bias.shape)
            gains = sorted((node.gains or {}).items())
            yield from (Entry(name, f"{key}_gain", node, gain.shape) for key, gain in gains if _is_parameter(gain))
        elif isinstance(node, eqx.nn.Embedding):
            if _is_parameter(node.weight):
                yield Entry(name, "weight", node, node.weight.shape)
        elif _is_parameter(node):
            layer, _, key = name.rpartition(".")
            size = (prod(node.shape),) if key == "bias" else node.shape
            yield Entry(layer, key, None, size, (size[0], prod(size[1:])) if len(size) >= 2 else None)
