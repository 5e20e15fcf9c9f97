"""Counts multiply-accumulates of a model's forward pass from its layers, on the meta device: nothing is computed."""

from __future__ import annotations

from copy import deepcopy
from math import prod
from typing import Any

import torch
from torch import nn

from linops.nn.torch.layer import Linear
from linops.nn.torch.nonlinear import Nonlinear
from linops.plan import natural_order


def macs(model: nn.Module, example: torch.Tensor) -> int:
    """Multiply-accumulates of one forward pass of one example.

    Counted are linear layers, dense or structured, those that stand for one (chains, mixtures), and what modules count
    themselves by a method ``own_macs(*inputs)``, as attention does. Sums, norms, activations and embeddings by look-up
    have no MACs. Structures whose products are no contractions (fast Fourier transforms) count by their FLOPs, half a
    MAC each.

    Args:
        model: The model.
        example: An input with a leading batch axis of 1.

    Returns:
        The number of MACs.

    Example:
        >>> import linops as lo, torch
        >>> macs(torch.nn.Sequential(torch.nn.Linear(64, 64), lo.btt(64, 64).to_layer()), torch.zeros(1, 64))
        5120
    """
    total = 0

    def count(module: Any, inputs: tuple[torch.Tensor, ...], _: Any) -> None:
        nonlocal total
        vectors = prod(inputs[0].shape[:-1])
        if isinstance(module, Linear):
            with natural_order():
                total += module.structure.operator.flops(vectors) // 2
        elif isinstance(module, Nonlinear):
            total += vectors * module.nonlinear.macs
        elif isinstance(module, nn.Linear):
            total += vectors * module.weight.numel()
        else:
            total += module.own_macs(*inputs)

    counted = deepcopy(model).to("meta")
    for module in counted.modules():
        if isinstance(module, (Linear, Nonlinear, nn.Linear)) or hasattr(module, "own_macs"):
            module.register_forward_hook(count)
    with torch.no_grad():
        counted(example.to("meta"))
    return total
