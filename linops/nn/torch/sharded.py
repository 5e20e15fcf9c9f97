"""Structured layers whose parameters are cut over ranks, as FSDP2 cuts them: along which axis, and whole again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from linops.nn.cutting import cut_axis


def shard_placement(parameter: torch.Tensor, ranks: int | None = None) -> Any:
    """The axis that FSDP2 is to cut: ``fully_shard(…, shard_placement_fn=lo.nn.torch.shard_placement)``.

    FSDP2 by itself cuts axis 0 into ceil(length / ranks) each, so ranks beyond the blocks of a structured factor hold
    nothing while others hold a block of many numbers. Here axis 0 is cut where that adds at most 1/32 of padding; else
    the first axis whose length the ranks divide (FSDP2 cuts no other evenly), so that each rank holds the same; else
    axis 0 after all.

    Args:
        parameter: The parameter; of one that is cut already (tensor parallelism), the local part counts.
        ranks: Over how many it is cut; None takes all processes, which is right for a mesh of one axis and never
            wrong. With a mesh of more, give ``functools.partial(shard_placement, ranks=mesh["shard"].size())``.

    Returns:
        `torch.distributed.tensor.Shard` of the axis; None for a scalar, which FSDP2 refuses.

    Example:
        >>> import linops as lo, torch
        >>> layer = lo.monarch(1024, 1024, blocks=4).to_layer()
        >>> {name: lo.nn.torch.shard_placement(one, 8).dim for name, one in layer.named_parameters()}
        {'factors_1_blocks': 1, 'factors_3_blocks': 1, 'bias': 0}
    """
    from torch.distributed.tensor import Shard

    ranks = torch.distributed.get_world_size() if ranks is None else ranks
    shape = local(parameter).shape
    return Shard(cut_axis(tuple(shape), ranks)) if shape else None


def is_cut(tensor: Any) -> bool:
    """Whether a tensor is a `torch.distributed.tensor.DTensor`, which lies on several ranks."""
    return hasattr(tensor, "device_mesh")


def own(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """An output that is no view, as `torch.nn.Linear` has: FSDP2 loses its hooks where a view is written to in place.

    Args:
        y: The output, which nobody else has, or a view of the input, which stays one.
        x: The input.

    Returns:
        The same numbers in the same memory.
    """
    base = None if not y.requires_grad or torch.compiler.is_compiling() else y._base
    return y if base is None or base is x or base is x._base else torch.ops.aten._unsafe_view(y, y.shape)


def require_whole(what: str, layer: Any) -> None:
    """Raise if parameters of a layer are cut.

    Args:
        what: What is to be done with it.
        layer: The layer.

    Raises:
        ValueError: If one is a DTensor.
    """
    names = [name for name, parameter in layer.named_parameters() if is_cut(parameter)]
    if names:
        raise ValueError(
            f"{what}: its {names[0]!r} is sharded; do it before, or to a model that is not, into which lo.nn.load "
            "reads what lo.nn.save wrote of the sharded one"
        )


def local(tensor: Any) -> torch.Tensor:
    """What this rank holds of a tensor."""
    return tensor.to_local() if is_cut(tensor) else tensor


def on_whole(function: Callable[[Any], Any], tensor: Any, axes: tuple[int, ...]) -> Any:
    """A function of a tensor, which acts on some axes and on each index of the others alone.

    Args:
        function: It keeps the shape.
        tensor: A tensor; where a DTensor is cut along one of these axes, it is gathered, and the result cut again.
        axes: The axes, negative.

    Returns:
        The result, a DTensor of the same placement if the tensor is one.
    """
    if not is_cut(tensor):
        return function(tensor)
    from torch.distributed.tensor import DTensor, Replicate, Shard

    plain = all(isinstance(one, (Shard, Replicate)) for one in tensor.placements)  # else two meshes' axes cut one axis
    kept = [
        one if plain and isinstance(one, Shard) and one.dim - tensor.ndim not in axes else Replicate()
        for one in tensor.placements
    ]
    there = tensor.redistribute(placements=kept)
    result = DTensor.from_local(
        function(there.to_local()), there.device_mesh, kept, run_check=False, shape=tensor.shape, stride=tensor.stride()
    )
    return result.redistribute(placements=tensor.placements)


def cut_as(whole: torch.Tensor, like: Any) -> Any:
    """This rank's part of a tensor that all ranks have, without communication.

    Args:
        whole: The tensor.
        like: A tensor of its shape; if it is no DTensor, the result is the whole.

    Returns:
        A tensor of the kind, the device and the placement of `like`.
    """
    if not is_cut(like):
        return whole
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(whole.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def normal_(parameter: torch.Tensor, std: float) -> None:
    """Fill a parameter with normal random numbers; all ranks that hold one draw all of it, so seeds must be the same.

    Args:
        parameter: The parameter.
        std: Their standard deviation.
    """
    if is_cut(parameter):
        whole = torch.empty(parameter.shape, dtype=parameter.dtype, device=parameter.device)
        parameter.copy_(cut_as(whole.normal_(std=std), parameter))
    else:
        parameter.normal_(std=std)


def gathered(state: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors of a state on the first rank, where those that are cut are gathered one by one to its CPU.

    Args:
        state: Tensors by name; one that has two names is gathered once.

    Returns:
        On the first rank of the widest mesh all of them, none of them cut; nothing on the others.
    """
    first = is_first(state)
    seen: dict[int, torch.Tensor] = {}
    for tensor in state.values():
        if is_cut(tensor) and id(tensor) not in seen:
            there = tensor.detach().to(tensor.device_mesh.device_type)  # of parameters that are offloaded
            full = there.full_tensor()
            seen[id(tensor)] = full.cpu() if first else full[:0] if full.ndim else full
    return {name: seen.get(id(tensor), tensor.detach()) for name, tensor in state.items()} if first else {}


def is_first(state: Mapping[str, Any]) -> bool:
    """Whether this is the first rank of the widest mesh of a state."""
    return torch.distributed.get_rank() == int(_widest(state).mesh.min())


@contextmanager
def together(what: str, state: Mapping[str, Any]) -> Iterator[None]:
    """Wait for all ranks of a state's widest mesh; where one raises, all do.

    Args:
        what: What they do.
        state: Tensors by name.

    Yields:
        Nothing.

    Raises:
        RuntimeError: If another rank has raised.
    """
    mesh, error = _widest(state), None
    try:
        yield
    except Exception as one:
        error = one
    failed = torch.tensor(int(error is not None), device=mesh.device_type)
    for axis in range(mesh.ndim):
        torch.distributed.all_reduce(failed, torch.distributed.ReduceOp.MAX, mesh.get_group(axis))
    if error is not None:
        raise error
    if failed:
        raise RuntimeError(f"{what}: another rank could not; its error says why")


def _widest(state: Mapping[str, Any]) -> Any:
    return max((tensor.device_mesh for tensor in state.values() if is_cut(tensor)), key=lambda mesh: mesh.size())
