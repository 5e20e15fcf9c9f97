"""The Triton kernels as operators of `torch.library`: with shapes for tracing, gradients, and FLOPs.

``torch.ops.linops.crossed_matmul`` and ``torch.ops.linops.small_factors`` run the kernels on CUDA, and on CPU in
Triton's interpreter (``TRITON_INTERPRET=1``); elsewhere the same sums by torch's own products. Where factors need no
gradient, that of the operand is the same kernel on transposes; gradients of factors are batched products, of what lies
between, computed anew. All can be differentiated again.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import register_flop_formula

from linops.kernels import triton_crossed, triton_factors
from linops.kernels.triton_crossed import DTYPES, INTERPRETED, TILES, like_operand, tiles

__all__ = ["crossed_matmul", "small_factors", "tiles"]

# ---------------------------------------------------------------- two block products


@torch.library.custom_op("linops::crossed_matmul", mutates_args=())
def crossed_matmul(first: torch.Tensor, second: torch.Tensor, x: torch.Tensor, tile: int = 0) -> torch.Tensor:
    """Σ_jr second[m, p, j, r] Σ_n first[j, r, m, n] x[j, n, k].

    Cost: (J R M N + M P J R) K MACs; the J R M K numbers between the products are not written to memory.

    Args:
        first: (J, R, M, N) of float32, bfloat16 or float16, any strides.
        second: (M, P, J, R) of the same dtype.
        x: (J, N, K) of the same dtype.
        tile: Which of `triton_crossed.TILES` a program computes.

    Returns:
        (M, P, K).

    Raises:
        ValueError: If shapes do not fit.
        TypeError: If dtypes differ, or the kernel has none of them.
    """
    _require_crossed(first, second, x)
    if _runs_kernels(x):
        return triton_crossed.crossed(first, second, x, TILES[tile])
    between = torch.einsum("jrmn,jnk->jrmk", first, x)
    return like_operand(x, (*second.shape[:2], x.shape[2])).copy_(torch.einsum("mpjr,jrmk->mpk", second, between))


@crossed_matmul.register_fake
def _(first: torch.Tensor, second: torch.Tensor, x: torch.Tensor, tile: int = 0) -> torch.Tensor:
    return like_operand(x, (*second.shape[:2], x.shape[2]))


def _keep_crossed(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    *tensors, ctx.tile = inputs
    ctx.save_for_backward(*tensors)


def _crossed_backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    first, second, x = ctx.saved_tensors
    (J, R, M, N), P, K = first.shape, second.shape[1], x.shape[2]
    of_first, of_second, of_x = ctx.needs_input_grad[:3]
    if not of_first:  # what lies between is not needed
        transposed = second.permute(0, 3, 2, 1), first.permute(0, 3, 2, 1)
        x_gradient = crossed_matmul(*transposed, gradient, ctx.tile) if of_x else None
        between = None
    else:
        between = torch.bmm(second.permute(0, 3, 2, 1).reshape(M, R * J, P), gradient)
        between = between.reshape(M, R, J, K).permute(2, 1, 0, 3).reshape(J, R * M, K)
        x_gradient = torch.bmm(first.permute(0, 3, 1, 2).reshape(J, N, R * M), between) if of_x else None
        between = torch.bmm(between, x.transpose(1, 2)).reshape(J, R, M, N)
    middle = None
    if of_second:
        middle = torch.bmm(first.reshape(J, R * M, N), x).reshape(J * R, M, K).transpose(0, 1)
        middle = torch.bmm(gradient, middle.transpose(1, 2)).reshape(M, P, J, R)
    return between, middle, x_gradient, None


crossed_matmul.register_autograd(_crossed_backward, setup_context=_keep_crossed)


@register_flop_formula(torch.ops.linops.crossed_matmul)
def _crossed_flops(first: Any, second: Any, x: Any, *_: Any, **__: Any) -> int:
    return 2 * (prod(first) + prod(second)) * x[2]


def _require_crossed(first: torch.Tensor, second: torch.Tensor, x: torch.Tensor) -> None:
    shapes = [tuple(t.shape) for t in (first, second, x)]
    fits = [len(shape) for shape in shapes] == [4, 4, 3]
    if not fits or shapes[1][::3] + shapes[1][2:3] != (shapes[0][2], shapes[0][1], shapes[0][0]):
        raise ValueError(f"crossed_matmul: first and second of shapes {shapes[0]} and {shapes[1]}; {_EXPECTED}")
    if shapes[2][:2] != (shapes[0][0], shapes[0][3]):
        raise ValueError(f"crossed_matmul: first and x of shapes {shapes[0]} and {shapes[2]}; {_EXPECTED}")
    _require_dtypes("crossed_matmul", (first, second, x))


_EXPECTED = "expected (J, R, M, N), (M, P, J, R) and (J, N, K)"


def _require_dtypes(name: str, tensors: Sequence[torch.Tensor]) -> None:
    dtypes = {tensor.dtype for tensor in tensors}
    if len(dtypes) > 1 or not dtypes <= {*DTYPES}:
        found = ", ".join(sorted(map(str, dtypes)))
        raise TypeError(f"{name}: operands of {found}; expected one dtype of {', '.join(map(str, DTYPES))}")


def _runs_kernels(x: torch.Tensor) -> bool:
    return x.is_cuda or (INTERPRETED and x.device.type == "cpu")


# ---------------------------------------------------------------- small factors


@torch.library.custom_op("linops::small_factors", mutates_args=())
def small_factors(x: torch.Tensor, factors: list[torch.Tensor], rising: bool) -> torch.Tensor:
    """Factors that each act along a digit of x, in one pass over memory.

    Cost: the factors' sizes together, times I or J where a factor is the same for all of those, MACs a vector.

    Args:
        x: (I, G, J, K) of float32, bfloat16 or float16, any strides; G is the product of the factors' C.
        factors: (I, L, B, C, R, J) of each digit, slowest first, of the same dtype; see `triton_factors.factors`.
        rising: Whether the last digit's factor acts first.

    Returns:
        (I, product of the factors' B, J, K).

    Raises:
        ValueError: If shapes do not fit, or factors are too many or too large.
        TypeError: If dtypes differ, or the kernel has none of them.
    """
    _require_factors(x, factors, rising)
    if _runs_kernels(x):
        return triton_factors.factors(x, factors, rising)
    y = _in_turn(x, factors, rising)[-1]
    return like_operand(x, tuple(y.shape)).copy_(y)


@small_factors.register_fake
def _(x: torch.Tensor, factors: list[torch.Tensor], rising: bool) -> torch.Tensor:
    outer, _, J, K = x.shape
    return like_operand(x, (outer, prod(factor.shape[2] for factor in factors), J, K))


def _in_turn(x: torch.Tensor, factors: Sequence[torch.Tensor], rising: bool) -> list[torch.Tensor]:
    """x, and what it is after each factor, in the order in which they act, by torch's products."""
    found, (outer, _, J, K) = [x], x.shape
    for factor in reversed(factors) if rising else factors:
        _, L, B, C, R, _ = factor.shape
        acted = torch.einsum("ilbcrj,ilcrjk->ilbrjk", factor, found[-1].reshape(outer, L, C, R, J, K))
        found.append(acted.reshape(outer, L * B * R, J, K))
    return found


def _keep_factors(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    x, factors, ctx.rising = inputs
    ctx.save_for_backward(x, *factors)
    ctx.of_factors = any(factor.requires_grad for factor in factors)


def _factors_backward(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
    x, *factors = ctx.saved_tensors
    transposed, (outer, _, J, K) = [factor.transpose(2, 3) for factor in factors], x.shape
    if not ctx.of_factors:
        return small_factors(gradient, transposed, not ctx.rising), [None] * len(factors), None
    order = range(len(factors))[:: -1 if ctx.rising else 1]
    of_factors: list[Any] = [None] * len(factors)
    for place, held in zip(reversed(order), reversed(_in_turn(x, factors, ctx.rising)[:-1])):
        _, L, B, C, R, _ = factors[place].shape
        above, below = gradient.reshape(outer, L, B, R, J, K), held.reshape(outer, L, C, R, J, K)
        of_factors[place] = torch.einsum("ilbrjk,ilcrjk->ilbcrj", above, below)
        gradient = torch.einsum("ilbcrj,ilbrjk->ilcrjk", factors[place], above).reshape(outer, L * C * R, J, K)
    return gradient, of_factors, None


small_factors.register_autograd(_factors_backward, setup_context=_keep_factors)


@register_flop_formula(torch.ops.linops.small_factors)
def _factors_flops(x: Any, factors: Any, *_: Any, **__: Any) -> int:
    return 2 * sum(map(prod, factors)) * x[3]


def _require_factors(x: torch.Tensor, factors: Sequence[torch.Tensor], rising: bool) -> None:
    shapes, most, largest = [tuple(f.shape) for f in factors], triton_factors.MOST, triton_factors.LARGEST
    what = f"small_factors: factors of shapes {', '.join(map(str, shapes))} and x of shape {tuple(x.shape)}"
    if not 1 <= len(factors) <= most or x.ndim != 4 or any(len(shape) != 6 for shape in shapes):
        raise ValueError(f"{what}; expected 1 to {most} factors (I, L, B, C, R, J) and x (I, G, J, K)")
    sides = [(shape[2], shape[3]) for shape in shapes]
    if any(side > largest for pair in sides for side in pair):
        raise ValueError(f"{what}; expected sides B and C of at most {largest}")
    if len(factors) > 1 and any(side & (side - 1) or not side for pair in sides for side in pair):
        raise ValueError(f"{what}; several factors at once need sides B and C that are powers of two")
    for place, (before, after) in enumerate(zip(shapes, _wanted(x, sides, rising))):
        if before != after:
            raise ValueError(f"{what}; expected factor {place} of shape {after}")
    if x.shape[1] != prod(c for _, c in sides):
        raise ValueError(f"{what}; expected x of {prod(c for _, c in sides)} numbers along its second axis")
    _require_dtypes("small_factors", (x, *factors))


def _wanted(x: torch.Tensor, sides: Sequence[tuple[int, int]], rising: bool) -> list[tuple[int, ...]]:
    """The shapes of factors of these sides."""
    outer, _, J, _ = x.shape
    found, acted = [], (1, 0) if rising else (0, 1)
    for place, (b, c) in enumerate(sides):
        left = prod(pair[acted[0]] for pair in sides[:place])
        found.append((outer, left, b, c, prod(pair[acted[1]] for pair in sides[place + 1 :]), J))
    return found
