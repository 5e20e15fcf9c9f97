"""`save` and `load` of PyTorch models: weights, and the structure of every structured layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from linops.nn.stored import COUNTER, Stored, described, require_same, write_model
from linops.nn.torch.dense import is_conv1d, require_module
from linops.nn.torch.layer import Linear
from linops.nn.torch.recipe import rebuild_, recipe_of
from linops.nn.torch.sharded import cut_as, gathered, is_cut, together
from linops.nn.torch.structured import Swapped
from linops.reading import Reader
from linops.safetensors import opened


def save(model: nn.Module, path: str | Path) -> None:
    """Write a model's state dict and the structure of its structured layers to a safetensors file.

    Tensors have the names of `torch.nn.Module.state_dict`, so any reader of safetensors finds them; those that share
    memory are written once. The file is written beside the old one of this name and put in its place when it is whole
    and on the disk. What `torch.compile` and `DistributedDataParallel` wrap is saved as it is without them.

    A model that is sharded (`torch.distributed.fsdp.fully_shard`, or DTensors in other ways) is saved by all ranks of
    its mesh together: each calls this, tensors are gathered one by one to the CPU of the first rank, which writes, and
    all return when the file is there. The file is that of the model on one process. For files that each rank writes its
    part of, see `torch.distributed.checkpoint`.

    Args:
        model: The model.
        path: The file; ``.safetensors`` is the usual suffix. One that linops did not write is not replaced.

    Raises:
        TypeError: If the state dict holds other than plain tensors, or a structure holds a callable.
        ValueError: If a tensor is on the meta device.
        FileExistsError: If the file is there and is none of linops.
        OSError: If it cannot be written.
        RuntimeError: On the other ranks of a sharded model, if the first raises.

    Example:
        >>> import linops as lo, os, tempfile, torch
        >>> def dense():
        ...     return torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.GELU(), torch.nn.Linear(64, 10))
        >>> model, x = dense(), torch.randn(2, 64)
        >>> report = lo.nn.replace_linear_(model, "btt", where="0")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     lo.nn.save(model, os.path.join(folder, "model.safetensors"))
        ...     other = lo.nn.load(dense(), os.path.join(folder, "model.safetensors"))
        >>> torch.equal(model(x), other(x))
        True
    """
    require_module("save", model, "flax.save", "equinox.save")
    model = unwrapped(model)
    state = model.state_dict()
    for name, tensor in state.items():
        if not is_cut(tensor) and type(tensor) not in (torch.Tensor, nn.Parameter):
            what = "it is quantised, say" if isinstance(tensor, torch.Tensor) else "it is no tensor"
            raise TypeError(f"state {name!r} is a {type(tensor).__name__}, which cannot be saved: {what}")
    if not any(map(is_cut, state.values())):
        write_model(path, recipe_of(model), state, {"format": "pt"})
        return
    state = model.state_dict(keep_vars=True)  # where what is tied is one object
    with together(f"lo.nn.save(…, {str(path)!r})", state):
        if whole := gathered(state):
            write_model(path, recipe_of(model), whole, {"format": "pt"})


def load(model: nn.Module, path: str | Path, *, device: Any = None) -> nn.Module:
    """Load a file of `save` into a model that is built as the saved one was before its layers were replaced.

    Its dense layers become the structured layers of the file, with their hooks, bias and training mode; then all
    tensors are loaded. A model that has these layers already is loaded as it is; it may be sharded
    (`torch.distributed.fsdp.fully_shard`), and then each rank reads its part. Where an error is raised, the model is as
    it was.

    Args:
        model: The model, changed in place; it may be on the meta device. Its dtypes must be those of the file.
        path: A file of `save`, or of ``linops compress``; it need not be trusted.
        device: Of what is on the meta device; None takes the CPU. All else stays where it is.

    Returns:
        The model.

    Raises:
        ValueError: If the file is damaged or holds no model, or if layers, names, shapes or dtypes differ.
        TypeError: If it is no model of PyTorch.
        OSError: If it cannot be read.
    """
    require_module("load", model, "flax.load", "equinox.load")
    inner, undo = unwrapped(model), []
    file = opened(path)
    try:
        stored = Stored(Reader(file, "torch"))
        _require_no_conv1d(inner, stored)
        stored.require_leaves()
        rebuild_(inner, stored.layers, stored.operator, undo)
        _require_known(inner, stored)
        own = inner.state_dict()
        state = {name: cut_as(stored.array(name), own[name]) if name in stored.tensors else own[name] for name in own}
    except BaseException as error:
        for step in reversed(undo):
            step()
        if isinstance(error, (ValueError, KeyError, AttributeError)):
            raise ValueError(f"{file.path}: {error}") from None
        raise
    _materialise(inner, torch.device("cpu" if device is None else device))
    inner.load_state_dict(state)
    for module in inner.modules():
        if isinstance(module, Swapped):
            module._blank = False
    return model


def unwrapped(model: Any) -> Any:
    """A model without what `torch.compile` and `DistributedDataParallel` put around it."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if isinstance(model, nn.parallel.DistributedDataParallel):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def _require_no_conv1d(model: nn.Module, stored: Stored) -> None:
    """Refuse what ``linops compress`` made of a Conv1D's weight, which it takes for (out, in)."""
    names = [name for name, module in model.named_modules() if name in stored.layers and is_conv1d(module)]
    if names and stored.is_compressed:
        raise ValueError(
            f"layer {names[0]!r} is a Conv1D, whose weight (in, out) linops compress took for (out, in): exclude it "
            "there, or use lo.nn.compress"
        )


def _require_known(model: nn.Module, stored: Stored) -> None:
    """Raise unless all that a model holds is in a file, and the other way round."""
    own: dict[str, Any] = model.state_dict(keep_vars=True)
    names: dict[int, str] = {id(tensor): name for name, tensor in own.items() if name in stored.tensors}
    for name, tensor in own.items():  # of tied tensors files of other makers hold one
        if name not in stored.tensors and id(tensor) in names:
            stored.alias(name, names[id(tensor)])
    own = {name: tensor for name, tensor in own.items() if name in stored.tensors or not name.endswith(COUNTER)}
    require_same({name: described(tensor) for name, tensor in own.items()}, stored.tensors)
    _require_tied(own, stored)
    indices = {
        f"{name}.{key}" if name else key
        for name, module in model.named_modules()
        if isinstance(module, Linear)
        for key in module._indices
    }
    left = [
        name for name, buffer in model.named_buffers() if buffer.is_meta and name not in own and name not in indices
    ]
    if left:
        raise ValueError(
            f"buffer {left[0]!r} is on the meta device, and in no state dict: build the model on a device that holds "
            "numbers"
        )


def _require_tied(own: dict[str, Any], stored: Stored) -> None:
    """Raise where one tensor of a model is two in a file, which hold other numbers."""
    first: dict[int, str] = {}
    for name, tensor in own.items():
        other = first.setdefault(id(tensor), name)
        if other != name and not stored.is_same(other, name):
            raise ValueError(f"{other!r} and {name!r} are one tensor in the model, and two in the file: untie them")


def _materialise(model: nn.Module, device: torch.device) -> None:
    """Memory for what a model's state has on the meta device; what is tied stays so."""
    new: dict[int, Any] = {}
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is None or not tensor.is_meta or name in module._non_persistent_buffers_set:
                    continue
                if id(tensor) not in new:
                    empty = torch.empty_like(tensor, device=device)
                    is_parameter = isinstance(tensor, nn.Parameter)
                    new[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if is_parameter else empty
                tensors[name] = new[id(tensor)]
