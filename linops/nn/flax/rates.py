"""The learning-rate multipliers of a Flax NNX model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from flax import nnx

from linops.nn.flax.layer import Linear
from linops.nn.flax.nonlinear import Nonlinear
from linops.nn.matrices import EMBEDDING, by_name, told, vector
from linops.nn.rate_warnings import known_or_warned, warn_of_unmet
from linops.nn.rates import Entry, multipliers
from linops.nn.rates import decay_shares as shares_of

#: modules whose arrays multiply elementwise
_ELEMENTWISE = (nnx.LayerNorm, nnx.RMSNorm, nnx.BatchNorm, nnx.GroupNorm, nnx.InstanceNorm, nnx.PReLU)


def lr_multipliers(
    model: nnx.Module,
    optimizer: str = "adamw",
    base: Any = None,
    *,
    wrt: Any = nnx.Param,
    matrices: Mapping[Any, str | None] | None = None,
) -> Any:
    """The factor on the learning rate of each parameter of a model, by the rules of `lo.nn.param_groups`.

    Args:
        model: The model.
        optimizer: ``"adamw"``, ``"adam"``, ``"lion"`` or ``"sgd"``.
        base: The model's base shapes: a narrow model of the same layer names (from `nnx.eval_shape`, best; structured
            or not); an integer, the base_in and base_out of every layer; or a dict of patterns over layer names to such
            integers, other layers being of base shape. None: every layer is.
        wrt: Which variables are trained, as in `nnx.Optimizer`.
        matrices: What arrays are that linops does not know, by patterns over their dotted names: the names of their
            axes, as in ``{"*.experts.up": "expert in out"}``, or None for no matrix. See `linops.nn.matrices`.

    Returns:
        A tree of numbers like ``nnx.as_pure(nnx.state(model, wrt))``, for `linops.nn.optax`.

    Raises:
        ValueError: If there is no such optimiser, or the base model lacks a layer.

    Warns:
        UserWarning: If it is unknown what an array is, or a pattern of `base` or `matrices` matches none.

    Example:
        >>> import jax, linops as lo
        >>> from flax import nnx
        >>> layer = lo.nn.flax.Linear(lo.low_rank(64, 16, rank=4), rngs=nnx.Rngs(0))
        >>> jax.tree.leaves(lo.nn.flax.lr_multipliers(layer))  # of U, V, bias
        [2.0, 0.5, 1.0]
    """
    entries, base = entries_of(model, base, wrt, matrices)
    warn_of_unmet("lr_multipliers", entries, matrices, what="the model's trained", base=base)
    if base is not None:
        known_or_warned("lr_multipliers", entries)
    return _tree(model, wrt, multipliers(entries, optimizer, base))


def decay_mask(model: nnx.Module, *, wrt: Any = nnx.Param, matrices: Mapping[Any, str | None] | None = None) -> Any:
    """Which parameters of a model to decay: matrices and embeddings, stacked or not.

    Vectors and scalars (biases, norms, gains, positions) are not decayed.

    Args:
        model: The model.
        wrt: Which variables are trained, as in `nnx.Optimizer`.
        matrices: What arrays are that linops does not know, as in `lr_multipliers`.

    Returns:
        A tree of booleans like ``nnx.as_pure(nnx.state(model, wrt))``, for the ``mask`` of optax.

    Example:
        >>> import jax
        >>> from flax import nnx
        >>> attention = nnx.MultiHeadAttention(2, 8, rngs=nnx.Rngs(0))
        >>> jax.tree.leaves(decay_mask(attention.query))  # of bias (2, 4), kernel (8, 2, 4)
        [False, True]
    """
    found = known_or_warned("decay_mask", _entries(model, wrt, matrices))
    warn_of_unmet("decay_mask", found, matrices, what="the model's trained")
    return _tree(model, wrt, [entry.decays for entry in found])


def decay_shares(model: nnx.Module, *, wrt: Any = nnx.Param, matrices: Mapping[Any, str | None] | None = None) -> Any:
    """The share of weight decay of each parameter, as with ``decay="product"`` of `lo.nn.param_groups`.

    It is 1 for dense matrices and embeddings, 1/k for each of k factors that are multiplied, and 0 for vectors and
    scalars.

    Args:
        model: The model.
        wrt: Which variables are trained, as in `nnx.Optimizer`.
        matrices: What arrays are that linops does not know, as in `lr_multipliers`.

    Returns:
        A tree of numbers like ``nnx.as_pure(nnx.state(model, wrt))``, for `linops.nn.optax.add_decay`.

    Example:
        >>> import jax, linops as lo
        >>> from flax import nnx
        >>> layer = lo.nn.flax.Linear(lo.low_rank(64, 16, rank=4), rngs=nnx.Rngs(0))
        >>> jax.tree.leaves(decay_shares(layer))  # of U, V, bias
        [0.5, 0.5, 0.0]
    """
    found = known_or_warned("decay_shares", _entries(model, wrt, matrices))
    warn_of_unmet("decay_shares", found, matrices, what="the model's trained")
    return _tree(model, wrt, shares_of(found))


def _tree(model: nnx.Module, wrt: Any, values: list) -> Any:
    flat = nnx.to_flat_state(nnx.state(model, wrt))
    return nnx.as_pure(
        nnx.from_flat_state([(path, variable.replace(value)) for (path, variable), value in zip(flat, values)])
    )


def entries_of(
    model: nnx.Module, base: Any, wrt: Any, matrices: Mapping[Any, str | None] | None
) -> tuple[list[Entry], Any]:
    """The parameters of a model, and its base as `linops.nn.rates` takes it.

    Args:
        model: The model.
        base: As in `lr_multipliers`.
        wrt: Which variables are trained, as in `nnx.Optimizer`.
        matrices: As in `lr_multipliers`.

    Returns:
        The parameters in the order of the tree; and those of a base model, or the base as it is.
    """
    is_model = isinstance(base, nnx.Module)
    return list(_entries(model, wrt, matrices)), list(_entries(base, wrt, matrices)) if is_model else base


def _entries(model: nnx.Module, wrt: Any, matrices: Mapping[Any, str | None] | None) -> Iterator[Entry]:
    """Every parameter with its layer."""
    embedded = {id(module.embedding) for _, module in nnx.iter_modules(model) if isinstance(module, nnx.Embed)}
    flat: Any = nnx.to_flat_state(nnx.state(model, wrt))
    for path, parameter in flat:
        *parents, key = path
        owner: Any = model
        for step in parents:
            owner = owner[step] if isinstance(owner, (list, tuple, dict)) else getattr(owner, str(step))
        entry = Entry(".".join(map(str, parents)), str(key), owner, tuple(parameter.shape))
        if isinstance(owner, Linear) and key in owner.leaf_names:
            size = dict(owner.structure.operator.named_leaves())[key].shape  # of one layer, if several are stacked
            yield replace(entry, size=size, operator=owner.structure.operator)
            continue
        if isinstance(owner, Nonlinear) and key in owner.leaf_names:
            matrix, operator = owner.nonlinear.matrices.get(key), owner.nonlinear.operator
            if matrix is not None:
                yield replace(entry, size=matrix, layout="out in", is_beside=True)
            else:
                yield replace(entry, size=dict(operator.named_leaves())[key].shape, operator=operator)
            continue
        layout = told(matrices, entry.name, owner, entry.size)
        if layout is None:
            is_embedding = id(getattr(owner, str(key), None)) in embedded
            layout = EMBEDDING if is_embedding else _layout(owner, entry)
        yield replace(entry, layout=layout)


def _layout(layer: Any, entry: Entry) -> str | None:
    """The layout of an array; layers stacked by `nnx.vmap` have more axes before those."""
    key, axes = entry.key, len(entry.size)
    if isinstance(layer, nnx.LinearGeneral):
        out = " out" * len(layer.out_features)
        return out.strip() if key == "bias" else " in" * len(layer.in_features) + out
    if key == "bias" and isinstance(layer, nnx.Einsum):
        return " out" * len(layer.bias_shape or ())
    if axes < 2 or key == "bias" or isinstance(layer, _ELEMENTWISE):
        return vector(entry.size)
    if isinstance(layer, nnx.Linear) and key == "kernel":
        return "in out"
    if isinstance(layer, nnx.LoRA) and key in ("lora_a", "lora_b"):
        return "in out"
    if isinstance(layer, nnx.Einsum):
        return _einsum(layer.einsum_str)
    if isinstance(layer, (nnx.Conv, nnx.ConvTranspose)):
        last = "out in" if getattr(layer, "transpose_kernel", False) else "in out"
        return "in " * (len(layer.kernel_shape) - 2) + last
    return by_name(entry.path, key, layer, entry.size, experts="expert in out")


def _einsum(subscripts: str | None) -> str | None:
    """The layout of the second operand: its axes are summed over, of the output alone, or copies."""
    if subscripts is None or "->" not in subscripts:
        return None
    operands, result = subscripts.replace(" ", "").split("->")
    x, kernel = operands.split(",")
    return " ".join("in" if letter not in result else "out" if letter not in x else "copy" for letter in kernel)
