"""The learning-rate multipliers of a Flax NNX model."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

from flax import nnx

from linops.nn.flax.layer import Linear
from linops.nn.rates import Entry, multipliers


def lr_multipliers(model: nnx.Module, optimizer: str = "adamw", base: Any = None, *, wrt: Any = nnx.Param) -> Any:
    """The factor on the learning rate of each parameter of a model, by the rules of `lo.nn.param_groups`.

    Args:
        model: The model.
        optimizer: ``"adamw"``, ``"adam"``, ``"lion"`` or ``"sgd"``.
        base: The model's base shapes: a narrow model of the same layer names (from `nnx.eval_shape`, best; structured or not); an integer,
            the base_in and base_out of every layer; or a dict of patterns over layer names to such integers, other layers being of base
            shape. None: every layer is.
        wrt: Which variables are trained, as in `nnx.Optimizer`.

    Returns:
        A tree of numbers like ``nnx.as_pure(nnx.state(model, wrt))``, for `linops.nn.optax`.

    Raises:
        ValueError: If there is no such optimiser, or the base model lacks a layer.

    Example:
        >>> import jax, linops as lo
        >>> from flax import nnx
        >>> layer = lo.nn.flax.Linear(lo.low_rank(64, 16, rank=4), rngs=nnx.Rngs(0))
        >>> jax.tree.leaves(lo.nn.flax.lr_multipliers(layer))  # of U, V, bias
        [2.0, 0.5, 1.0]
    """
    flat = nnx.to_flat_state(nnx.state(model, wrt))
    if isinstance(base, nnx.Module):
        base = _entries(base, nnx.to_flat_state(nnx.state(base, wrt)))
    numbers = multipliers(_entries(model, flat), optimizer, base)
    return nnx.as_pure(nnx.from_flat_state([(path, variable.replace(number)) for (path, variable), number in zip(flat, numbers)]))


def _entries(model: nnx.Module, flat: Any) -> Iterator[Entry]:
    """Every parameter with its layer."""
    embedded = {id(module.embedding) for _, module in nnx.iter_modules(model) if isinstance(module, nnx.Embed)}
    for path, parameter in flat:
        *parents, key = path
        owner: Any = model
        for step in parents:
            owner = owner[step] if isinstance(owner, (list, tuple, dict)) else getattr(owner, str(step))
        name, size = ".".join(map(str, parents)), parameter.shape
        if isinstance(owner, Linear) and key in owner.leaf_names:
            yield Entry(name, key, owner, size, owner.structure.shape, owner.structure)
        elif id(getattr(owner, str(key), None)) in embedded:
            yield Entry(name, str(key), owner, size)
        else:
            flat = (prod(size),) if key == "bias" else size
            yield Entry(name, str(key), owner, flat, _matrix_shape(owner, size) if len(flat) >= 2 else None)


def _matrix_shape(layer: Any, size: tuple[int, ...]) -> tuple[int, int]:
    """(out, in) of a dense parameter, whose last axis is the output in Flax."""
    if isinstance(layer, nnx.LinearGeneral):
        out = prod(layer.out_features)
        return out, prod(size) // out
    return size[-1], prod(size[:-1])
