"""Two linear maps with an activation between, in the place of one (CoLA)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from linops.nn.nonlinear import Chain as Description
from linops.nn.nonlinear import chain
from linops.nn.torch.nonlinear import Nonlinear

_ACTIVATIONS = {"silu": nn.SiLU, "gelu": nn.GELU, "relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


class Chain(Nonlinear):
    """``y = U σ(V x) + bias``: a layer of low rank with an activation between its factors.

    It is what ``replace_linear_(model, "chain")`` puts in. Fans, initial scale and rates are those of
    `linops.low_rank`, as if the activation were not there. It is no linear map, so it has no operator and no weight.

    Source: Liu et al., "CoLA: Compute-Efficient Pre-Training of LLMs via Low-Rank Activation" (2025), which takes SiLU.

    Cost: r (m + n) MACs a vector, and r activations.

    Attributes:
        nonlinear: What it computes, without numbers: `linops.nn.nonlinear.Chain`.
        in_features: n.
        out_features: m.
        rank: r.
        U: (m, r) parameter.
        V: (r, n) parameter.
        bias: (m,) parameter, or None.
        activation: σ.

    Args:
        out_features: m.
        in_features: n.
        rank: r; None takes that of `linops.low_rank`.
        activation: σ: a name as for `lo.nn.chain`, or a module or function of tensors, with which the layer cannot be
            saved by `lo.nn.save`.
        bias: Whether to add a bias, initially zero.
        device: The device of the parameters.
        dtype: The dtype of the parameters.
        zero_init: Whether it starts at zero, by U alone.
        nonlinear: What it is to compute, where that is at hand; it stands for sizes, rank and activation.

    Shape:
        Input (…, n), output (…, m).

    Raises:
        ValueError: If the layer costs more than a dense one, or has a side of one and no rank is given.

    Example:
        >>> import linops as lo, torch
        >>> layer = lo.nn.torch.Chain(64, 16, rank=4)
        >>> layer(torch.zeros(2, 3, 16)).shape
        torch.Size([2, 3, 64])
        >>> [(group["names"], group["lr"]) for group in lo.nn.param_groups(layer, lr=0.5)]
        [(['U'], 1.0), (['V'], 0.25), (['bias'], 0.5)]
    """

    U: nn.Parameter
    V: nn.Parameter
    bias: nn.Parameter | None

    def __init__(
        self,
        out_features: int,
        in_features: int,
        rank: int | None = None,
        activation: Any = "silu",
        bias: bool = True,
        *,
        device: Any = None,
        dtype: Any = None,
        zero_init: bool = False,
        nonlinear: Description | None = None,
    ) -> None:
        found = chain(out_features, in_features, rank, activation) if nonlinear is None else nonlinear
        super().__init__(found, bias, device, dtype, zero_init)
        self.rank: int = found.rank
        name = found.activation
        self.activation: Any = _ACTIVATIONS[name]() if isinstance(name, str) else name

    def _mapped(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(self.activation(nn.functional.linear(x, self.V)), self.U)
