"""PyTorch's products of blocks: on a CPU a kernel for each size (`linops.tuning`), elsewhere `torch.bmm`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.autograd.forward_ad import unpack_dual

from linops.backends import primitives as p
from linops.kernels import cuda
from linops.kernels.choice import mode
from linops.tuning import TORCH_LOOPED, TORCH_PART, TORCH_SMALL, TORCH_SPLIT, TORCH_TINY

#: whether torch.func transforms what runs now (vmap, grad, jvp …); as autograd.Function asks itself
transforming: Callable[[], bool] = getattr(torch._C, "_are_functorch_transforms_active", lambda: True)


@p.block_matmul.dispatch
def _block_matmul(a: torch.Tensor, x: torch.Tensor):
    if x.shape[2] == 1:
        return p.block_matvec(a, x).reshape(a.shape[0], a.shape[1], 1)
    return torch.bmm(a, x)


@p.crossed_matmul.dispatch
def _crossed_matmul(first: torch.Tensor, second: torch.Tensor, x: torch.Tensor, swapped: bool = False):
    if mode() != "off" and _may_be_compiled(first, second, x):
        from linops.kernels import crossed  # an extra, whose operators take a while to declare

        if crossed.wants(first, second, x, swapped, _crossed_plain):
            return torch.ops.linops.crossed(first, second, x, swapped)
    y = _crossed(first, second, x)
    return y.transpose(0, 1) if swapped else y


def _crossed_plain(first: torch.Tensor, second: torch.Tensor, x: torch.Tensor, swapped: bool) -> torch.Tensor:
    """`crossed_matmul` without the compiled kernel."""
    y = _crossed(first, second, x)
    return y.transpose(0, 1) if swapped else y


def _crossed(first: torch.Tensor, second: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    (blocks, rows, _), (m, out, middle), batch = first.shape, second.shape, x.shape[2]
    if batch == 1:
        between = p.block_matvec(first, x).reshape(middle, m, 1).transpose(0, 1)
        return p.block_matvec(second, between).reshape(m, out, 1)
    if (
        not torch.compiler.is_compiling()
        and blocks * rows * batch >= TORCH_SPLIT
        and all(map(_is_mere_value, (first, second, x)))
    ):
        return _crossed_in_parts(first, second, x, -(-blocks * rows * batch // TORCH_PART))
    if x.is_cuda and not torch.compiler.is_compiling() and all(_is_plain(each, "cuda") for each in (first, second, x)):
        return cuda.crossed(first, second, x, _crossed_whole)
    between = torch.bmm(first, x)  # as `_crossed_whole`, of which the call is a share of a small product's time
    if middle != blocks:
        between = between.reshape(middle, m, batch)
    return torch.bmm(second, between.transpose(0, 1))


def _crossed_whole(first: torch.Tensor, second: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """`crossed_matmul` as two products of torch."""
    m, middle, batch = second.shape[0], second.shape[2], x.shape[2]
    between = torch.bmm(first, x)
    if middle != first.shape[0]:
        between = between.reshape(middle, m, batch)
    return torch.bmm(second, between.transpose(0, 1))


def _crossed_in_parts(first: torch.Tensor, second: torch.Tensor, x: torch.Tensor, parts: int) -> torch.Tensor:
    """`crossed_matmul`, so many of the second's blocks at a time, whose operands then reuse the same memory."""
    (blocks, _, columns), (m, rows, middle), batch = first.shape, second.shape, x.shape[2]
    first, y, step = first.reshape(blocks, -1, m, columns), x.new_empty(m, rows, batch), -(-m // parts)
    for start in range(0, m, step):
        part = first[:, :, start : start + step]
        between = torch.bmm(part.reshape(blocks, -1, columns), x).view(middle, part.shape[2], batch)
        torch.bmm(second[start : start + step], between.swapaxes(0, 1), out=y[start : start + step])
        del between  # before the next is made
    return y


def _may_be_compiled(first: torch.Tensor, second: torch.Tensor, x: torch.Tensor) -> bool:
    """Whether a product may be an operator of linops' own: what is exported must run without linops."""
    if torch.compiler.is_compiling() and (mode() != "compiled" or torch.compiler.is_exporting()):
        return False
    return all(each.is_cpu and _is_plain(each, "cpu") for each in (first, second, x))


def _is_mere_value(x: torch.Tensor) -> bool:
    """Whether a CPU tensor is plain numbers to products now: neither differentiated in either mode nor transformed."""
    return x.is_cpu and not (x.requires_grad and torch.is_grad_enabled()) and _is_plain(x, "cpu")


def _is_plain(x: torch.Tensor, device: str) -> bool:
    """Whether products of a tensor run as written: it is of no subclass, transformed, cast, or in forward mode."""
    return (
        type(x) in (torch.Tensor, torch.nn.Parameter)
        and not transforming()
        and not torch.is_autocast_enabled(device)
        and (torch.compiler.is_compiling() or unpack_dual(x).tangent is None)
    )


@p.block_matvec.dispatch
def _block_matvec(a: torch.Tensor, x: torch.Tensor):
    blocks, rows, columns = a.shape
    macs = blocks * rows * columns
    if macs > TORCH_TINY and blocks > 1 and x.is_cpu:
        if rows * columns < TORCH_LOOPED:  # plain loops are twice as fast on numbers side by side
            return torch.bmm(a, x.contiguous().reshape(blocks, columns, 1))
        if macs > TORCH_SMALL or x.is_contiguous():  # as is MKL, and on rows
            return torch.bmm(x.contiguous().reshape(blocks, 1, columns), a.mT)
        if x.ndim != 3 or x.stride(2) != 1:  # as an axis of one may have; bmm takes 5 times as long then
            x = x.reshape(blocks, columns).unsqueeze(2)
    return torch.bmm(a, x if x.ndim == 3 else x.reshape(blocks, columns, 1))


@p.grid_matmul.dispatch
def _grid_matmul(a: torch.Tensor, x: torch.Tensor):
    return p.block_matmul(a, x.reshape(a.shape[0], a.shape[2], x.shape[-1]))


@p.shared_matmul.dispatch
def _shared_matmul(a: torch.Tensor, x: torch.Tensor):
    stack, columns, batch = x.shape
    if batch == 1 and stack * columns * a.shape[0] >= TORCH_TINY and x.is_cpu:
        return torch.mm(x.reshape(stack, columns), a.mT).reshape(stack, a.shape[0], 1)
    return torch.bmm(a.expand(stack, -1, -1), x)
