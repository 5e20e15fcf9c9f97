"""What PyTorch's layers that are no linear maps share: parameters as `linops.nn.nonlinear` says, and how they start."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from linops.nn.nonlinear import Nonlinear as Description
from linops.nn.torch.leaves import draw_, held
from linops.nn.torch.structured import Swapped
from linops.specs import dtype_name


class Nonlinear(Swapped):
    """A layer over the leaves of an operator that is no linear map: it has no operator and no weight.

    Attributes:
        nonlinear: What it computes, without numbers.
        in_features: n.
        out_features: m.
        bias: (m,) parameter, or None.

    Args:
        nonlinear: What it is to compute.
        bias: Whether to add a bias, initially zero.
        device: The device of the parameters.
        dtype: The dtype of the parameters.
        zero_init: Whether it starts at zero, by the factor nearest the output alone.

    Shape:
        Input (…, n), output (…, m).
    """

    def __init__(
        self, nonlinear: Description, bias: bool = True, device: Any = None, dtype: Any = None, zero_init: bool = False
    ) -> None:
        super().__init__()
        self.nonlinear: Any = nonlinear
        self.out_features, self.in_features = nonlinear.shape
        self._names = list(nonlinear.structure.names)
        self._starts: dict[str, float] = dict.fromkeys(nonlinear._output_leaves() if zero_init else (), 0.0)
        kind: dict[str, Any] = {"device": device, "dtype": dtype}
        for name, shape in nonlinear.leaves.items():
            self.register_parameter(name, nn.Parameter(torch.empty(shape, **kind)))
        self.register_parameter("bias", nn.Parameter(torch.zeros(self.out_features, **kind)) if bias else None)
        self._blank = any(parameter.is_meta for parameter in self.parameters())
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew, of structure-aware scale (`linops.initial_stds`); the bias becomes zero.

        What starts at zero and the scale of the layer that it replaced are kept, also by `lo.nn.save` and `load`.
        """
        self._complete(list(self._parameters))
        self._blank = any(parameter.is_meta for parameter in self.parameters())

    def _complete(self, names: list[str]) -> None:
        with torch.no_grad():
            for name, std in self.nonlinear.stds.items():
                if name in names:
                    draw_(self.get_parameter(name), std, self._starts.get(name, 1))
            if self.bias is not None and "bias" in names:
                self.bias.zero_()

    def _leaves(self) -> list[Any]:
        return held(self, self.nonlinear.leaves)

    def _described(self) -> Any:
        """What it computes, over the dtype that its parameters have now."""
        return self.nonlinear.of_dtype(dtype_name(self._leaves()[0].dtype))

    def __getattr__(self, name: str) -> Any:
        if name in ("weight", "operator"):
            raise AttributeError(
                f"{self._called} is a {type(self).__name__}, which is no linear map and has no {name}; leave the layer "
                "dense, or give it an operator, if the model reads it"
            )
        return super().__getattr__(name)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The map and the bias over the last axis of x."""
        y = self._mapped(x)
        return y if self.bias is None else y + self.bias.to(y.dtype)

    def _mapped(self, x: torch.Tensor) -> torch.Tensor:
        """The map without the bias."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        """Sizes and structure, for repr."""
        bias = self.bias is not None
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={bias}, {self.nonlinear}"
