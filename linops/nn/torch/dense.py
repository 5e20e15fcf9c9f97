"""The dense layers of a PyTorch model, and what keeps one of them from being replaced."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from linops.nn.obstacles import Obstacle, elsewhere
from linops.nn.swap import Found

#: what a subclass of `torch.nn.Linear` may define without multiplying in a way of its own
_HARMLESS = {
    "__init__",
    "reset_parameters",
    "extra_repr",
    "__constants__",
    "in_features",
    "out_features",
    "bias",
    "weight",
}
_STATE_HOOKS = (
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)
#: the standard deviation with which transformers' Conv1D starts
_CONV1D = 0.02
_BEFORE = "replace before sharding or wrapping the model"


def is_conv1d(module: nn.Module) -> bool:
    """Whether a module is transformers' Conv1D, y = x W + b with W (in, out), by name: transformers may be absent."""
    return type(module).__name__ == "Conv1D" and hasattr(module, "nf")


def is_dense(module: nn.Module) -> bool:
    """Whether a module is, or derives from, a layer that could be replaced."""
    return isinstance(module, nn.Linear) or is_conv1d(module)


def require_module(where: str, model: Any, *functions: str) -> None:
    """Raise unless a model is one of PyTorch.

    Args:
        where: The function that takes it.
        model: What it was given.
        *functions: Those for other frameworks; see `linops.nn.obstacles.elsewhere`.

    Raises:
        TypeError: If it is no `torch.nn.Module`.
    """
    if isinstance(model, (str, Path)):
        raise TypeError(f"lo.nn.{where}({str(model)!r}, …): the model comes first")
    if not isinstance(model, nn.Module):
        way = elsewhere(model, (*functions, where)) or "expected a model, a torch.nn.Module"
        raise TypeError(f"lo.nn.{where}({type(model).__name__}): {way}")


def find(model: nn.Module) -> Iterator[Found]:
    """The dense layers of a model, with their obstacles.

    Args:
        model: The model.

    Yields:
        The layers, in the model's order.
    """
    modules = list(model.named_modules())
    owners = [(name, obstacle) for name, module in modules if (obstacle := _owner(module))]
    holders: dict[Any, set[str]] = {}
    for name, module in modules:
        for parameter in module._parameters.values():
            if parameter is not None:
                holders.setdefault(_memory(parameter), set()).add(name)
    promised = _promised_ties(modules)
    ranges = [(name, std) for name, module in modules if (std := _initializer_range(module))]
    for name, module in modules:
        if not (is_dense(module) or isinstance(module, nn.MultiheadAttention)):
            continue
        owned = next((one for owner, one in owners if not owner or f"{name}.".startswith(f"{owner}.")), None)
        obstacle = (_weight(module) if is_dense(module) else None) or owned or _layer(name, module)
        weight = module._parameters.get("weight")
        others = holders[_memory(weight)] - {name} if weight is not None else set()
        if not others and (tie := promised.get(f"{name}.weight")):
            obstacle = obstacle or Obstacle(
                f"is to share its weight with {tie!r}, by _tied_weights_keys",
                "set config.tie_word_embeddings = False to untie it",
            )
        if not obstacle and weight is not None and not weight.requires_grad:
            obstacle = Obstacle(
                "is frozen, so that new weights would stay random", "select it by where=, or unfreeze it", soft=True
            )
        if (obstacle and not obstacle.soft) or weight is None:
            yield Found(name, module, (0, 0), False, lambda: False, obstacle)
            continue
        out, into = weight.shape[::-1] if is_conv1d(module) else weight.shape
        bias: Any = module.bias
        usual = next((std for at, std in reversed(ranges) if not at or f"{name}.".startswith(f"{at}.")), None)
        stds = partial(_stds, weight, usual or (_CONV1D if is_conv1d(module) else (3 * into) ** -0.5 if into else 0.0))
        zero, ties = partial(_is_zero, weight), frozenset(others)
        yield Found(name, module, (out, into), bias is not None, zero, obstacle, ties, stds)


def obstacle_of(layer: nn.Module) -> Obstacle | None:
    """Why a dense layer that stands alone cannot be made into another.

    Args:
        layer: A layer that `is_dense`.

    Returns:
        The obstacle, or None.
    """
    return _weight(layer) or _layer("linear", layer)


def _initializer_range(module: nn.Module) -> float | None:
    """The standard deviation with which a model of transformers starts its layers."""
    std = getattr(getattr(module, "config", None), "initializer_range", None)
    return std if isinstance(std, float) else None


@torch.no_grad()
def _stds(weight: torch.Tensor, usual: float) -> tuple[float, float] | None:
    """The root mean square of a weight, and the usual one."""
    if weight.is_meta or not weight.numel():
        return None
    wide = torch.promote_types(weight.dtype, torch.float32)
    return float(torch.linalg.vector_norm(weight, dtype=wide)) / weight.numel() ** 0.5, usual


# ---------------------------------------------------------------- obstacles


def _names(cls: type) -> set[str]:
    return {one.__name__ for one in cls.__mro__}


