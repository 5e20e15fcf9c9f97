"""A mixture of experts over the ranks of a BTT, as an optional layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from linops.families import btt
from linops.lab.models import linear
from linops.nn.torch.layer import Linear
from linops.plan import natural_order


class RankMixture(nn.Module):
    """y = Σ_e g_e(x) A_e x + bias over the k experts that x scores highest, each a BTT of rank 1.

    A BTT of rank r is a sum of r BTTs of rank 1, so this is a BTT of rank `experts` of which every input uses `active`
    ranks: parameters grow with the number of experts, MACs do not. g is the softmax of the k highest scores G x. Expert
    e gets the share f_e of the inputs and has the mean probability p_e; in training the gradient of  balance · experts
    · Σ_e f_e p_e  is added to that of the loss, which keeps experts in use. The experts are layers, so
    `linops.nn.param_groups` gives each factor its rate.

    Sources: Potapczynski, Qiu et al., "Searching for Efficient Linear Layers over a Continuous Space of Structured
    Matrices" (NeurIPS 2024) for the mixture; Fedus, Zoph, Shazeer, "Switch Transformers" (2022) for the balance.

    Cost: that of `active` experts, and in_features · experts MACs for the scores.

    Attributes:
        gate: G, dense.
        experts: The experts.
        active: k.
        balance: The factor above.
        bias: (m,) parameter, or None.

    Args:
        out_features: m.
        in_features: n.
        experts: Their number.
        active: How many of them an input uses.
        balance: The factor on the gradient that balances them; 0 for none.
        bias: Whether to add a bias, initially zero.
        zero_init: Whether the layer starts at zero, as at the end of a residual branch.
        **options: Of `linops.btt`, as ``rank=2`` or ``in_dims=``.

    Shape:
        Input (…, n), output (…, m).

    Raises:
        ValueError: If there are fewer experts than are to be active, or none is.

    Example:
        >>> import torch
        >>> layer = RankMixture(64, 16, experts=4, active=2)
        >>> layer(torch.zeros(2, 3, 16)).shape, layer.macs
        (torch.Size([2, 3, 64]), 832)
    """

    active: int
    balance: float

    def __init__(
        self,
        out_features: int,
        in_features: int,
        experts: int = 8,
        active: int = 2,
        *,
        balance: float = 0.01,
        bias: bool = True,
        zero_init: bool = False,
        **options: Any,
    ) -> None:
        super().__init__()
        if not 1 <= active <= experts:
            raise ValueError(f"RankMixture: {active} of {experts} experts active; expected at least 1 and at most all")
        operator = btt(out_features, in_features, **options)
        self.gate: nn.Linear = linear(in_features, experts, bias=False)
        layers = [Linear(operator, bias=False, zero_init=zero_init) for _ in range(experts)]
        self.experts: nn.ModuleList = nn.ModuleList(layers)
        self.active, self.balance = active, balance
        self.bias: nn.Parameter | None = nn.Parameter(torch.zeros(out_features)) if bias else None

    @property
    def macs(self) -> int:
        """Multiply-accumulates an input vector."""
        expert: Any = self.experts[0]
        with natural_order():
            return self.active * expert.structure.operator.cost().macs + self.gate.weight.numel()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The weighted outputs of the active experts over the last axis of x."""
        rows = x.reshape(-1, x.shape[-1])
        scores = self.gate(rows)
        highest, chosen = scores.topk(self.active, dim=-1)
        weights = highest.softmax(-1)
        routed = [(chosen == number).nonzero(as_tuple=True) for number in range(len(self.experts))]
        parts = [expert(rows[row]) * weights[row, place, None] for expert, (row, place) in zip(self.experts, routed)]
        y = (
            parts[0]
            .new_zeros(len(rows), parts[0].shape[-1])
            .index_add(0, torch.cat([row for row, _ in routed]), torch.cat(parts))
        )
        if self.training and self.balance:
            share = torch.tensor([len(row) for row, _ in routed], device=x.device) / chosen.numel()
            loss = self.balance * len(self.experts) * (share * scores.softmax(-1).float().mean(0)).sum()
            y = _WithLoss.apply(y, loss)
        y = y.reshape(*x.shape[:-1], -1)
        return y if self.bias is None else y + self.bias.to(y.dtype)


class _WithLoss(torch.autograd.Function):
    """The first argument; the gradient of the second, a loss, is one whatever the gradient of the first."""

    @staticmethod
    def forward(ctx: Any, y: torch.Tensor, loss: torch.Tensor) -> torch.Tensor:
        ctx.like = loss.dtype, loss.device
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        dtype, device = ctx.like
        return gradients[0], torch.ones((), dtype=dtype, device=device)
