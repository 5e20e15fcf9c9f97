"""Optimisers of lab models: groups of `linops.nn.param_groups`, with a factor on structured layers, by three rules."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Any

import torch
from torch import nn

from linops.nn import param_groups
from linops.nn.torch.layer import Linear
from linops.nn.torch.muon import Muon
from linops.nn.torch.nonlinear import Nonlinear

#: a rate for each leaf: what a dense weight would get, what is right at the first step, and that over norms' growth
NAIVE, STATIC, RENORMALIZED = "naive", "static", "renormalized"
#: Adam without decay, which is AdamW without decay too; and Muon for structured layers, Adam for the rest
ADAM, MUON = "adam", "muon"
#: Muon's rate at the base width, on which factors are
MUON_LR = 0.05
#: what Muon reads of a group, and of a group for each parameter
GROUPS, LISTS = ("algorithm", "eps", "lr_multiplier"), ("axes", "leaves")


def default(optimizer: str) -> str:
    """The rule that `linops.nn.param_groups` has by default, of layers that the optimiser steps.

    Args:
        optimizer: `ADAM` or `MUON`.

    Returns:
        `RENORMALIZED` for Muon, `STATIC` for Adam.
    """
    return RENORMALIZED if optimizer == MUON else STATIC


def groups(
    model: nn.Module,
    base: nn.Module,
    lr: float,
    where: Callable[[str], bool],
    *,
    factor: float = 1.0,
    rule: str = STATIC,
    optimizer: str = ADAM,
    depth: float | None = None,
) -> list[dict[str, Any]]:
    """Parameter groups for `stepper`.

    The factor is on the weights of the layers that are to be structured, and on nothing else, so that all structures
    share the rates of embedding, head, norms and biases. *Naive* rates give each leaf of such a layer what a dense
    weight would get: base_in/in for Adam, sqrt((out/in)/(base_out/base_in)) for Muon.

    Args:
        model: The model, structured or dense.
        base: The same model, dense and of the base width; best on the meta device.
        lr: Adam's rate at the base width. Muon's is `MUON_LR`.
        where: ``name -> bool``: which layers are to be structured.
        factor: On the rates of those layers' weights.
        rule: `NAIVE`, `STATIC` or `RENORMALIZED`.
        optimizer: `ADAM` or `MUON`.
        depth: How much deeper the model is than the one that was tuned: Adam's ε follows CompleteP; None: it is one for
            all.

    Returns:
        Groups with ``params``, ``lr`` and ``names``, with `depth` ``eps``, and what Muon reads of groups where it is
        the one that steps.
    """
    modules: dict[str, Any] = dict(model.named_modules())
    bases: dict[str, Any] = dict(base.named_modules())
    merged: dict[Any, dict[str, Any]] = {}
    for group in _groups(model, base, lr, where, rule, optimizer, depth):
        kept = {
            name: group[name] for name in GROUPS if name in group and (optimizer == MUON or name != "lr_multiplier")
        }
        for place, (name, parameter) in enumerate(zip(group["names"], group["params"])):
            path = name.rpartition(".")[0]
            rate = group["lr"]
            if where(path) and parameter.ndim >= 2:
                if rule == NAIVE and isinstance(modules[path], (Linear, Nonlinear)):
                    rate = _dense(bases[path], modules[path], lr, group.get("algorithm"))
                rate *= factor
            entry = merged.setdefault((rate, *kept.values()), {"params": [], "lr": rate, "names": []} | kept)
            entry["params"].append(parameter)
            entry["names"].append(name)
            for key in LISTS if optimizer == MUON else ():
                entry.setdefault(key, []).append(group[key][place] if key in group else None)
            if "partners" in group:
                entry.setdefault("partners", []).append(group["partners"][place])
    return list(merged.values())


def _groups(
    model: nn.Module,
    base: nn.Module,
    lr: float,
    where: Callable[[str], bool],
    rule: str,
    optimizer: str,
    depth: float | None,
) -> list[dict[str, Any]]:
    renormalize = rule == RENORMALIZED
    deeper = None if depth is None else {"*blocks.*": depth}
    if optimizer == MUON:
        rest: dict[str, Any] = {"adamw": lambda name, _: not where(name), "adamw_lr": lr, "depth": deeper}
        return param_groups(model, MUON_LR, optimizer="muon", base=base, renormalize=renormalize, **rest)
    own = "adamw" if renormalize else "adam"
    return param_groups(model, lr, optimizer=own, base=base, renormalize=renormalize, depth=deeper)


def _dense(base: Any, layer: Any, lr: float, algorithm: str | None) -> float:
    """The rate of a dense layer of a structured one's shape."""
    if algorithm == "muon":
        return MUON_LR * sqrt(layer.out_features * base.in_features / layer.in_features / base.out_features)
    return lr * base.in_features / layer.in_features


def stepper(groups: list[dict[str, Any]], device: torch.device) -> torch.optim.Optimizer:
    """The optimiser of groups.

    Args:
        groups: From `groups`; or any with ``params`` and ``lr``, for Adam.
        device: Of the parameters.

    Returns:
        Muon, where groups name algorithms; it steps renormalised Adam too, with Adam's usual betas.
    """
    algorithms = {group["algorithm"] for group in groups if "algorithm" in group}
    if algorithms:
        return Muon(groups) if "muon" in algorithms else Muon(groups, betas=(0.9, 0.999))
    plain = [{name: group[name] for name in ("params", "lr", "eps") if name in group} for group in groups]
    return torch.optim.Adam(plain, fused=device.type in ("cpu", "cuda"))
