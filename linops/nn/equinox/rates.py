"""The learning-rate multipliers of an Equinox model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax

from linops.nn.equinox.dense import name_of
from linops.nn.equinox.layer import Linear
from linops.nn.equinox.nonlinear import Nonlinear
from linops.nn.equinox.structured import arrays_of, is_parameter, is_structured
from linops.nn.jax import one_copy
from linops.nn.matrices import EMBEDDING, VECTOR, by_name, told, vector
from linops.nn.rate_warnings import known_or_warned, warn_of_unmet
from linops.nn.rates import Entry, multipliers
from linops.nn.rates import decay_shares as shares_of
from linops.scaling import fans


def lr_multipliers(
    model: Any, optimizer: str = "adamw", base: Any = None, *, matrices: Mapping[Any, str | None] | None = None
) -> Any:
    """The factor on the learning rate of each parameter of a model, by the rules of `lo.nn.param_groups`.

    Args:
        model: A model, or the part of it that is trained, as from `equinox.filter`.
        optimizer: ``"adamw"``, ``"adam"``, ``"lion"`` or ``"sgd"``.
        base: The model's base shapes: a narrow model of the same layer names (from `equinox.filter_eval_shape`, best;
            structured or not); an integer, the base_in and base_out of every layer; or a dict of patterns over layer
            names to such integers, other layers being of base shape. None: every layer is.
        matrices: What arrays are that linops does not know, by patterns over their dotted names: the names of their
            axes, as in ``{"*.experts.up": "expert out in"}``, or None for no matrix. See `linops.nn.matrices`.

    Returns:
        A tree of numbers like ``equinox.filter(model, equinox.is_inexact_array)``, for `linops.nn.optax`.

    Raises:
        ValueError: If there is no such optimiser, or the base model lacks a layer.

    Warns:
        UserWarning: If it is unknown what an array is, or a pattern of `base` or `matrices` matches none.

    Example:
        >>> import jax, linops as lo
        >>> layer = lo.nn.equinox.Linear(lo.low_rank(64, 16, rank=4), key=jax.random.key(0))
        >>> jax.tree.leaves(lo.nn.equinox.lr_multipliers(layer))
        [2.0, 0.5, 1.0]
    """
    entries, base = entries_of(model, base, matrices)
    warn_of_unmet("lr_multipliers", entries, matrices, what="the model's trained", base=base)
    if base is not None:
        known_or_warned("lr_multipliers", entries)
    return jax.tree.structure(eqx.filter(model, is_parameter)).unflatten(multipliers(entries, optimizer, base))


def decay_mask(model: Any, *, matrices: Mapping[Any, str | None] | None = None) -> Any:
    """Which parameters of a model to decay: matrices and embeddings, stacked or not.

    Vectors and scalars (biases, norms, gains, positions) are not decayed.

    Args:
        model: A model, or the part of it that is trained, as from `equinox.filter`.
        matrices: What arrays are that linops does not know, as in `lr_multipliers`.

    Returns:
        A tree of booleans like ``equinox.filter(model, equinox.is_inexact_array)``, for the ``mask`` of optax.

    Example:
        >>> import equinox as eqx, jax
        >>> convolution = eqx.nn.Conv1d(2, 8, 3, key=jax.random.key(0))
        >>> jax.tree.leaves(decay_mask(convolution))  # of weight (8, 2, 3), bias (8, 1)
        [True, False]
    """
    found = known_or_warned("decay_mask", _entries(model, matrices))
    warn_of_unmet("decay_mask", found, matrices, what="the model's trained")
    return jax.tree.structure(eqx.filter(model, is_parameter)).unflatten([entry.decays for entry in found])


def decay_shares(model: Any, *, matrices: Mapping[Any, str | None] | None = None) -> Any:
    """The share of weight decay of each parameter, as with ``decay="product"`` of `lo.nn.param_groups`.

    It is 1 for dense matrices and embeddings, 1/k for each of k factors that are multiplied, and 0 for vectors and
    scalars.

    Args:
        model: A model, or the part of it that is trained, as from `equinox.filter`.
        matrices: What arrays are that linops does not know, as in `lr_multipliers`.

    Returns:
        A tree of numbers like ``equinox.filter(model, equinox.is_inexact_array)``, for `linops.nn.optax.add_decay`.

    Example:
        >>> import jax, linops as lo
        >>> layer = lo.nn.equinox.Linear(lo.low_rank(64, 16, rank=4), key=jax.random.key(0))
        >>> jax.tree.leaves(decay_shares(layer))
        [0.5, 0.5, 0.0]
    """
    found = known_or_warned("decay_shares", _entries(model, matrices))
    warn_of_unmet("decay_shares", found, matrices, what="the model's trained")
    return jax.tree.structure(eqx.filter(model, is_parameter)).unflatten(shares_of(found))


def entries_of(model: Any, base: Any, matrices: Mapping[Any, str | None] | None) -> tuple[list[Entry], Any]:
    """The parameters of a model, and its base as `linops.nn.rates` takes it.

    Args:
        model: The model.
        base: As in `lr_multipliers`.
        matrices: As in `lr_multipliers`.

    Returns:
        The parameters in the order of the tree; and those of a base model, or the base as it is.
    """
    inside = list(base.values()) if isinstance(base, Mapping) else base  # keys that are predicates have no order
    is_model = any(map(is_parameter, jax.tree.leaves(inside)))  # not numbers
    return list(_entries(model, matrices)), list(_entries(base, matrices)) if is_model else base


def _entries(model: Any, matrices: Mapping[Any, str | None] | None) -> Iterator[Entry]:
    """Every parameter with its layer, in the order of the tree."""
    for path, node in jax.tree_util.tree_leaves_with_path(model, is_leaf=is_structured):
        name = name_of(path)
        if is_structured(node):
            yield from _of_layer(name, node)
        elif is_parameter(node):
            at, _, key = name.rpartition(".")
            layer: Any = model
            for step in path[:-1]:
                layer = (
                    getattr(layer, step.name)
                    if hasattr(step, "name")
                    else layer[getattr(step, "idx", getattr(step, "key", None))]
                )
            entry = Entry(at, key, layer, tuple(node.shape))
            layout = told(matrices, entry.name, layer, entry.size)
            yield replace(entry, layout=_layout(layer, entry) if layout is None else layout)


def _of_layer(path: str, layer: Linear | Nonlinear) -> Iterator[Entry]:
    """The parameters of a structured layer, or of several that are stacked."""
    if isinstance(layer, Nonlinear):
        operator, beside = layer.nonlinear.operator, layer.nonlinear.matrices
    else:
        operator, beside = one_copy(layer.operator), {}
    sizes = {name: leaf.shape for name, leaf in operator.named_leaves() if leaf is not None}
    if sizes:
        _require_whole(path, operator)
    own, elementwise = arrays_of(layer)
    for key, leaf in own:
        if is_parameter(leaf) and key in beside:
            yield Entry(path, key, layer, beside[key], "out in", is_beside=True)
        elif is_parameter(leaf):
            yield Entry(path, key, layer, tuple(sizes[key]), None, operator)
    for key, leaf in elementwise:
        if is_parameter(leaf):
            yield Entry(path, key, layer, leaf.shape, VECTOR)


def _require_whole(path: str, operator: Any) -> None:
    """Raise ValueError where a layer has some of its leaves alone."""
    try:
        fans(operator)
    except (AttributeError, TypeError):  # of None, where an array should be
        places = jax.tree_util.tree_leaves_with_path(operator, is_leaf=lambda leaf: leaf is None)
        gone = ", ".join([repr(name_of(place)) for place, leaf in places if leaf is None])
        if not gone:
            raise
        raise ValueError(
            f"layer {path!r} lacks {gone}, as parts of eqx.partition do, and rates of its other leaves follow from all "
            "of them: make the optimiser for the whole layer, and keep leaves as they are by "
            "optax.chain(optimiser, optax.masked(optax.set_to_zero(), frozen))"
        ) from None


def _layout(layer: Any, entry: Entry) -> str | None:
    """The layout of an array; layers stacked by `equinox.filter_vmap` have more axes before those."""
    key, nn = entry.key, eqx.nn
    if isinstance(layer, nn.Embedding):
        return EMBEDDING
    if isinstance(layer, nn.Conv | nn.ConvTranspose):
        spatial = layer.num_spatial_dims
        return "out" + " one" * spatial if key == "bias" else "out in" + " in" * spatial
    if isinstance(layer, nn.LayerNorm | nn.RMSNorm):
        return "out " * len(layer.shape)
    if len(entry.size) < 2 or key.startswith("bias") or isinstance(layer, nn.GroupNorm | nn.BatchNorm | nn.PReLU):
        return vector(entry.size)
    if isinstance(layer, nn.Linear | nn.GRUCell | nn.LSTMCell):
        return "out in"
    return by_name(entry.path, key, layer, entry.size)