def _owner(module: nn.Module) -> Obstacle | None:
    """Why nothing inside a module can be replaced."""
    names = _names(type(module))
    if isinstance(module, nn.MultiheadAttention):
        return Obstacle("belongs to torch.nn.MultiheadAttention, which multiplies by its weights itself")
    if names & {"BaseTunerLayer", "AuxiliaryTrainingWrapper"}:
        kind = type(module).__name__
        return Obstacle(
            f"belongs to an adapter ({kind})",
            "replace before adding adapters, or after merge_and_unload()",
            kind="adapter",
        )
    for wrapper in ("DistributedDataParallel", "FullyShardedDataParallel"):
        if wrapper in names:
            return Obstacle(f"is inside {wrapper}, which would not synchronise new parameters", _BEFORE, fatal=True)
    return None


def _weight(module: nn.Module) -> Obstacle | None:
    """What is the matter with a layer's weight or bias."""
    for key in ("weight", "bias"):
        value = module._parameters.get(key)
        if value is None:
            if key == "bias" and getattr(module, "bias", None) is None:
                continue
            sources = [
                name for name in (*module._parameters, *_parametrized(module)) if name.startswith(key) and name != key
            ]
            made = f" of {', '.join(map(repr, sources))}" if sources else ""
            way = "make that permanent first, as remove_weight_norm, prune.remove and remove_parametrizations do"
            return Obstacle(
                f"computes its {key}{made} (weight norm, pruning, a parametrization)", way, kind=f"computed {key}"
            )
        if "DTensor" in _names(type(value)):
            return Obstacle(f"has a sharded {key} (DTensor)", _BEFORE, fatal=True)
        if "UninitializedParameter" in _names(type(value)):
            return Obstacle(f"has no {key} yet, being lazy", "run the model once first", kind="lazy")
        if type(value) is not nn.Parameter:
            way = "replace before quantising"
            return Obstacle(
                f"has a {key} of {type(value).__name__}, a tensor of another arithmetic", way, kind=type(value).__name__
            )
        if not (value.is_floating_point() or value.is_complex()):
            return Obstacle(f"has a {key} of {value.dtype}", "replace before quantising")
        expected = (
            _sizes(module) if key == "weight" else _sizes(module)[:1] if not is_conv1d(module) else _sizes(module)[1:]
        )
        if tuple(value.shape) != expected:
            return Obstacle(
                f"has a {key} of shape {tuple(value.shape)} for {expected}, as sharded models do", _BEFORE, fatal=True
            )
        if key == "weight" and (value._backward_hooks or value._post_accumulate_grad_hooks):  # the bias is kept
            return Obstacle("has hooks on its weight's gradient, which would be lost", "register them after replacing")
    return None


def _parametrized(module: nn.Module) -> list[str]:
    """The names of a layer's parametrized tensors, as those of their originals."""
    lists: Any = getattr(module, "parametrizations", {})
    return [f"{key}.original" for key in lists]


def _sizes(module: Any) -> tuple[int, ...]:
    """The shape that a layer's weight should have."""
    return (module.weight.shape[0], module.nf) if is_conv1d(module) else (module.out_features, module.in_features)


def _layer(name: str, module: nn.Module) -> Obstacle | None:
    """What is the matter with a layer beside its weight."""
    if not name:
        return Obstacle("is the whole model, which cannot be replaced in place; use linops.nn.torch.Linear")
    kind = type(module).__name__
    if not is_conv1d(module):
        bases = type(module).__mro__
        own = {key for cls in bases[: bases.index(nn.Linear)] for key in vars(cls)}
        own = {
            key for key in own - _HARMLESS if key == "__call__" or not (key.startswith("__") or key.startswith("_abc_"))
        }
        if own:
            what = "forward" if "forward" in own else min(own)
            way = f"a subclass of torch.nn.Linear with its own {what!r}, which would be lost"
            return Obstacle(f"is a {kind}, {way}")
    if "forward" in vars(module):
        return Obstacle(
            "has another forward than its class, as offloaded layers do", "replace before dispatching the model"
        )
    more = [*(key for key in module._parameters if key not in ("weight", "bias")), *module._buffers, *module._modules]
    if more:
        return Obstacle(f"has more than a weight and a bias: {', '.join(map(repr, more))}")
    if any(getattr(module, hooks, None) for hooks in _STATE_HOOKS):
        return Obstacle("has hooks on its state dict, whose entries change", "register them after replacing")
    return None


def _promised_ties(modules: list[tuple[str, nn.Module]]) -> dict[str, str]:
    """The weights that transformers will tie, with what they are tied to: on the meta device they are not yet."""
    weights = [f"{name}.weight" for name, _ in modules]
    found: dict[str, str] = {}
    for prefix, module in modules:
        keys: Any = getattr(module, "_tied_weights_keys", None)
        if not keys or not getattr(getattr(module, "config", None), "tie_word_embeddings", False):
            continue
        start = f"{prefix}." if prefix else ""
        for target, source in keys.items() if isinstance(keys, Mapping) else [(key, "another weight") for key in keys]:
            for one, other in ((target, source), (source, target)):
                for weight in weights:
                    if weight.startswith(start) and re.match(one, weight[len(start) :]):
                        found.setdefault(weight, f"{start}{other}")
    return found


def _memory(parameter: Any) -> Any:
    """What two parameters have in common if they are one: the object, or the memory."""
    if type(parameter) is not nn.Parameter or parameter.is_meta or not parameter.numel():
        return id(parameter)
    return parameter.untyped_storage()._cdata, parameter.storage_offset(), tuple(parameter.shape)


def _is_zero(weight: torch.Tensor) -> bool:
    return not weight.is_meta and not bool(torch.count_nonzero(weight))
