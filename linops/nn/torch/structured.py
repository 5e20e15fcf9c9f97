"""What PyTorch's structured layers share beside their product: a weight to read, and what transformers asks for."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import torch
from torch import nn

from linops.nn.torch.weight import Guarded, Weight, dense, read_only
from linops.nn.torch.wrong_rates import structured

#: bytes that torch's own memory on a CPU begins at a multiple of
_ALIGNED = 64


class Swapped(nn.Module):
    """A layer with parameters of a structure, in the place of a dense one; each has a way to draw them."""

    in_features: int
    out_features: int
    bias: Any
    #: whether parameters began on the meta device, so that they hold nothing until they are loaded or drawn
    _blank = False
    #: whether a checkpoint must have all parameters, for the layer is built by its recipe: none is drawn
    _loaded_only = False
    #: where `replace_linear_` has put the layer
    _path = ""
    #: the names of the operator's leaves
    _names: Any = ()
    #: how `reset_parameters` draws; see `LinearOperator.init`
    scheme = "mup"
    #: whether the layer stands for a Conv1D, whose weight is (in, out)
    _transposed = False

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        announce()
        structured(self)

    @property
    def _called(self) -> str:
        """How errors call the layer."""
        return f"layer {self._path!r}" if self._path else "a structured layer"

    def _leaves(self) -> list[Any]:
        """The parameters that the operator is made of."""
        raise NotImplementedError

    def __setstate__(self, state: Any) -> None:
        """As of `torch.nn.Module`."""
        super().__setstate__(state)
        announce()
        structured(self)

    @property
    def _is_hf_initialized(self) -> bool:
        """Whether transformers is done with the module: it sets this when it has loaded or initialised it."""
        return self.__dict__.get("_initialized", False)

    @_is_hf_initialized.setter
    def _is_hf_initialized(self, done: bool) -> None:
        self.__dict__["_initialized"] = done
        parameters = dict(self.named_parameters(recurse=False))
        if done and not any(parameter.is_meta for parameter in parameters.values()):
            missing = [
                name for name, parameter in parameters.items() if not getattr(parameter, "_is_hf_initialized", False)
            ]
            if self._loaded_only:
                self._refuse(missing)
            self._complete(missing if self._blank else [])
            for parameter in parameters.values():
                parameter._is_hf_initialized = True  # type: ignore[attr-defined]

    def _refuse(self, missing: list[str]) -> None:
        """Raise if parameters are missing in a checkpoint whose recipe has the layer."""
        if missing:
            raise ValueError(
                f"{self._called} is structured by the recipe of the checkpoint, which lacks its "
                f"{', '.join(map(repr, missing))}: it is damaged, or another model's"
            )

    def _finish_loading(self) -> None:
        """Raise if parameters hold nothing; give the layer what is in no checkpoint."""
        parameters = {name: one for name, one in self.named_parameters(recurse=False) if not one.is_meta}
        self._refuse([name for name, one in parameters.items() if not getattr(one, "_is_hf_initialized", False)])
        for (
            one
        ) in parameters.values():  # a mapped file puts numbers anywhere, and where they lie decides how sums round
            if one.device.type == "cpu" and one.data_ptr() % _ALIGNED:
                one.data = one.data.clone()
        self._complete([])
        self._blank = self._loaded_only = False

    def _complete(self, names: list[str]) -> None:
        """Draw the parameters of these names, which hold nothing; and what else is not in a checkpoint."""
        raise NotImplementedError


class Structured(Swapped):
    """A layer over an operator, which each has over its parameters."""

    @property
    def operator(self) -> Any:
        """The operator over the parameters as they are now."""
        raise NotImplementedError

    @property
    def weight(self) -> Any:
        """The dense matrix, computed from the parameters: shape, dtype, device are free; differentiable, never written.

        `torch.nn.functional.linear` and matrix products of it run by the structure; other functions multiply it out,
        with a warning.
        """
        if "weight" in self._parameters:  # a leaf of that name
            return self._parameters["weight"]
        leaves = self._leaves() or [leaf for leaf in (self.bias,) if leaf is not None]
        dtype = leaves[0].dtype if leaves else torch.get_default_dtype()
        device = leaves[0].device if leaves else torch.get_default_device()
        if self._gives_complex and not dtype.is_complex:
            dtype = torch.promote_types(dtype, torch.complex32)
        if torch.compiler.is_compiling():  # what is not used costs nothing there
            matrix = dense(self.operator, dtype, device)
            matrix = matrix.T if self._transposed else matrix
            return matrix.as_subclass(Guarded) if torch.compiler.is_dynamo_compiling() else matrix
        shape, give = (self.out_features, self.in_features), lambda: self.operator
        if self._transposed:
            shape, give = shape[::-1], lambda: self.operator.T
        loaded = bool(leaves) and all(getattr(leaf, "_is_hf_initialized", False) for leaf in leaves)
        return Weight(give, shape, dtype, device, any(leaf.requires_grad for leaf in leaves), self._called, loaded)

    @weight.setter
    def weight(self, value: Any) -> None:
        raise RuntimeError(f"layer.weight = {type(value).__name__}: {read_only(self._called)}")

    def to_dense(self) -> nn.Linear:
        """A `torch.nn.Linear` with the same weights, multiplied out.

        Returns:
            The dense layer; its weight is (m, n).
        """
        like: Any = self.weight
        weight = dense(self.operator, like.dtype, like.device).detach()
        layer = nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        layer.weight = nn.Parameter(weight.clone())
        if self.bias is not None:
            layer.bias = nn.Parameter(self.bias.detach().clone())
        return layer

    @property
    def _gives_complex(self) -> bool:
        """Whether the operator is complex, whatever its leaves are."""
        raise NotImplementedError

    def register_parameter(self, name: str, param: Any) -> None:
        """As `torch.nn.Module.register_parameter`; there is no weight to register."""
        if name != "weight":
            super().register_parameter(name, param)
        elif name in self._names:
            self._parameters[name] = param
        else:
            raise RuntimeError(f"layer.weight = {type(param).__name__}: {read_only(self._called)}")


def announce() -> None:
    """Teach transformers to save structured layers, if it has been imported; see `linops.nn.transformers`."""
    quantizers = sys.modules.get("transformers.quantizers.auto")
    if "transformers.modeling_utils" in sys.modules and hasattr(quantizers, "register_quantizer"):
        import_module("linops.nn.transformers")
