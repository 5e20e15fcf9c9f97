"""PyTorch: spectra whose derivatives are finite where eigenvalues or singular values coincide.

`torch.linalg` divides by differences of eigenvalues. Here a difference that rounding makes counts as none: what turns
vectors of one eigenvalue into each other changes no function of the matrix that has a derivative.
"""

from __future__ import annotations

from typing import Any

import torch

from linops.backends import factorizations as p
from linops.backends.coinciding import rounding_of_values
from linops.backends.numpy_linalg import are_few


def _rounding(one: torch.Tensor) -> torch.Tensor:
    """The largest difference of two values that are one."""
    return rounding_of_values(one.shape[-1], torch.finfo(one.dtype).eps) * one.detach().abs().amax(-1, keepdim=True)


def _inverse_gaps(one: torch.Tensor) -> torch.Tensor:
    """1 / (x_j − x_i), and 0 where that is a difference by rounding alone."""
    gaps = one[..., None, :] - one[..., :, None]
    apart = gaps.detach().abs() > _rounding(one)[..., None]
    return torch.where(apart, 1 / torch.where(apart, gaps, 1), 0)


def _inverse(one: torch.Tensor) -> torch.Tensor:
    """1 / x, and 0 where x is zero but for rounding."""
    away = one.detach().abs() > _rounding(one)
    return torch.where(away, 1 / torch.where(away, one, 1), 0)


class _Eigh(torch.autograd.Function):
    """A = V diag(w) Vᴴ of a Hermitian matrix."""

    generate_vmap_rule = True

    @staticmethod
    def forward(a: Any) -> Any:
        return tuple(torch.linalg.eigh(a))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*output)
        ctx.save_for_forward(*output)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (w, V), (gw, gV) = ctx.saved_tensors, gradients
        inner = torch.diag_embed(gw).to(V.dtype) + _inverse_gaps(w) * (V.mH @ gV)
        inner = V @ inner @ V.mH
        return (inner + inner.mH) / 2

    @staticmethod
    def jvp(ctx: Any, tangent: Any) -> Any:
        w, V = ctx.saved_tensors
        inner = V.mH @ ((tangent + tangent.mH) / 2) @ V
        return inner.diagonal(dim1=-2, dim2=-1).real.clone(), V @ (_inverse_gaps(w) * inner)


class _SVD(torch.autograd.Function):
    """A = U diag(s) Vᴴ, thin."""

    generate_vmap_rule = True

    @staticmethod
    def forward(a: Any) -> Any:
        return tuple(torch.linalg.svd(a, full_matrices=False))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*output)
        ctx.save_for_forward(*output)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (U, s, Vh), (gU, gs, gVh) = ctx.saved_tensors, gradients
        V, gV = Vh.mH, gVh.mH
        gaps, over = _inverse_gaps(s * s), _inverse(s)
        left, right = U.mH @ gU, V.mH @ gV
        inner = (left - left.mH) * gaps * s[..., None, :] + s[..., :, None] * (right - right.mH) * gaps
        inner = inner + torch.diag_embed(gs).to(U.dtype)
        if U.is_complex():
            inner = inner + torch.diag_embed(1j * left.diagonal(dim1=-2, dim2=-1).imag * over)
        gradient = U @ inner @ Vh
        outside = (gU - U @ left) * over[..., None, :]
        across = over[..., :, None] * (gV - V @ right).mH
        return gradient + outside @ Vh + U @ across

    @staticmethod
    def jvp(ctx: Any, tangent: Any) -> Any:
        U, s, Vh = ctx.saved_tensors
        V = Vh.mH
        inner = U.mH @ tangent @ V
        gaps, over = _inverse_gaps(s * s), _inverse(s)
        left = gaps * (inner * s[..., None, :] + s[..., :, None] * inner.mH)
        right = gaps * (s[..., :, None] * inner + inner.mH * s[..., None, :])
        if U.is_complex():
            left = left + torch.diag_embed(1j * inner.diagonal(dim1=-2, dim2=-1).imag * over)
        outside = (tangent @ V - U @ inner) * over[..., None, :]
        across = (tangent.mH @ U - V @ inner.mH) * over[..., None, :]
        singular = inner.diagonal(dim1=-2, dim2=-1).real.clone()
        return U @ left + outside, singular, (V @ right + across).mH


@p.eigh.dispatch
def _eigh(a: torch.Tensor):
    return _Eigh.apply(a) if a.numel() else tuple(torch.linalg.eigh(a))


@p.dots.dispatch
def _dots(x: torch.Tensor, y: torch.Tensor):
    return torch.linalg.vecdot(x, y)


@p.column_dots.dispatch
def _column_dots(x: torch.Tensor, y: torch.Tensor):
    return torch.linalg.vecdot(x, y, dim=0)


@p.leading_eigenvectors.dispatch
def _leading_eigenvectors(a: torch.Tensor, count: int):
    n = a.shape[-1]
    if a.device.type == "cpu" and are_few(count, n) and p.is_constant(a):  # torch finds all of them alone
        return p.on_numpy(a, lambda a: p.leading_eigenvectors(a, count), ())
    return p.eigh(a)[1][..., n - count :]


@p.eigvalsh.dispatch
def _eigvalsh(a: torch.Tensor):
    return torch.linalg.eigvalsh(a) if p.is_constant(a) else p.eigh(a)[0]


@p.svd.dispatch
def _svd(a: torch.Tensor):
    return _SVD.apply(a) if a.numel() else tuple(torch.linalg.svd(a, full_matrices=False))


@p.svdvals.dispatch
def _svdvals(a: torch.Tensor):
    return torch.linalg.svdvals(a) if p.is_constant(a) else p.svd(a)[1]
