"""`parallelize_`: structured layers divided among the ranks of a mesh, as their structure asks for."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from linops.families.blocks import dense
from linops.nn.communication import ends
from linops.nn.divided import Divided, Row
from linops.nn.obstacles import brief
from linops.nn.torch.dense import require_module
from linops.nn.torch.divided import DividedLinear
from linops.nn.torch.layer import Linear
from linops.nn.torch.styles import styles_of
from linops.sharding import SHARDED, Division, division


def parallelize_(model: nn.Module, mesh: DeviceMesh, axis: str | None = None, *, style: Any = None) -> Divided:
    """Divide the layers of a model among the ranks of a mesh, in place: tensor parallelism derived from the structure.

    What each rank holds, runs and sends follows from a layer's operator (`linops.plan.division`): block-diagonal layers
    are split over their blocks and send nothing; BTT and Monarch over the blocks of each core, with one all-to-all in
    between; low rank sends r numbers a vector; dense layers are those of Megatron-LM. Small factors, as of Kronecker
    products and tensor trains, stay whole on every rank.

    A style says what each rank has of the vectors that go in and come out:

    * ``"whole"``: all features of both. Right anywhere in a model.
    * ``"colwise"``: all go in, and its share of the features comes out, as of `ColwiseParallel`: rank k has features k
      m / p … (k + 1) m / p.
    * ``"rowwise"``: its share goes in, and all come out, as of `RowwiseParallel`.
    * ``"sharded"``: its share goes in, and its share comes out.

    Without a style, layers stay divided between them where that is known to be right: in a `torch.nn.Sequential` where
    only elementwise functions lie between them, and where a model of Hugging Face has a plan (``_tp_plan``). Others are
    whole. `torch.nn.Linear` is divided, by torch's own styles, where a style other than whole is meant for it.

    Parameters become `DTensor`s, with the numbers of rank 0. Divide before FSDP2 (over another axis of the mesh), and
    before the optimiser is made.

    Args:
        model: The model; each rank has all of it.
        mesh: Of one axis, or with `axis`.
        axis: The name of the axis of the mesh over which layers are divided.
        style: The style of all structured layers; or a dict of patterns over names to styles, of which the first match
            wins (others are whole).

    Returns:
        The divided layers with what each sends; it prints as a table.

    Raises:
        TypeError: If the model is no `torch.nn.Module`, or the mesh no `DeviceMesh`.
        ValueError: If there is no such style, a layer's features cannot be shared equally, or it is divided or sharded
            already.

    Warns:
        UserWarning: If structured layers stay whole on every rank, or a pattern matches no layer.

    Example:
        >>> import linops as lo, torch
        >>> from torch.distributed.device_mesh import init_device_mesh
        >>> model = torch.nn.Sequential(lo.btt(64, 64).to_layer(), torch.nn.ReLU(), lo.btt(64, 64).to_layer())
        >>> torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
        >>> [row.style for row in lo.nn.parallelize_(model, init_device_mesh("cpu", (1,)))]
        ['colwise', 'rowwise']
        >>> torch.distributed.destroy_process_group()
    """
    require_module("parallelize_", model)
    mesh = _one_axis(mesh, axis)
    layers = list(_layers(model))
    styles = styles_of(model, [name for name, _ in layers], style)
    made = []
    for name, layer in layers:
        own = styles.get(name, "whole")
        if isinstance(layer, Linear) or own != "whole":
            made.append((name, layer, own, _found(name, layer, own, mesh.size())))
    new: dict[int, nn.Parameter] = {}
    rows = [_divide(name, layer, own, found, mesh, new) for name, layer, own, found in made]
    left = [row.name for row in rows if not row.division.is_split and isinstance(model.get_submodule(row.name), Linear)]
    if left and mesh.size() > 1:
        warnings.warn(
            f"parallelize_: {brief(left, 4)} stay whole on each of {mesh.size()} ranks: their leaves are small, or "
            "have no axis that divides among them",
            stacklevel=2,
        )
    return Divided(tuple(rows), mesh.size())


def _one_axis(mesh: Any, axis: str | None) -> DeviceMesh:
    """The mesh of the axis over which layers are divided."""
    if not isinstance(mesh, DeviceMesh):
        raise TypeError(f"parallelize_: expected a torch DeviceMesh, got {type(mesh).__name__}; see init_device_mesh")
    names = mesh.mesh_dim_names or ()
    if axis is not None:
        if axis not in names:
            raise ValueError(f"parallelize_(axis={axis!r}): the mesh has the axes {names}")
        return mesh[axis]
    if mesh.ndim != 1:
        raise ValueError(f"parallelize_: the mesh has the axes {names}; name one of them, as axis={names[-1:]!r}")
    return mesh


def _layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The layers that can be divided, with their names."""
    for name, module in model.named_modules():
        if isinstance(module, Linear) or type(module) is nn.Linear:
            yield name, module


def _found(name: str, layer: Any, style: str, ranks: int) -> Division:
    """The division of a layer, all checked before any is changed."""
    if isinstance(layer, DividedLinear) or any(isinstance(one, DTensor) for one in layer.parameters(recurse=False)):
        raise ValueError(f"parallelize_: layer {name!r} is divided or sharded already; divide a model once, and first")
    operator = layer.structure.operator if isinstance(layer, Linear) else dense(layer.out_features, layer.in_features)
    try:
        return division(operator, ranks, *ends(style))
    except ValueError as error:
        raise ValueError(f"parallelize_: layer {name!r}, style {style!r}: {error}") from None


def _divide(name: str, layer: Any, style: str, found: Division, mesh: DeviceMesh, new: dict[int, nn.Parameter]) -> Row:
    """Divide one layer."""
    itemsize = next((one.element_size() for one in layer.parameters(recurse=False)), 4)
    row = Row(name, type(layer).__name__, style, dict(found.axes), found, itemsize)
    if not isinstance(layer, Linear):
        inputs = {"input_layouts": Shard(-1)} if style == "sharded" else {}
        parallelize_module(layer, mesh, RowwiseParallel() if style == "rowwise" else ColwiseParallel(**inputs))
        return row
    if style == "whole" and not found.is_split:
        return row
    for key, parameter in list(layer._parameters.items()):
        if parameter is None:
            continue
        split = found.axes.get(key) if key in found.axes else 0 if key == "bias" and found.out == SHARDED else None
        placement = Replicate() if split is None else Shard(split)
        if id(parameter) not in new:
            value = distribute_tensor(parameter.detach(), mesh, [placement])
            new[id(parameter)] = nn.Parameter(value, requires_grad=parameter.requires_grad)
        layer._parameters[key] = new[id(parameter)]
    divided: Any = layer
    divided.__class__ = DividedLinear
    divided._join(style, found, mesh)
    return row
