"""Learning rates of a lab model: of `linops.nn.param_groups`, with a factor on structured layers, or naive."""

from __future__ import annotations

from typing import Any

from torch import nn

from linops.nn import param_groups
from linops.nn.torch.layer import Linear
from linops.nn.torch.nonlinear import Nonlinear


def groups(
    model: nn.Module, base: nn.Module, lr: float, where: Any, *, factor: float = 1.0, aware: bool = True
) -> list[dict[str, Any]]:
    """Parameter groups for Adam.

    The factor is on the weights of the layers that are to be structured, and on nothing else, so that all structures
    share the rates of embedding, head, norms and biases. *Naive* rates give each leaf of such a layer what a dense
    weight would get: base_in/in.

    Args:
        model: The model, structured or dense.
        base: The same model, dense and of the base width; best on the meta device.
        lr: The rate at the base width.
        where: ``name -> bool``: which layers are to be structured.
        factor: On the rates of those layers' weights.
        aware: Whether to use the multipliers of each leaf; otherwise the rates are naive.

    Returns:
        Groups with ``params``, ``lr`` and ``names``.
    """
    modules: dict[str, Any] = dict(model.named_modules())
    bases: dict[str, Any] = dict(base.named_modules())
    merged: dict[float, dict[str, Any]] = {}
    for group in param_groups(model, lr, optimizer="adam", base=base):
        for name, parameter in zip(group["names"], group["params"]):
            path = name.rpartition(".")[0]
            rate = group["lr"]
            if where(path) and parameter.ndim >= 2:
                if not aware and isinstance(modules[path], (Linear, Nonlinear)):
                    rate = lr * bases[path].in_features / modules[path].in_features
                rate *= factor
            entry = merged.setdefault(rate, {"params": [], "lr": rate, "names": []})
            entry["params"].append(parameter)
            entry["names"].append(name)
    return list(merged.values())
