"""Linear maps of one input side by side, such as a fused query-key-value projection."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from linops.nn.torch.layer import Linear
from linops.nn.torch.structured import Structured
from linops.operators import vstack


class Parts(Structured, nn.ModuleList):
    """``y = concat(part(x) for each part) + bias``: a dense layer's outputs in parts of their own structure and rates.

    Cost: that of the parts, and an addition an output for the bias.

    Attributes:
        in_features: n.
        out_features: m, the sum of the parts'.
        bias: (m,) parameter, or None.

    Args:
        layers: Layers of the same in_features.
        bias: Whether to add a bias to the joined outputs, initially zero.

    Shape:
        Input (…, n), output (…, m).

    Raises:
        ValueError: If there is no layer, or their in_features differ.

    Example:
        >>> import linops as lo, torch
        >>> qkv = Parts([lo.nn.torch.Linear(lo.btt(16, 16), bias=False) for _ in range(3)])
        >>> qkv(torch.zeros(2, 16)).shape
        torch.Size([2, 48])
    """

    bias: nn.Parameter | None

    def __init__(self, layers: Iterable[Linear], bias: bool = False) -> None:
        super().__init__(layers)
        sizes = {layer.in_features for layer in self.layers}
        if len(sizes) != 1:
            raise ValueError(f"Parts: expected layers of the same in_features, got {sorted(sizes)}")
        self.in_features: int = sizes.pop()
        self.out_features: int = sum(layer.out_features for layer in self.layers)
        like = next(self.parameters(), None)
        kind: Any = {} if like is None else {"device": like.device, "dtype": like.dtype}
        self.register_parameter("bias", nn.Parameter(torch.zeros(self.out_features, **kind)) if bias else None)
        self._blank = like is not None and like.is_meta

    @property
    def layers(self) -> list[Any]:
        """The parts."""
        return list(self)

    @property
    def operator(self) -> Any:
        """The operator over the parts' parameters as they are now."""
        return vstack(*(layer.operator for layer in self.layers))

    def _leaves(self) -> list[Any]:
        return [leaf for layer in self.layers for leaf in layer._leaves()]

    @property
    def _gives_complex(self) -> bool:
        return any(layer._gives_complex for layer in self.layers)

    def _complete(self, names: list[str]) -> None:
        if "bias" in names and self.bias is not None:
            with torch.no_grad():
                self.bias.zero_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The parts' outputs, joined along the last axis."""
        y = torch.cat([layer(x) for layer in self], dim=-1)
        return y if self.bias is None else y + self.bias.to(y.dtype)
