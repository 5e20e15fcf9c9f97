"""Which layers of a model stay divided between them: what a user says, a model has planned, or its modules show."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from linops.nn.communication import ends
from linops.nn.patterns import matches
from linops.nn.torch.layer import Linear

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


def styles_of(model: nn.Module, names: Sequence[str], style: Any) -> dict[str, str]:
    """The style of each layer that has one.

    Args:
        model: The model.
        names: Of its layers that can be divided.
        style: As for `lo.nn.parallelize_`.

    Returns:
        Styles by name.

    Raises:
        TypeError: If the style is neither a name nor a dict.
        ValueError: If there is no such style.

    Warns:
        UserWarning: If a pattern matches no layer.
    """
    if isinstance(style, str):
        ends(style)
        return {name: style for name in names if isinstance(model.get_submodule(name), Linear)}
    if style is None:
        return {**_planned(model, names), **_chained(model, names)}
    if not isinstance(style, Mapping):
        raise TypeError(
            f"parallelize_: style must be a style or a dict of patterns to styles, got {type(style).__name__}"
        )
    found: dict[str, str] = {}
    for pattern, one in style.items():
        ends(one)
        fitting = [name for name in names if matches(pattern, name, model.get_submodule(name))]
        if not fitting:
            warnings.warn(f"parallelize_: the pattern {pattern!r} matches no layer", stacklevel=3)
        found = dict.fromkeys(fitting, str(one)) | found
    return found


def _planned(model: nn.Module, names: Sequence[str]) -> dict[str, str]:
    """What a model of Hugging Face has planned: columns and rows."""
    plan = getattr(model, "_tp_plan", None) or {}
    found = {}
    for name in names:
        own = next((one for pattern, one in plan.items() if matches(pattern, name)), None)
        if own in ("colwise", "rowwise"):
            found[name] = own
    return found


def _chained(model: nn.Module, names: Sequence[str]) -> dict[str, str]:
    """Layers of a `torch.nn.Sequential` between which only elementwise functions lie."""
    found, known = {}, set(names)
    for path, module in model.named_modules():
        if type(module) is not nn.Sequential:
            continue
        run: list[str] = []
        for name, child in [*module.named_children(), ("", None)]:
            full = f"{path}.{name}" if path else name
            if child is not None and full in known:
                run.append(full)
            elif not isinstance(child, _ELEMENTWISE):
                found.update(_run_of(model, run))
                run = []
    return found


def _run_of(model: nn.Module, run: Sequence[str]) -> dict[str, str]:
    """The styles of layers that follow each other, the first of which is structured or not."""
    if len(run) < 2 or not any(isinstance(model.get_submodule(name), Linear) for name in run):
        return {}
    return {run[0]: "colwise", **dict.fromkeys(run[1:-1], "sharded"), run[-1]: "rowwise"}
