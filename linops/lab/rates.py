"""Learning rates of a lab model: of `linops.nn.param_groups`, with a factor on structured layers, or naive."""

from __future__ import annotations

from typing import Any

from torch import nn

from linops.nn import param_groups
from linops.nn.torch.layer import Linear
from linops.nn.torch.nonlinear import Nonlinear


def groups(
    model: nn.Module,
    base: nn.Module,
    lr: float,
    where: Any,
    *,
    factor: float = 1.0,
    aware: bool = True,
    depth: float | None = None,
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
        depth: How much deeper the model is than the one that was tuned: Adam's ε follows CompleteP; None: it is one for
            all.

    Returns:
        Groups with ``params``, ``lr`` and ``names``, and with `depth` ``eps``.
    """
    modules: dict[str, Any] = dict(model.named_modules())
    bases: dict[str, Any] = dict(base.named_modules())
    merged: dict[Any, dict[str, Any]] = {}
    deeper = None if depth is None else {"*blocks.*": depth}
    for group in param_groups(model, lr, optimizer="adam", base=base, depth=deeper):
        tiny = {"eps": group["eps"]} if "eps" in group else {}
        for name, parameter in zip(group["names"], group["params"]):
            path = name.rpartition(".")[0]
            rate = group["lr"]
            if where(path) and parameter.ndim >= 2:
                if not aware and isinstance(modules[path], (Linear, Nonlinear)):
                    rate = lr * bases[path].in_features / modules[path].in_features
                rate *= factor
            entry = merged.setdefault((rate, *tiny.values()), {"params": [], "lr": rate, "names": []} | tiny)
            entry["params"].append(parameter)
            entry["names"].append(name)
    return list(merged.values())
