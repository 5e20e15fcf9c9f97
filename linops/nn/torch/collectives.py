"""Transfers between the ranks of a group, as `linops.plan.transfer` has them, with their gradients; and their count.

They are functional collectives of torch: what `torch.compile` captures, and what torch's own tools count.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import _resolve_process_group
from torch.utils._python_dispatch import TorchDispatchMode

from linops.plan.shares import Movement
from linops.plan.transfer import ALL_GATHER, ALL_REDUCE, ALL_TO_ALL, KINDS, REDUCE_SCATTER, SAME, SHARE, sent

#: torch's names of functional collectives
_COLLECTIVES = {
    "all_reduce": ALL_REDUCE,
    "all_gather_into_tensor": ALL_GATHER,
    "reduce_scatter_tensor": REDUCE_SCATTER,
    "all_to_all_single": ALL_TO_ALL,
}


def move(x: Tensor, movement: Movement, group: Any) -> Tensor:
    """What a rank has after a movement; its gradient goes the other way.

    Args:
        x: What it has, features first: (f, vectors).
        movement: The movement.
        group: The process group.

    Returns:
        (f', vectors).
    """
    kind = KINDS[movement.kind]
    return _Move.apply(x, kind.forward, kind.backward, movement.dims, group)


class _Move(torch.autograd.Function):
    """A movement whose gradient is another."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, forward: str, backward: str, dims: tuple[int, int, int], group: Any) -> Tensor:
        ctx.arguments = backward, forward, dims, group
        return _moved(x, forward, dims, group)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return _Move.apply(*gradients, *ctx.arguments), None, None, None, None


def _moved(x: Tensor, way: str, dims: tuple[int, int, int], group: Any) -> Tensor:
    ranks, left = dist.get_world_size(group), dims[0]
    rows, vectors = x.shape
    if way == SHARE:
        grid = x.reshape(left, ranks, rows // (left * ranks), vectors)
        return grid[:, dist.get_rank(group)].reshape(rows // ranks, vectors).contiguous()
    if way == SAME:
        return x.view_as(x)
    if not x.numel():
        return x.new_empty({ALL_GATHER: rows * ranks, REDUCE_SCATTER: rows // ranks}.get(way, rows), vectors)
    run, name, x = torch.ops._c10d_functional, group.group_name, x.contiguous()
    if way == ALL_GATHER:
        x = run.all_gather_into_tensor(x, ranks, name)
    elif way == ALL_TO_ALL:
        shares = [rows // ranks] * ranks
        parts = torch.view_as_real(x).flatten(1) if x.is_complex() else x  # gloo exchanges no complex numbers
        parts = run.wait_tensor(run.all_to_all_single(parts, shares, shares, name))
        return torch.view_as_complex(parts.unflatten(1, (vectors, 2))) if x.is_complex() else parts
    elif way == ALL_REDUCE:
        x = run.all_reduce(x, "sum", name)
    elif way == REDUCE_SCATTER:
        x = run.reduce_scatter_tensor(x, "sum", ranks, name)
    x = run.wait_tensor(x)
    if way == ALL_GATHER and left != 1:
        return x.reshape(ranks, left, rows // left, vectors).transpose(0, 1).reshape(ranks * rows, vectors)
    return x


class CommunicationMode(TorchDispatchMode):
    """Counts the bytes that this rank sends in functional collectives, as ring algorithms do, while it is entered.

    Attributes:
        counted: Bytes by collective.
        counts: How often each collective ran.

    Example:
        >>> with CommunicationMode() as mode:
        ...     _ = torch.ones(3) + 1
        >>> dict(mode.counted)
        {}
    """

    def __init__(self) -> None:
        super().__init__()
        self.counted: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """As of `TorchDispatchMode`."""
        name = _COLLECTIVES.get(func._schema.name.partition("::")[2].rstrip("_"))
        if func.namespace == "_c10d_functional" and name is not None:
            x: Tensor = args[0]
            size = dist.get_world_size(_resolve_process_group(args[-1]))
            whole = x.numel() * (size if name in (ALL_GATHER, ALL_TO_ALL) else 1)
            self.counted[name] += round(sent(name, size, whole) * x.element_size())
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))
