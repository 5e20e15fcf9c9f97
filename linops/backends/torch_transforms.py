"""Fast transforms in PyTorch, and what overflows in them."""

from __future__ import annotations

from cmath import isfinite
from typing import Any

import torch

from linops.backends import primitives as p
from linops.backends.torch_blocks import transforming
from linops.tuning import CORE_CACHE, TORCH_FFT_LENGTH


def plain(x: torch.Tensor) -> bool:
    """Whether a tensor holds values: not a meta, fake or functional tensor.

    Args:
        x: The tensor.

    Returns:
        True or False.
    """
    return type(x) in (torch.Tensor, torch.nn.Parameter) and not x.is_meta


def at_hand(x: torch.Tensor) -> bool:
    """Whether there are numbers to look at: nothing is being traced, compiled or transformed.

    Args:
        x: The tensor.

    Returns:
        True or False.
    """
    return plain(x) and not torch.compiler.is_compiling() and not transforming()


@p.fourier.dispatch
def _fourier(x: torch.Tensor, transform: str, length: int, axis: int, norm: Any):
    if 0 in x.shape:  # MKL refuses to transform no vectors: transform one of zeros, which is still a function of x
        y = getattr(torch.fft, transform)(x.sum().expand(x.shape[axis]), length, -1, norm)
        return y.expand(*x.shape[:-1], -1) if axis == -1 else y[:, None].expand(*x.shape[:-2], -1, x.shape[-1])
    return getattr(torch.fft, transform)(x, length, axis, norm)


@p.convolved.dispatch
def _convolved(x: torch.Tensor, kernel: torch.Tensor, length: int, axis: int, reverse: bool):
    # for a short vector everything but the transforms is most of the time
    if not x.is_cpu or not x.numel() or not at_hand(x) or not plain(kernel):
        return None
    spectrum = torch.fft.rfft(kernel, length)
    if reverse:
        spectrum = spectrum.conj()
    if axis == -2:
        spectrum = spectrum.unsqueeze(1)
    return torch.fft.irfft(torch.fft.rfft(x, length, axis) * spectrum, length, axis)


@p.columns_at_once.dispatch
def _columns_at_once(x: torch.Tensor, length: int):
    return None


@p.suits_rows.dispatch
def _suits_rows(x: torch.Tensor, length: int):
    # measured on CPUs, with both copies: MKL is 1.04 to 1.44 times faster
    if torch.compiler.is_compiling() or not x.is_cpu:
        return False
    return length >= TORCH_FFT_LENGTH and length * x.shape[-1] * x.dtype.itemsize >= CORE_CACHE


@p.multiply_quietly.dispatch
def _multiply_quietly(x: torch.Tensor, y: torch.Tensor):
    return x * y


@p.multiplies_integers.dispatch
def _multiplies_integers(x: torch.Tensor):
    return False  # its devices do not


@p.magnitude.dispatch
def _magnitude(x: torch.Tensor, axis: int):
    x = x.detach().resolve_conj()  # vmap takes no imaginary part of what is lazily conjugate
    largest = torch.maximum(x.real.abs(), x.imag.abs()) if x.is_complex() else x.abs()
    largest = largest.amax(axis, keepdim=True) if x.shape[axis] else largest.sum(axis, keepdim=True)
    least, most = (-126, 127) if largest.dtype is torch.float32 else (-1022, 1023)
    exponents = torch.log2(largest).floor()  # not by frexp, of which ONNX knows nothing
    exponents = exponents - (torch.exp2(exponents) > largest).to(largest.dtype)  # where log2 rounded up to the next
    return torch.where(largest > 0, torch.exp2(exponents.clamp(least, most)), 1)


@p.is_at_hand.dispatch
def _is_at_hand(x: torch.Tensor):
    return x.is_cpu and at_hand(x)


@p.all_finite.dispatch
def _all_finite(x: torch.Tensor):
    if not (x.is_cpu and at_hand(x)):
        return None
    # a sum is one kernel, and torch.isfinite five: 256×2048 numbers take it 60 times as long
    if x.requires_grad:
        x = x.detach()
    return isfinite(x.sum().item()) or bool(torch.isfinite(x).all())


@p.to_integers.dispatch
def _to_integers(x: torch.Tensor, dtype: Any):
    return x.round().to(torch.int64).to(dtype)
