"""`grow_`: larger ranks for the structured layers of a PyTorch model in training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from linops.nn.patterns import Pattern, matches
from linops.nn.report import Report, Row
from linops.nn.torch.layer import Linear
from linops.nn.torch.layer_steps import KEPT
from linops.nn.torch.nonlinear import Nonlinear
from linops.nn.torch.sharded import is_cut
from linops.operator import LinearOperator
from linops.plan import natural_order
from linops.projection import convert
from linops.scaling import fans
from linops.specs import Spec


@dataclass(frozen=True)
class Grown:
    """A layer's leaves, grown.

    Attributes:
        structure: The operator, of specs.
        leaves: Its leaves.
        places: Where in each leaf, as a flat array, the entries of the old one went.
    """

    structure: LinearOperator
    leaves: tuple[torch.Tensor, ...]
    places: tuple[np.ndarray, ...]


@torch.no_grad()
def grow_(
    model: nn.Module,
    target: Any,
    where: Pattern | None = None,
    optimizer: Optimizer | None = None,
    *,
    seed: Any = 0,
) -> Report:
    """Raise the ranks of a model's structured layers, in place: the model computes what it did, and has more to learn.

    Old entries of a leaf keep their values. New components are zero in the leaf that acts last, and drawn with the
    structure-aware initial scale in the others (`linops.convert`), so that the next step moves the zeros. What an
    optimiser holds of each entry (moments, momentum) goes with it, and is zero for new ones; its ``step`` is kept, and
    so are rates: for rates of the new fans set up the groups anew, by `linops.nn.param_groups`. Renormalised steps of
    Muon are measured anew, and move the layer as far as before. Biases, ``grad``, ``requires_grad`` and layers that
    share parameters stay as they are. Nothing is changed if an error is raised.

    Args:
        model: A model, or a `linops.nn.torch.Linear` itself.
        target: The structure: a family and its options (``"btt:rank=3"``), a family, or for layers of one shape an
            operator of specs. Families that split sizes take the dims that layers have.
        where: Which structured layers, as in `replace_linear_`; None for all that have an operator.
        optimizer: The optimiser of the model's parameters; None if there is none yet, or it will be made anew. One that
            is not given goes on training parameters that the model no longer has.
        seed: Of the numbers in new components; the same for each layer that has the same name.

    Returns:
        The layers that grew, with parameters and MACs before and now; it prints as a table.

    Raises:
        TypeError: If the model is no module, or the optimiser none of torch.
        ValueError: If a layer is no member of the target with entries to spare, has weight normalisation (see
            `linops.nn.torch.Linear.fold_`), is sharded, or shares a parameter with another that is not grown; or the
            optimiser holds arrays that are not of the parameters' shapes.

    Example:
        >>> import linops as lo, torch
        >>> layer = lo.nn.torch.Linear(lo.btt(64, 64))
        >>> optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-3)
        >>> report = lo.nn.grow_(layer, "btt:rank=3", optimizer=optimizer)
        >>> layer.operator.ranks, report.old_params, report.new_params
        ((3,), 1088, 3136)
    """
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"lo.nn.grow_({type(model).__name__}): expected a torch.nn.Module; in other frameworks make a new layer of "
            "lo.convert(layer.operator, target)"
        )
    if optimizer is not None and not isinstance(optimizer, Optimizer):
        raise TypeError(f"grow_: optimizer {type(optimizer).__name__} is no torch.optim.Optimizer")
    for name, layer in model.named_modules():
        if isinstance(layer, Nonlinear) and where is not None and matches(where, name, layer):
            raise ValueError(f"grow_: layer {name!r} is a {type(layer).__name__}, no linear map: it has no operator")
    layers = {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, Linear) and (where is None or matches(where, name, layer))
    }
    if not layers:
        raise ValueError(f"grow_(where={where!r}): no lo.nn.torch.Linear of the model is meant")
    before = sum(parameter.numel() for parameter in model.parameters())
    made: dict[tuple[Any, ...], Grown] = {}
    plan: dict[str, Grown] = {}
    changes: dict[int, tuple[Any, Any, np.ndarray]] = {}  # old parameters: they, the new and the places
    for name, layer in layers.items():
        key = (layer.structure, *map(id, layer._leaves()))
        if key not in made:
            made[key] = _grown(name, layer, target, seed)
            for old, leaf, places in zip(layer._leaves(), made[key].leaves, made[key].places):
                if id(old) in changes:
                    raise ValueError(f"grow_: layer {name!r} shares a parameter with one of another structure")
                changes[id(old)] = old, _parameter(old, leaf, places), places
        plan[name] = made[key]
    _require_alone(model, layers, changes)
    states = {} if optimizer is None else {key: _state(optimizer, *change) for key, change in changes.items()}
    rows = [_row(name, layers[name], grown) for name, grown in plan.items()]
    for name, grown in plan.items():
        _put(layers[name], grown, changes)
    if optimizer is not None:
        _follow(optimizer, changes, states)
    return Report(tuple(rows), totals=(before, sum(parameter.numel() for parameter in model.parameters())))


def _grown(name: str, layer: Linear, target: Any, seed: Any) -> Grown:
    """A layer's operator, grown; markers in the place of its numbers say where they go."""
    what = f"grow_: layer {name!r}" if name else "grow_: the layer"
    if layer.weight_norm:
        raise ValueError(f"{what} normalises its weights, whose mean squares change with the rank; fold_() it first")
    if any(map(is_cut, layer._leaves())):
        raise ValueError(f"{what} is sharded; grow it before")
    old = layer.structure.operator
    sizes = [int(np.prod(leaf.shape)) for _, leaf in old.named_leaves()]
    starts = np.cumsum([1, *sizes])
    markers = [
        np.arange(start, start + size, dtype="float64").reshape(tuple(leaf.shape))
        for start, size, (_, leaf) in zip(starts, sizes, old.named_leaves())
    ]
    marked = convert(old.with_leaves(markers), target, seed=None)
    places = []
    for start, size, (_, leaf) in zip(starts, sizes, marked.named_leaves()):
        flat = np.asarray(leaf).ravel()
        at = np.flatnonzero(flat)
        if not np.array_equal(np.sort(flat[at]), np.arange(start, start + size)):
            break
        places.append(at[np.argsort(flat[at])])
    if [leaf for leaf, _ in marked.named_leaves()] != layer._names or len(places) < len(sizes):
        raise ValueError(
            f"{what}, {old._short()}, does not grow into {marked._short()}: leaves are not those that it has with some "
            "entries more; lo.nn.torch.Linear(lo.convert(layer.operator, target)) is a new layer of that structure, "
            "with a bias of its own: copy the old one"
        )
    shapes = [tuple(leaf.shape) for _, leaf in marked.named_leaves()]
    structure = marked.with_leaves([Spec(shape, leaf.dtype) for shape, (_, leaf) in zip(shapes, old.named_leaves())])
    leaves = tuple(
        [
            leaf.detach().clone()
            for _, leaf in convert(layer.operator, structure, seed=_seed_of(name, seed)).named_leaves()
        ]
    )
    return Grown(structure, leaves, tuple(places))


