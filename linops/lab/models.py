"""The paper's residual MLP: small, clean, dense until `linops.nn.replace_linear_` makes it structured."""

from __future__ import annotations

import torch
from torch import nn

from linops.scaling import initial_std


def linear(in_features: int, out_features: int, zero: bool = False, bias: bool = True) -> nn.Linear:
    """A dense layer with the μP initial scale of `linops.scaling`, or zero, and a bias of zero.

    Args:
        in_features: n.
        out_features: m.
        zero: Whether the weight starts at zero, as in heads and at the end of residual branches.
        bias: Whether there is a bias.

    Returns:
        The layer.

    Example:
        >>> linear(4, 8, zero=True).weight.abs().max().item()
        0.0
    """
    layer = nn.Linear(in_features, out_features, bias)
    nn.init.normal_(layer.weight, std=0.0 if zero else initial_std(in_features, out_features))
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


class Block(nn.Module):
    """x + b · down(GELU(up(LayerNorm(x)))), w → 4w → w; `down` starts at zero.

    Args:
        width: w.
        branch: b, the residual multiplier.
    """

    def __init__(self, width: int, branch: float = 1.0) -> None:
        super().__init__()
        self.branch = branch
        self.norm: nn.LayerNorm = nn.LayerNorm(width)
        self.up: nn.Linear = linear(width, 4 * width)
        self.down: nn.Linear = linear(4 * width, width, zero=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(…, w) → (…, w)."""
        return x + self.branch * self.down(nn.functional.gelu(self.up(self.norm(x))))


class MLP(nn.Module):
    """An embedding, residual blocks, and a head that starts at zero. The blocks' linear layers are to be structured.

    Args:
        in_features: Numbers in an input.
        classes: Numbers of an output.
        width: w.
        depth: Number of blocks.
        base_depth: That of the model that was tuned: branches are multiplied by base_depth / depth (CompleteP);
            None: by 1.

    Shape:
        Input (…, in_features), output (…, classes): logits.

    Example:
        >>> import torch
        >>> MLP(40, 10, width=16)(torch.zeros(3, 40)).shape
        torch.Size([3, 10])
    """

    def __init__(
        self, in_features: int, classes: int, width: int = 64, depth: int = 2, base_depth: int | None = None
    ) -> None:
        super().__init__()
        self.embed: nn.Linear = linear(in_features, width)
        self.blocks: nn.ModuleList = nn.ModuleList(Block(width, (base_depth or depth) / depth) for _ in range(depth))
        self.head: nn.Linear = linear(width, classes, zero=True)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """What the head reads: (…, in_features) → (…, w)."""
        x = nn.functional.gelu(self.embed(x))
        for block in self.blocks:
            x = block(x)
        return x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of the classes: (…, in_features) → (…, classes)."""
        return self.head(self.features(x))
