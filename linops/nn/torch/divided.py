"""`DividedLinear`: a layer of which each rank of a mesh holds and runs its share; and what runs alike on each."""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any

from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from linops.nn.torch.collectives import move
from linops.nn.torch.layer import Linear
from linops.nn.torch.leaves import held
from linops.nn.torch.sharded import cut_as
from linops.nn.torch.sharded import own as own_memory
from linops.plan.shares import Movement
from linops.sharding import SHARDED, Division


class DividedLinear(Linear):
    """A `Linear` of which each rank of a mesh holds and runs its share; made by `lo.nn.parallelize_`.

    Its parameters are `torch.distributed.tensor.DTensor`s of the names and shapes of the undivided layer, so that
    optimisers, FSDP2 over another axis of the mesh, and `torch.distributed.checkpoint` know them. Operand and result
    are plain tensors: whole, or this rank's share of the features.

    Attributes:
        style: ``"whole"``, ``"colwise"``, ``"rowwise"`` or ``"sharded"``.
        division: What each rank holds and runs.
    """

    style: str
    division: Division
    _mesh: DeviceMesh

    @property
    def operator(self) -> Any:
        """The whole operator over the parameters as they are now, which are gathered on every rank."""
        leaves = [self._leaf(name) for name in self._names]
        whole = [leaf.full_tensor() if isinstance(leaf, DTensor) else leaf for leaf in leaves]
        return self.structure.fill(whole, held(self, self._indices))

    def forward(self, x: Tensor) -> Tensor:
        """X @ A.T + bias over the last axis of x."""
        if not isinstance(x, Tensor):
            got = type(x).__name__
            raise TypeError(f"{self._called}: expected a torch tensor (…, {self.in_features}), got {got}")
        expected = self.in_features // (self.division.ranks if self.division.into == SHARDED else 1)
        if x.shape[-1:] != (expected,):
            ranks, way = self.division.ranks, ""
            if x.shape[-1:] == (self.in_features // ranks,):
                way = "; features that come divided need the style 'rowwise' or 'sharded'"
            elif x.shape[-1:] == (self.in_features,):
                way = "; whole features need the style 'whole' or 'colwise'"
            raise ValueError(
                f"{self._called} of {self.structure.operator._short()}, style {self.style!r} on {ranks} ranks: input "
                f"of shape {tuple(x.shape)}; expected (…, {expected}){way}"
            )
        group = self._mesh.get_group()
        leaves = [self._share(name, group) for name in self._names]
        columns = x.reshape(prod(x.shape[:-1]), expected).T
        total = self.division.multiply(
            leaves, columns, lambda y, movement: move(y, movement, group), lambda y: self._whole(leaves, y)
        )
        y = total.T if self.features_first else total.T.contiguous()
        y = y.reshape(*x.shape[:-1], y.shape[-1])
        if self.bias is None:
            return own_memory(y, x)
        bias: Any = self.bias
        return y + (bias.to_local() if isinstance(bias, DTensor) else bias).to(y.dtype)

    def _whole(self, leaves: list[Tensor], x: Tensor) -> Tensor:
        """The product with the operator itself."""
        return self.structure.fill(leaves, held(self, self._indices))._linear(x.T).T

    def _share(self, name: str, group: Any) -> Tensor:
        """This rank's share of a leaf."""
        leaf: Any = self._leaf(name)
        if name in self.division.partial:
            return entered(leaf, group)
        return leaf.to_local() if isinstance(leaf, DTensor) else leaf

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        """As of `torch.nn.Module`; whole tensors, and those that are split otherwise, are split as the layer's are."""
        for name, parameter in self.named_parameters(recurse=False):
            value = state_dict.get(prefix + name)
            if not isinstance(value, Tensor) or not isinstance(parameter, DTensor) or value.shape != parameter.shape:
                continue
            if isinstance(value, DTensor):
                if (value.device_mesh, value.placements) != (parameter.device_mesh, parameter.placements):
                    state_dict[prefix + name] = value.redistribute(parameter.device_mesh, parameter.placements)
            else:
                state_dict[prefix + name] = cut_as(value, parameter)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        """As of the undivided layer, and how it is divided."""
        first, *rest = super().extra_repr().split("\n")
        return "\n".join([f"{first}, style={self.style!r}, ranks={self.division.ranks}", *rest])


class Replicated(nn.Module):
    """Mixed into a module's class: each rank runs it on its share of the vectors, with the same parameters.

    Attributes:
        style: ``"replicated"``.
    """

    style: str
    _mesh: DeviceMesh

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As of the module; gradients of its parameters are summed over the ranks."""
        group = self._mesh.get_group()
        own = {name: entered(one, group) for name, one in self._parameters.items() if one is not None}
        self.__dict__.update(own)  # which hides the parameters
        try:
            return super().forward(*args, **kwargs)
        finally:
            for name in own:
                del self.__dict__[name]

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _blank, (type(self).__bases__[1],), self.__dict__


def entered(parameter: Any, group: Any) -> Tensor:
    """What a rank has of a parameter that is whole, whose gradients are summed over the ranks.

    Args:
        parameter: The parameter.
        group: The process group.

    Returns:
        A tensor of its shape.
    """
    own = parameter.to_local() if isinstance(parameter, DTensor) else parameter
    return move(own.reshape(-1, 1), Movement("enter"), group).reshape(own.shape)


def join(module: Any, style: str, division: Division, mesh: DeviceMesh) -> None:
    """Let a module, whose parameters are its share already, run as one of the ranks of a mesh.

    Args:
        module: A `Linear`, or for the style ``"replicated"`` any module.
        style: Its style.
        division: Its division.
        mesh: The mesh.
    """
    kind = type(module)
    if issubclass(kind, Linear):
        module.__class__ = DividedLinear
        module._take_dtypes()
        module._place_indices(next((one.device for one in module.parameters()), None))
    else:
        module.__class__ = _replicated(kind)
    module.style, module.division, module._mesh = style, division, mesh


@lru_cache
def _replicated(kind: type[nn.Module]) -> type[nn.Module]:
    """The class of modules of a kind that run alike on every rank."""
    return type(f"Replicated{kind.__name__}", (Replicated, kind), {})


def _blank(kind: type[nn.Module]) -> nn.Module:
    """A module that a copy or a file fills."""
    return _replicated(kind).__new__(_replicated(kind))
