"""Triangular solves in PyTorch."""

from __future__ import annotations

import torch

from linops.backends import primitives as p


@p.solve_triangular.dispatch
def _solve_triangular(a: torch.Tensor, b: torch.Tensor, lower: bool, unit: bool):
    # which torch does not solve in; its products accumulate in float32, too
    if b.dtype in (torch.bfloat16, torch.float16):
        return _solve_triangular(a.float(), b.float(), lower, unit).to(b.dtype)
    if torch.onnx.is_in_onnx_export():  # ONNX has no triangular solve
        return _substituted(a, b, lower, unit)
    return torch.linalg.solve_triangular(a, b, upper=not lower, unitriangular=unit)


def _substituted(a: torch.Tensor, b: torch.Tensor, lower: bool, unit: bool) -> torch.Tensor:
    """Substitution by plain ops: solve for half of the unknowns, take them out of the other equations, solve those."""
    n = a.shape[-1]
    if n <= 1:
        return b if unit or n == 0 else b / a
    first, second = slice(None, n // 2), slice(n // 2, None)
    if not lower:
        first, second = second, first
    x = _substituted(a[..., first, first], b[..., first, :], lower, unit)
    y = _substituted(a[..., second, second], b[..., second, :] - a[..., second, first] @ x, lower, unit)
    return torch.cat([x, y] if lower else [y, x], -2)
