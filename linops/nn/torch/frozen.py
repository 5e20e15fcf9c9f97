"""Structured layers of a PyTorch model for inference: frozen, or as the dense layers that they compute."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from linops.freezing import freeze
from linops.nn.obstacles import brief
from linops.nn.report import Report, Row
from linops.nn.torch.dense import require_module
from linops.nn.torch.layer import Linear
from linops.nn.torch.nonlinear import Nonlinear
from linops.nn.torch.parts import Parts
from linops.nn.torch.placing import HOOKS
from linops.nn.torch.sharded import require_whole
from linops.nn.torch.structured import Structured
from linops.operator import as_batch
from linops.plan import natural_order


def freeze_(model: nn.Module, batch: int = 1) -> Report:
    """Freeze every structured layer's operator, in place: `lo.freeze` for many products with the same weights.

    What can be multiplied beforehand is multiplied, weight normalisation too, so that parameters and the state dict
    change. It has nothing to do with ``requires_grad``, which is kept, as are biases, hooks and training mode. Layers
    that share parameters still do.

    Args:
        model: The model; it may not be a structured layer itself (of one, ``lo.freeze(layer.operator, batch)`` is the
            frozen operator).
        batch: The number of vectors of the products to come.

    Returns:
        The layers that changed, with parameters and MACs before and now; it prints as a table.

    Raises:
        TypeError: If the model is no `torch.nn.Module`.
        ValueError: If the model is a structured layer, which cannot be replaced in place.

    Example:
        >>> import linops as lo, torch
        >>> layer = lo.nn.torch.Linear(lo.dense(16, 16) + lo.low_rank(16, 16, rank=2))
        >>> model = torch.nn.Sequential(layer, torch.nn.GELU())
        >>> report = lo.nn.freeze_(model)
        >>> report.old_params, report.new_params
        (336, 272)
    """
    require_module("freeze_", model, "flax.freeze", "equinox.freeze")
    batch = as_batch(batch)
    return _exchange(model, Linear, partial(_frozen, batch=batch), f"lo.freeze(layer.operator, {batch})")


def to_dense_(model: nn.Module) -> Report:
    """Replace every structured layer of a model, in place, by a `torch.nn.Linear` with the weights that it computes.

    What took the place of transformers' ``Conv1D`` becomes one again, so that checkpoints fit the model's class.
    Biases, ``requires_grad``, hooks and training mode are kept; layers that share their parameters share the dense
    weight.

    Args:
        model: The model; it may not be a structured layer itself (of one, ``layer.to_dense()`` is the dense layer).

    Returns:
        The layers that changed, with parameters and MACs before and now, and those that are no linear maps and stay; it
        prints as a table.

    Raises:
        TypeError: If the model is no `torch.nn.Module`.
        ValueError: If the model is a structured layer, which cannot be replaced in place.

    Warns:
        UserWarning: If layers stay because they are no linear maps.

    Example:
        >>> import linops as lo, torch
        >>> model = torch.nn.Sequential(lo.nn.torch.Linear(lo.btt(16, 16)), torch.nn.GELU())
        >>> x = torch.randn(2, 16)
        >>> before = model(x)
        >>> report = lo.nn.to_dense_(model)
        >>> model[0], torch.allclose(model(x), before, atol=1e-6)
        (Linear(in_features=16, out_features=16, bias=True), True)
    """
    require_module("to_dense_", model, "flax.to_dense", "equinox.to_dense")
    skipped = {
        name: f"is a {type(layer).__name__}, which is no linear map and has no dense weight"
        for name, layer in model.named_modules()
        if isinstance(layer, Nonlinear)
    }
    report = replace(_exchange(model, Structured, lambda layer: layer.to_dense(), "layer.to_dense()"), skipped=skipped)
    if skipped:
        message = f"to_dense_ left {brief(skipped)} alone: each is no linear map, and has no dense weight"
        warnings.warn(message, stacklevel=2)
    return report


def _frozen(layer: Linear, batch: int) -> Linear | None:
    operator = freeze(layer.operator, batch)
    if operator.structure == layer.structure and not layer.weight_norm:
        return None
    return Linear(operator, bias=False, scheme=layer.scheme)


@torch.no_grad()
def _exchange(model: nn.Module, kind: type, make: Callable[[Any], nn.Module | None], instead: str) -> Report:
    """Make all new layers, then put them in the place of the old."""
    if isinstance(model, kind):
        raise ValueError(f"{type(model).__name__} is the whole model, which cannot be replaced in place; use {instead}")
    inner = {
        id(part)
        for parts in model.modules()
        if isinstance(parts, Parts) and kind is Structured
        for part in parts.layers
    }
    layers = [
        (name, layer) for name, layer in model.named_modules() if isinstance(layer, kind) and id(layer) not in inner
    ]
    for name, layer in layers:
        require_whole(f"layer {name!r}", layer)
    rows, new, weights = [], {}, {}
    first: dict[tuple[int, ...], list[tuple[str, Any, Any]]] = {}  # layers over the same parameters
    before = sum(parameter.numel() for parameter in model.parameters())
    for name, layer in layers:
        made = make(layer)
        if made is None:
            continue
        key = tuple([id(parameter) for path, parameter in layer.named_parameters() if path != "bias"])
        others = first.setdefault(key, []) if key else []
        tied_to, source = next(((at, its) for at, other, its in others if _same_matrix(other, layer)), (None, made))
        if source is made:
            others.append((name, layer, made))
        else:
            for path, parameter in list(source.named_parameters()):
                if path != "bias":
                    made.register_parameter(path, parameter)
        rows.append(_row(name, layer, made, tied_to))
        made.requires_grad_(
            any(parameter.requires_grad for path, parameter in layer.named_parameters() if path != "bias")
        )
        if layer._transposed and isinstance(made, nn.Linear) and "transformers.pytorch_utils" in sys.modules:
            made = _transposed(made, weights)
        new[id(layer)] = _like(layer, made)
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if id(child) in new:
                setattr(parent, name, new[id(child)])
    after = sum(parameter.numel() for parameter in model.parameters())
    return Report(tuple(rows), totals=(before, after))


def _same_matrix(one: Any, other: Any) -> bool:
    """Whether two layers over the same parameters compute the same matrix of them."""
    if isinstance(one, Parts):
        return isinstance(other, Parts) and len(one) == len(other) and all(map(_same_matrix, one, other))
    return isinstance(other, Linear) and one.structure == other.structure


def _like(old: Any, new: Any) -> Any:
    """A new layer with what the old one has beside its weights."""
    new.bias = old.bias
    for name in HOOKS:
        setattr(new, name, getattr(old, name))
    if isinstance(new, Linear):
        new._transposed, new._path = old._transposed, old._path
    return new.train(old.training)


def _transposed(layer: nn.Linear, weights: dict[int, Any]) -> nn.Module:
    """Transformers' Conv1D of a dense layer, whose weight is (in, out); weights by the ids of those they come from."""
    kind: Any = sys.modules["transformers.pytorch_utils"].Conv1D
    with torch.device("meta"):
        new = kind(layer.out_features, layer.in_features)
    if id(layer.weight) not in weights:
        weights[id(layer.weight)] = nn.Parameter(layer.weight.detach().T.contiguous(), layer.weight.requires_grad)
    new.weight = weights[id(layer.weight)]
    return new


def _row(name: str, old: Any, new: Any, tied_to: str | None) -> Row:
    with natural_order():
        macs = old.operator.cost().macs, new.operator.cost().macs if isinstance(new, Linear) else new.weight.numel()
    params = [sum(parameter.numel() for parameter in layer.parameters()) for layer in (old, new)]
    bias = 0 if old.bias is None or new.bias is not None else old.bias.numel()  # which the new layer takes over
    structure = new.structure.operator if isinstance(new, Linear) else None
    what = "Dense()" if structure is None else f"{type(structure).__name__}({structure._detail()})"
    shape = new.out_features, new.in_features
    if tied_to is not None:
        params = [0 if old.bias is None else old.bias.numel()] * 2
        bias = 0
    return Row(name, what, shape, params[0], params[1] + bias, *macs, fans={}, tied_to=tied_to)
