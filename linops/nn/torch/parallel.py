"""`parallelize_`: structured layers divided among the ranks of a mesh, as their structure asks for."""

from __future__ import annotations

import warnings
from typing import Any

import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

from linops.families.blocks import dense
from linops.nn.divided import Divided, Row
from linops.nn.obstacles import brief
from linops.nn.sending import ends, size_of
from linops.nn.torch.dense import require_module
from linops.nn.torch.divided import DividedLinear, Replicated, join
from linops.nn.torch.layer import Linear
from linops.nn.torch.nonlinear import Nonlinear
from linops.nn.torch.parts import Parts
from linops.nn.torch.styles import REPLICATED, styles_of
from linops.nn.torch.wrong_rates import replaced
from linops.sharding import SHARDED, alike, division


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
    * ``"replicated"``, of a module that is no linear layer: each rank runs it on its share with the same parameters, as
      a norm over each head; their gradients are summed over the ranks.

    Without a style, layers stay divided between them where that is known to be right: in a `torch.nn.Sequential` that
    is called as a whole, where only elementwise functions lie between them, and where a model of Hugging Face has a
    plan (``_tp_plan``). Others are whole. `torch.nn.Linear` is divided, by torch's own styles, where a style other than
    whole is meant for it.

    Parameters become `DTensor`s, with the numbers of rank 0, which all ranks get of everything else too. Divide before
    FSDP2 (over another axis of the mesh), and before the optimiser is made.

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
        ValueError: If there is no such style, a layer's features cannot be shared equally, it is divided or sharded
            already, shares parameters with a layer that is divided otherwise, is of a class derived from
            `lo.nn.torch.Linear`, or the model is inside `DistributedDataParallel`.

    Warns:
        UserWarning: If structured layers stay whole on every rank, nothing is divided, or a pattern matches no layer.

    Example:
        >>> import linops as lo, torch
        >>> from torch.distributed.device_mesh import init_device_mesh
        >>> model = torch.nn.Sequential(lo.btt(64, 64).to_layer(), torch.nn.ReLU(), lo.btt(64, 64).to_layer())
        >>> torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
        >>> [row.style for row in lo.nn.parallelize_(model, init_device_mesh("cpu", (1,)))]
        ['colwise', 'rowwise']
        >>> torch.distributed.destroy_process_group()
    """
    require_module("parallelize_", model, "shardings", "shardings")
    mesh = _one_axis(mesh, axis)
    for name, module in model.named_modules():
        if isinstance(module, DistributedDataParallel):
            raise ValueError(
                f"parallelize_: {name or 'the model'!r} is a DistributedDataParallel, which would not synchronise new "
                "parameters; divide the model first, then use fully_shard over another axis of the mesh"
            )
    found = divisions(model, mesh.size(), style)
    _check(model, found)
    new: dict[int, nn.Parameter] = {}
    for row in found:
        _divide(model.get_submodule(row.name), row, mesh, new)
    _share_the_rest(model, mesh)
    if not found:
        warnings.warn(
            "parallelize_: the model has no structured layers, and no style says what to divide: replace layers "
            "before, or give style={pattern: style}",
            stacklevel=2,
        )
    left = [row.name for row in found if row.style != REPLICATED and not row.division.is_split]
    left += [name for name, module in model.named_modules() if isinstance(module, Nonlinear)]
    if left and mesh.size() > 1:
        warnings.warn(
            f"parallelize_: {brief(left, 4)} stay whole on each of {mesh.size()} ranks: their leaves are small, or "
            "have no axis that divides among them, or they are no linear maps",
            stacklevel=2,
        )
    return found


def divisions(model: nn.Module, ranks: int, style: Any = None) -> Divided:
    """How `parallelize_` would divide a model's layers.

    Args:
        model: The model; it is not changed.
        ranks: Among how many ranks.
        style: As for `parallelize_`.

    Returns:
        The layers.

    Raises:
        TypeError: As `parallelize_` does.
        ValueError: As `parallelize_` does.
    """
    require_module("divisions", model, "shardings", "shardings")
    ranks = size_of(ranks)
    styles = styles_of(model, style, ranks)
    rows = []
    for name, module in model.named_modules():
        own = styles.get(name, "whole")
        if isinstance(module, (DividedLinear, Replicated)):
            own = module.style
        own = module.__dict__.get("_divided_style", own)  # of a dense layer
        if isinstance(module, Linear) or own != "whole":
            _check_parts(model, name, own)
            rows.append(_row(name, module, own, ranks))
    return Divided(tuple(rows), ranks)


def _row(name: str, module: Any, style: str, ranks: int) -> Row:
    """How one module is divided."""
    own = list(module.parameters(recurse=False))
    itemsize = own[0].element_size() if own else 4
    if style == REPLICATED:
        return Row(name, style, alike(ranks, [parameter.numel() for parameter in own]), itemsize)
    operator = module.structure.operator if isinstance(module, Linear) else dense(*module.weight.shape)
    try:
        return Row(name, style, division(operator, ranks, *ends(style)), itemsize)
    except ValueError as error:
        raise ValueError(f"layer {name!r}, style {style!r}: {error}") from None


def _check(model: nn.Module, found: Divided) -> None:
    """See that all layers can be divided, before any is."""
    rows = {row.name: row for row in found}
    held: dict[int, tuple[str, Any]] = {}
    for name, module in model.named_modules():
        for key, parameter in module.named_parameters(recurse=False):
            row = rows.get(name)
            if row and isinstance(parameter, DTensor):
                what = f"layer {name!r} is divided or sharded already"
                raise ValueError(f"parallelize_: {what}; divide it once, and before FSDP")
            if row and isinstance(module, Linear) and type(module) is not Linear:
                raise ValueError(
                    f"parallelize_: layer {name!r} is a {type(module).__name__}, whose forward may differ from that of "
                    "lo.nn.torch.Linear; leave it out by style="
                )
            way: Any = (row.style == REPLICATED or row.division.is_split, _axis(row, key)) if row else (False, None)
            if row and type(module) is nn.Linear:
                way = name  # torch's styles make parameters of their own
            other, before = held.setdefault(id(parameter), (name, way))
            if way != before:
                raise ValueError(
                    f"parallelize_: {other!r} and {name!r} share the parameter {key!r}, and their styles divide it in "
                    "two ways; give them one style"
                )


def _axis(row: Row, key: str) -> int | None:
    """Over which axis a parameter of a layer is split, or None."""
    if key == "bias" and key not in row.division.axes and row.style != REPLICATED:
        return 0 if row.division.out == SHARDED else None
    return row.division.axes.get(key)


def _one_axis(mesh: Any, axis: str | None) -> DeviceMesh:
    """The mesh of the axis over which layers are divided."""
    if not isinstance(mesh, DeviceMesh):
        raise TypeError(f"parallelize_: expected a torch DeviceMesh, got {type(mesh).__name__}; see init_device_mesh")
    names: tuple[str, ...] = mesh.mesh_dim_names or ()
    if axis is not None:
        if axis not in names:
            raise ValueError(f"parallelize_(axis={axis!r}): the mesh has the axes {names}")
        return mesh[axis]
    if mesh.ndim != 1:
        raise ValueError(f"parallelize_: the mesh has the axes {names}; name the one to divide over by axis=")
    return mesh


def _check_parts(model: nn.Module, name: str, style: str) -> None:
    """See that the parts of a fused projection give whole features, for they are joined."""
    parent = model.get_submodule(name.rpartition(".")[0]) if name else model
    if isinstance(parent, Parts) and ends(style)[1] == SHARDED:
        raise ValueError(
            f"parallelize_: layer {name!r}, style {style!r}: it is one of the parts of a fused projection, whose "
            "outputs are joined; expected 'whole' or 'rowwise'"
        )


def _share_the_rest(model: nn.Module, mesh: DeviceMesh) -> None:
    """Give all ranks what the first has of parameters and buffers that stay whole."""
    group = mesh.get_group()
    for tensor in [*model.parameters(), *model.buffers()]:
        if not isinstance(tensor, DTensor) and not tensor.is_meta and mesh.size() > 1:
            dist.broadcast(tensor.detach(), dist.get_global_rank(group, 0), group)


def _theirs(row: Row) -> ColwiseParallel | RowwiseParallel:
    """Torch's style for a dense layer."""
    if row.style == "sharded" and row.division.axes["matrix"] == 1:
        return RowwiseParallel(output_layouts=Shard(-1))
    if row.style == "sharded":
        return ColwiseParallel(input_layouts=Shard(-1))
    return RowwiseParallel() if row.style == "rowwise" else ColwiseParallel()


def _divide(layer: Any, row: Row, mesh: DeviceMesh, new: dict[int, nn.Parameter]) -> None:
    """Divide one layer."""
    if type(layer) is nn.Linear:
        for parameter in layer.parameters():
            replaced(parameter, "parallelize_")
        parallelize_module(layer, mesh, _theirs(row))
        layer.__dict__["_divided_style"] = row.style
        return
    if row.style == "whole" and not row.division.is_split:
        return
    for key, parameter in list(layer.named_parameters(recurse=False)):
        axis = _axis(row, key)
        if id(parameter) not in new:
            value = distribute_tensor(parameter.detach(), mesh, [Replicate() if axis is None else Shard(axis)])
            new[id(parameter)] = nn.Parameter(value, requires_grad=parameter.requires_grad)
            replaced(parameter, "parallelize_")
        layer._parameters[key] = new[id(parameter)]
    join(layer, row.style, row.division, mesh)
