"""New layers in the place of old ones in a PyTorch model, with all that the old ones have beside their weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from linops.nn import nonlinear
from linops.nn.nonlinear import Nonlinear as Description
from linops.nn.projected import Fit
from linops.nn.swap import Swap
from linops.nn.torch.chain import Chain
from linops.nn.torch.dense import is_conv1d
from linops.nn.torch.layer import Linear
from linops.nn.torch.mixture import BTTMixture
from linops.nn.torch.nonlinear import Nonlinear
from linops.nn.torch.parts import Parts
from linops.nn.torch.structured import Swapped
from linops.nn.torch.wrong_rates import replaced
from linops.operator import LinearOperator

#: the layer of each structure that is no linear map
LAYERS: dict[type, Any] = {nonlinear.Chain: Chain, nonlinear.Mixture: BTTMixture}
#: the hooks that a layer keeps; the dicts themselves move, so that handles still remove
HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_is_full_backward_hook",
)


def put(
    model: nn.Module,
    swaps: Iterable[Swap],
    weight_norm: bool,
    fits: Mapping[str, Fit] | None = None,
    undo: list[Callable[[], object]] | None = None,
) -> dict[str, Any]:
    """Build new layers, then put them in the place of the old.

    Args:
        model: The model.
        swaps: The layers; with one that shares its weight come the others.
        weight_norm: Whether the new layers normalise their factors.
        fits: What weights are to be, by the name of the first layer that has them; others are drawn.
        undo: Takes functions which, called last first, make the model what it was.

    Returns:
        The new layers by name.
    """
    layers: dict[str, Any] = {}
    new: dict[int, nn.Module] = {}
    undo = [] if undo is None else undo
    shifts: dict[str, Any] = {}
    for swap in swaps:
        name, old = swap.found.name, swap.found.layer
        fit = (fits or {}).get(swap.tied_to or name)
        layers[name] = new[id(old)] = layer = build(swap, weight_norm, fit and fit.operators)
        _adopt(layer, swap)
        if fit is not None and name in fit.shifts:
            shifts[name] = fit.shifts[name]
        if swap.tied_to is not None:
            for path, parameter in list(layers[swap.tied_to].named_parameters()):
                if path != "bias":
                    owner, _, leaf = path.rpartition(".")
                    layer.get_submodule(owner).register_parameter(leaf, parameter)
    for name, shift in shifts.items():
        _shift(layers[name].bias, shift, undo)

    def change(owner: Any, key: str, value: Any) -> None:
        undo.append(partial(setattr, owner, key, getattr(owner, key)))
        setattr(owner, key, value)

    for parent in list(model.modules()):
        changed = [(key, new[id(child)]) for key, child in parent._modules.items() if id(child) in new]
        for key, layer in changed:
            change(parent, key, layer)
        if isinstance(parent, nn.TransformerEncoderLayer) and changed:
            change(parent, "activation_relu_or_gelu", 0)  # torch's own sign against the fused path
    for encoder in model.modules():
        if isinstance(encoder, nn.TransformerEncoder) and any(isinstance(part, Swapped) for part in encoder.modules()):
            change(encoder, "use_nested_tensor", False)  # it needs the fused path
    return layers


def retire(model: nn.Module, layers: Iterable[nn.Module], by: str) -> None:
    """Remember the parameters of layers that were replaced, for optimisers which hold them.

    Args:
        model: The model, with the new layers.
        layers: The old ones.
        by: The public function that has replaced them.
    """
    kept = {id(parameter) for parameter in model.parameters()}
    for parameter in [one for layer in layers for one in layer.parameters()]:
        if id(parameter) not in kept:
            replaced(parameter, by)


def build(swap: Swap, weight_norm: bool, operators: tuple[LinearOperator, ...] | None = None) -> Any:
    """A new layer without a bias, in the dtype, on the device and as trainable as the old.

    Args:
        swap: The old layer.
        weight_norm: Whether the new one normalises its factors.
        operators: Those of its parts, with arrays; drawn if None. None of what is no linear map, which is left empty.

    Returns:
        The layer.
    """
    old = swap.found.layer
    like = old._leaves()[0] if isinstance(old, Nonlinear) else old.weight
    kind: dict[str, Any] = {"device": like.device, "dtype": like.dtype}
    if isinstance(target := swap.operators[0], Description):
        options = {"nonlinear": target, "bias": False, "zero_init": swap.zero_init}
        if operators is None:
            layer: Any = LAYERS[type(target)](*target.shape, **options, **kind)
            _start(layer, swap.starts(target))
        else:  # to be loaded: nothing is drawn
            layer = LAYERS[type(target)](*target.shape, **options, **kind | {"device": "meta"})
            layer.to_empty(device=like.device)
        layer._transposed = is_conv1d(old) or getattr(old, "_transposed", False)
        return layer.requires_grad_(like.requires_grad).train(old.training)
    kind |= {"weight_norm": weight_norm, "scheme": swap.scheme}
    if operators is None:
        parts = [Linear(operator, False, **kind, zero_init=swap.zero_init) for operator in swap.operators]
        for part, operator in zip(parts, swap.operators):
            _start(part, swap.starts(operator))
    else:
        parts = [Linear(operator, False, **kind) for operator in operators]
        for part in parts:
            part._uncap_()
    layer = parts[0] if len(parts) == 1 else Parts(parts)
    layer._transposed = is_conv1d(old) or getattr(old, "_transposed", False)
    return layer.requires_grad_(like.requires_grad).train(old.training)


def _adopt(layer: Any, swap: Swap) -> None:
    """Give a new layer what the old one has beside its weight."""
    old = swap.found.layer
    layer.bias, layer._path = old.bias, swap.found.name
    for name in HOOKS:
        setattr(layer, name, getattr(old, name))
    # what the model keeps on its layers, such as a mark for its own initialisation
    for name, value in vars(old).items():
        if not name.startswith("_") and not hasattr(layer, name):
            setattr(layer, name, value)


@torch.no_grad()
def _start(layer: Linear | Nonlinear, factors: dict[str, float]) -> None:
    """Scale leaves that have been drawn, and let them be scaled whenever they are drawn anew."""
    layer._starts |= factors
    for name, factor in factors.items():
        layer.get_parameter(name).mul_(factor)


@torch.no_grad()
def _shift(bias: torch.Tensor, shift: torch.Tensor, undo: list[Callable[[], object]]) -> None:
    """Add to a bias, in the wider dtype of the two."""
    before = bias.detach().clone()
    undo.append(partial(bias.data.copy_, before))
    bias.copy_(shifted(before, shift))


def shifted(bias: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """A bias with an addition, summed in the wider dtype of the two."""
    shift = torch.as_tensor(shift, device=bias.device)
    return (bias.to(torch.promote_types(bias.dtype, shift.dtype)) + shift).to(bias.dtype)
