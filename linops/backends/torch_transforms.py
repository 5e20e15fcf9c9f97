"""Fast transforms in PyTorch, and what overflows in them."""

from __future__ import annotations

from cmath import isfinite
from typing import Any

import torch
from torch.autograd.forward_ad import unpack_dual

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
def _convolved(x: torch.Tensor, leaves: tuple, kernel: Any, length: int, axis: int, reverse: bool, kept: dict):
    # for a short vector everything but the transforms is most of the time
    if not (x.is_cpu and x.numel() and at_hand(x)):
        return None
    dtype = x.dtype
    for leaf in leaves:
        if leaf.dtype is not dtype or not plain(leaf):
            return None
    spectrum = _spectrum(leaves, kernel, length, reverse, kept)
    if axis == -2:
        spectrum = spectrum.unsqueeze(1)
    y = torch.fft.irfft(torch.fft.rfft(x, length, axis) * spectrum, length, axis)
    if type(y) is not torch.Tensor:  # beside a mode
        return None
    z = y.detach() if y.requires_grad else y
    # a product of a vector with itself takes half the time of a sum, and in a product as this one a fifth
    is_finite = z.ndim == 1 and isfinite(z.dot(z).item())
    return y if is_finite or _is_finite(z) else None


def _spectrum(leaves: tuple, kernel: Any, length: int, reverse: bool, kept: dict) -> torch.Tensor:
    """The spectrum of a kernel, or its conjugate, which a reversed one has; see `convolved`."""
    if reverse not in kept:
        kept[reverse] = None  # of a product that stays the only one nothing is kept
    elif _are_constant(leaves):
        found = kept[reverse]
        if found is None or not all(map(torch.equal, leaves, found[0])):
            with torch.inference_mode(False), torch.no_grad():  # what is made in inference may not meet gradients later
                copies = tuple([leaf.clone() for leaf in leaves])
                found = kept[reverse] = copies, _transformed(kernel(), length, reverse).resolve_conj()
        return found[1]
    return _transformed(kernel(), length, reverse)


def _transformed(kernel: torch.Tensor, length: int, reverse: bool) -> torch.Tensor:
    """The spectrum of a kernel, or its conjugate."""
    spectrum = torch.fft.rfft(kernel, length)
    return spectrum.conj() if reverse else spectrum


def _are_constant(leaves: tuple) -> bool:
    """Whether leaves are no more than their numbers now: no gradient is wanted of them, and no mode looks on."""
    wanted = torch.is_grad_enabled()
    for leaf in leaves:
        if (wanted and leaf.requires_grad) or unpack_dual(leaf).tangent is not None:  # tangents know no `no_grad`
            return False
    return not (torch._C._len_torch_dispatch_stack() or torch._C._is_tracing())


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
    return _is_finite(x)


def _is_finite(x: torch.Tensor) -> bool:
    """Whether all numbers are finite: a sum is one kernel, and torch.isfinite five, 60 times as long for 256×2048."""
    if x.requires_grad:
        x = x.detach()
    return isfinite(x.sum().item()) or bool(torch.isfinite(x).all())


@p.to_integers.dispatch
def _to_integers(x: torch.Tensor, dtype: Any):
    return x.round().to(torch.int64).to(dtype)
