"""Several processes under `torchrun`, each with its share of every batch; without it, all of this does nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous


def is_first() -> bool:
    """Whether this is the process that prints and writes."""
    return int(os.environ.get("RANK", "0")) == 0


@contextmanager
def session(device: str = "auto") -> Iterator[torch.device]:
    """Joins the processes of `torchrun`, if it started this one, for the time of the context.

    Args:
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, or any device's name.

    Yields:
        The device of this process.

    Raises:
        ValueError: If torch knows no such device, or this machine has none.
    """
    kind = device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    require_device(kind)
    if "WORLD_SIZE" not in os.environ:
        yield torch.device(kind)
        return
    local = torch.device(kind, int(os.environ["LOCAL_RANK"])) if kind == "cuda" else torch.device(kind)
    if local.type == "cuda":
        torch.cuda.set_device(local)
    # torchrun starts processes anew over one store, in which addresses of those that were killed still stand
    store, rank, size = next(iter(rendezvous("env://")))
    store = PrefixStore(f"attempt_{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    dist.init_process_group("nccl" if local.type == "cuda" else "gloo", store=store, rank=rank, world_size=size)
    try:
        yield local
    finally:
        dist.destroy_process_group()


def require_device(name: str) -> None:
    """Sees that a device is there and computes.

    Args:
        name: Its name.

    Raises:
        ValueError: If not.

    Example:
        >>> require_device("tpu")
        Traceback (most recent call last):
        ValueError: device 'tpu': torch knows no such device; expected auto, cpu, cuda …
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device {name!r}: torch knows no such device; expected auto, cpu, cuda …") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {name!r}: torch sees {torch.cuda.device_count()} CUDA devices")
    try:
        torch.ones(1, device=device).sum().item()
    except (RuntimeError, AssertionError, NotImplementedError, ImportError, TypeError):
        raise ValueError(f"device {name!r}: torch cannot compute on it here") from None


def parallel(model: nn.Module) -> nn.Module:
    """The model, with gradients averaged over the processes if there are several."""
    return nn.parallel.DistributedDataParallel(model) if dist.is_initialized() else model


def share(batch: Any) -> Any:
    """This process's share of a batch: every tensor in it is cut along its first axis.

    Raises:
        ValueError: If the processes cannot have equally many examples.
    """
    if not dist.is_initialized():
        return batch
    rank, world = dist.get_rank(), dist.get_world_size()

    def cut(tensor: torch.Tensor) -> torch.Tensor:
        if len(tensor) % world:
            raise ValueError(f"a batch of {len(tensor)} examples cannot be shared equally by {world} processes")
        return tensor.chunk(world)[rank]

    return tuple(map(cut, batch))


def mean(loss: torch.Tensor) -> torch.Tensor:
    """The mean of a scalar over the processes."""
    if dist.is_initialized():
        dist.all_reduce(loss)
        loss /= dist.get_world_size()
    return loss