def _seed_of(name: str, seed: Any) -> Any:
    """A seed of a layer's own: those of other names draw other numbers."""
    return seed if not isinstance(seed, int) else [seed, crc32(name.encode())]


def _embedded(value: torch.Tensor, like: torch.Tensor, places: np.ndarray) -> torch.Tensor:
    """Numbers of the old entries where these went, and zeros."""
    found = torch.zeros(like.shape, dtype=value.dtype, device=value.device)
    found.view(-1)[torch.from_numpy(places).to(value.device)] = value.detach().reshape(-1)
    return found


def _parameter(old: nn.Parameter, leaf: torch.Tensor, places: np.ndarray) -> nn.Parameter:
    new = nn.Parameter(leaf, old.requires_grad)
    vars(new).update(vars(old))
    if old.grad is not None:
        new.grad = _embedded(old.grad, new, places)
    return new


def _require_alone(model: nn.Module, layers: Mapping[str, Linear], changes: Mapping[int, Any]) -> None:
    for name, module in model.named_modules():
        if name not in layers and any(id(own) in changes for own in module.parameters(recurse=False)):
            raise ValueError(f"grow_: {name or 'the model'!r} shares a parameter with a layer that grows, and does not")


def _state(optimizer: Optimizer, old: nn.Parameter, new: nn.Parameter, places: np.ndarray) -> dict[str, Any]:
    """What an optimiser holds of a parameter, for the new one."""
    found = {}
    for key, value in optimizer.state.get(old, {}).items():
        if key in KEPT:  # of the layer that was; it is measured anew
            continue
        if isinstance(value, torch.Tensor) and value.shape == old.shape:
            value = _embedded(value, new, places)
        elif isinstance(value, (list, tuple, dict)) or (isinstance(value, torch.Tensor) and value.ndim):
            raise ValueError(
                f"grow_: {type(optimizer).__name__} holds {key!r} of a parameter of shape {tuple(old.shape)}, which is "
                "no array of that shape; grow without it, and make a new optimiser"
            )
        found[key] = value
    return found


def _put(layer: Linear, grown: Grown, changes: Mapping[int, tuple[Any, Any, np.ndarray]]) -> None:
    for name, old in zip(layer._names, layer._leaves()):
        layer.register_parameter(name, changes[id(old)][1])
    layer._structure = grown.structure.structure
    layer._take_dtypes()


def _follow(
    optimizer: Optimizer, changes: Mapping[int, tuple[Any, Any, np.ndarray]], states: Mapping[int, Any]
) -> None:
    for group in optimizer.param_groups:
        group["params"] = [changes[id(one)][1] if id(one) in changes else one for one in group["params"]]
    for key, (old, new, _) in changes.items():
        if optimizer.state.pop(old, None) is not None:
            optimizer.state[new] = states[key]


def _row(name: str, layer: Linear, grown: Grown) -> Row:
    old, new = layer.structure.operator, grown.structure
    bias = 0 if layer.bias is None else layer.bias.numel()
    with natural_order():
        macs = old.cost().macs, new.cost().macs
    what = f"{type(new).__name__}({new._detail()})"
    return Row(name, what, new.shape, old.num_params + bias, new.num_params + bias, *macs, fans=fans(new))
