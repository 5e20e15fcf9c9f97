"""Two linear maps with an activation between, in the place of one (CoLA)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from linops.families import low_rank
from linops.nn.torch.sharded import normal_
from linops.scaling import initial_stds


class Chain(nn.Module):
    """``y = U σ(V x) + bias``: a layer of low rank with an activation between its factors.

    Fans, initial scale and rates are those of `linops.low_rank`, as if the activation were not there: `param_groups`
    knows the layer. It is no linear map, so it has no operator or weight, and what asks for one (`to_dense_`,
    `lo.project`, `grow_`) passes it by. `lo.nn.save` keeps the numbers, and
    `lo.nn.load` takes a model that has the layer in its place.

    Source: Liu et al., "CoLA: Compute-Efficient Pre-Training of LLMs via Low-Rank Activation" (2025), which takes SiLU.

    Cost: r (m + n) MACs a vector, and r activations.

    Attributes:
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
        activation: σ, a module or function of tensors; None takes SiLU.
        bias: Whether to add a bias, initially zero.
        device: The device of the parameters.
        dtype: The dtype of the parameters.

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

    bias: nn.Parameter | None

    def __init__(
        self,
        out_features: int,
        in_features: int,
        rank: int | None = None,
        activation: Callable[[torch.Tensor], torch.Tensor] | None = None,
        bias: bool = True,
        *,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        operator: Any = low_rank(out_features, in_features, rank)
        if not hasattr(operator, "U"):
            raise ValueError(f"Chain({out_features}, {in_features}): no rank is as cheap as dense; use torch.nn.Linear")
        self.out_features, self.in_features, self.rank = out_features, in_features, operator.U.shape[1]
        self.structure = operator.structure
        self.activation = nn.SiLU() if activation is None else activation
        kind: dict[str, Any] = {"device": device, "dtype": dtype}
        self.U: nn.Parameter = nn.Parameter(torch.empty(operator.U.shape, **kind))
        self.V: nn.Parameter = nn.Parameter(torch.empty(operator.V.shape, **kind))
        self.register_parameter("bias", nn.Parameter(torch.zeros(out_features, **kind)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew, of structure-aware scale (`linops.initial_stds`); the bias becomes zero."""
        stds: Any = initial_stds(self.structure.operator)
        with torch.no_grad():
            for name in ("U", "V"):
                normal_(getattr(self, name), stds[name])
            if self.bias is not None:
                self.bias.zero_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """U σ(V x) + bias over the last axis of x."""
        return nn.functional.linear(self.activation(nn.functional.linear(x, self.V)), self.U, self.bias)

    def extra_repr(self) -> str:
        """Sizes, for repr."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, rank={self.rank}, "
            f"bias={self.bias is not None}"
        )
