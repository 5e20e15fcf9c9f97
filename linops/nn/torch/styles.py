"""Which layers of a model stay divided between them: what a user says, a model has planned, or its modules show."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from linops.nn.obstacles import brief
from linops.nn.patterns import matches
from linops.nn.sending import ends
from linops.nn.torch.layer import Linear
from linops.sharding import SHARDED

#: modules that act on each feature alone, so that features may stay divided
_ELEMENTWISE = (
    nn.ReLU,
    nn.ReLU6,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Tanh,
    nn.Sigmoid,
    nn.Softplus,
    nn.ELU,
    nn.CELU,
    nn.SELU,
    nn.LeakyReLU,
    nn.Hardswish,
    nn.Hardtanh,
    nn.Identity,
)


#: what is said of modules that are no linear layers
REPLICATED = "replicated"
#: what a plan of Hugging Face calls styles, and those that are whole or no matter of layers; others are unknown here
_THEIRS = {
    "colwise": "colwise",
    "rowwise": "rowwise",
    "replicated_with_grad_allreduce": REPLICATED,
    "colwise_gather_output": "whole",
    "colwise_rep": "whole",
    "rowwise_split_input": "whole",
    "embedding_rowwise": "whole",
    "embedding_colwise": "whole",
}


def is_layer(module: nn.Module) -> bool:
    """Whether a module is a linear layer that can be divided."""
    return isinstance(module, Linear) or type(module) is nn.Linear


def styles_of(model: nn.Module, style: Any, ranks: int = 1) -> dict[str, str]:
    """The style of each module that has one.

    Args:
        model: The model.
        style: As for `lo.nn.parallelize_`.
        ranks: How many ranks there are: features that they cannot share equally stay whole where nothing else is said.

    Returns:
        Styles by name: of linear layers, and ``"replicated"`` of others.

    Raises:
        TypeError: If the style is neither a name nor a dict.
        ValueError: If there is no such style, or it is none of the modules that a pattern matches.

    Warns:
        UserWarning: If a pattern matches no layer, or a model's plan has styles that are not known here.
    """
    modules = dict(model.named_modules())
    if isinstance(style, str):
        ends(style)
        return {name: style for name, module in modules.items() if isinstance(module, Linear)}
    if style is None:
        return _planned(model, modules, ranks) | _chained(model, modules, ranks)
    if not isinstance(style, Mapping):
        got = type(style).__name__
        raise TypeError(f"parallelize_: style must be a name or a dict of patterns to names, got {got}")
    found: dict[str, str] = {}
    for pattern, one in style.items():
        if one != REPLICATED:
            ends(one)
        meant = {name: module for name, module in modules.items() if matches(pattern, name, module)}
        fitting = [name for name, module in meant.items() if _fits(module, one)]
        if not fitting:
            what = "module" if one == REPLICATED else "layer"
            there = brief([name for name, module in modules.items() if _fits(module, one)], 4)
            warnings.warn(
                f"parallelize_: the pattern {pattern!r} matches no {what} for {one!r}; there are {there}", stacklevel=3
            )
        found = dict.fromkeys(fitting, str(one)) | found
    return found


def _fits(module: nn.Module, style: str) -> bool:
    """Whether a style may be meant for a module."""
    if style != REPLICATED:
        return is_layer(module)
    return not is_layer(module) and any(True for _ in module.parameters(recurse=False))


def _planned(model: nn.Module, modules: Mapping[str, nn.Module], ranks: int) -> dict[str, str]:
    """What a model of Hugging Face has planned."""
    plan = getattr(model, "_tp_plan", None) or {}
    found = {
        name: own
        for name in modules
        if (own := next((one for pattern, one in plan.items() if matches(pattern, name)), None))
    }
    unknown = {own for own in found.values() if own not in _THEIRS}
    if unknown:
        warnings.warn(
            f"parallelize_: the model's plan has the styles {', '.join(sorted(unknown))}, which linops does not know, "
            "so that all its layers are whole; say which are divided by style={pattern: style}",
            stacklevel=4,
        )
        return {}
    styles = {name: _THEIRS[own] for name, own in found.items() if _THEIRS[own] != "whole"}
    odd = [name for name, own in styles.items() if own != REPLICATED and not _shares(modules[name], own, ranks)]
    if odd:
        warnings.warn(
            f"parallelize_: {ranks} ranks cannot share the features of {odd[0]!r} equally, as the model's plan has it, "
            "so that all its layers are whole; say which are divided by style={pattern: style}",
            stacklevel=4,
        )
        return {}
    return styles


def _shares(layer: Any, style: str, ranks: int) -> bool:
    """Whether ranks can share the features equally that a style splits."""
    into, out = ends(style)
    return not (into == SHARDED and layer.in_features % ranks) and not (out == SHARDED and layer.out_features % ranks)


def _chained(model: nn.Module, modules: Mapping[str, nn.Module], ranks: int) -> dict[str, str]:
    """Layers of a `torch.nn.Sequential` between which only elementwise functions lie, and which are used once."""
    uses = Counter(id(module) for _, module in model.named_modules(remove_duplicate=False))
    found: dict[str, str] = {}
    for path, module in modules.items():
        if type(module) is not nn.Sequential:
            continue
        run: list[str] = []
        for name, child in [*module._modules.items(), ("", None)]:
            if child is not None and is_layer(child) and uses[id(child)] == 1 and not _has_hooks(child):
                run.append(f"{path}.{name}" if path else name)
            elif type(child) not in _ELEMENTWISE or _has_hooks(child):
                found |= _run_of(modules, run, ranks)
                run = []
    return found


def _has_hooks(module: Any) -> bool:
    """Whether something is called with what goes into a module, or comes out."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _run_of(modules: Mapping[str, nn.Module], run: Sequence[str], ranks: int) -> dict[str, str]:
    """The styles of layers that follow each other, at least one of which is structured."""
    if len(run) < 2 or not any(isinstance(modules[name], Linear) for name in run):
        return {}
    styles = {run[0]: "colwise", **dict.fromkeys(run[1:-1], "sharded"), run[-1]: "rowwise"}
    return styles if all(_shares(modules[name], own, ranks) for name, own in styles.items()) else {}
