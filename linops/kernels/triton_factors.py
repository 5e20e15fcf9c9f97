# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportCallIssue=false
# pyright: reportArgumentType=false, reportIndexIssue=false
"""A Triton kernel of small blocks: up to four factors of a butterfly or a Kronecker product in one pass over memory.

A pass reads numbers (i, digits, j, vector) once, lets each factor act along its own digit, in float32, and writes them
once. Factors of several sizes are one pass where all sizes are powers of two; others take a pass each, with masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
import triton
import triton.language as tl

from linops.kernels.triton_crossed import like_operand

#: how many factors a pass takes, and the largest side of a factor
MOST, LARGEST = 4, 16
#: numbers that a program holds between two factors, before the sum
_HELD = 8192


@triton.jit
def _act(
    held,  # (L * C_PAD * R * WIDE, VECTORS): digits, then positions of j
    factor,  # (I, L, B, C, R, J), at its i
    stride_l,
    stride_b,
    stride_c,
    stride_r,
    stride_j,
    j0,
    J,
    L: tl.constexpr,
    B: tl.constexpr,
    C: tl.constexpr,
    R: tl.constexpr,
    B_PAD: tl.constexpr,
    C_PAD: tl.constexpr,
    WIDE: tl.constexpr,
    VECTORS: tl.constexpr,
):
    row = tl.arange(0, L)[:, None, None, None]
    b = tl.arange(0, B_PAD)[None, :, None, None]
    c = tl.arange(0, C_PAD)[None, None, :, None]
    right = tl.arange(0, R * WIDE)[None, None, None, :]
    r, j = right // WIDE, j0 + right % WIDE
    a = tl.load(
        factor + row * stride_l + b * stride_b + c * stride_c + r * stride_r + j.to(tl.int64) * stride_j,
        mask=(row < L) & (b < B) & (c < C) & (j < J),
        other=0.0,
    ).to(tl.float32)
    held = tl.reshape(held, (L, 1, C_PAD, R * WIDE, VECTORS))
    held = tl.sum(tl.reshape(a, (L, B_PAD, C_PAD, R * WIDE, 1)) * held, axis=2)
    return tl.reshape(held, (L * B_PAD * R * WIDE, VECTORS))


@triton.jit
def _factors(
    x,  # (I, C0 * C1 * …, J, K)
    y,  # (I, B0 * B1 * …, J, K)
    f0,
    f1,
    f2,
    f3,
    J,
    K,
    x_i,
    x_g,
    x_j,
    x_k,
    y_i,
    y_g,
    y_j,
    y_k,
    f0_i,
    f0_l,
    f0_b,
    f0_c,
    f0_r,
    f0_j,
    f1_i,
    f1_l,
    f1_b,
    f1_c,
    f1_r,
    f1_j,
    f2_i,
    f2_l,
    f2_b,
    f2_c,
    f2_r,
    f2_j,
    f3_i,
    f3_l,
    f3_b,
    f3_c,
    f3_r,
    f3_j,
    B0: tl.constexpr,
    C0: tl.constexpr,
    B1: tl.constexpr,
    C1: tl.constexpr,
    B2: tl.constexpr,
    C2: tl.constexpr,
    B3: tl.constexpr,
    C3: tl.constexpr,
    B_PAD: tl.constexpr,  # of the first factor alone: several are powers of two
    C_PAD: tl.constexpr,
    COUNT: tl.constexpr,
    RISING: tl.constexpr,  # whether the last digit's factor acts first
    WIDE: tl.constexpr,
    VECTORS: tl.constexpr,
):
    # one axis of programs: the others of a grid end at 65,535
    along_k, along_j = tl.cdiv(K, VECTORS), tl.cdiv(J, WIDE)
    k = (tl.program_id(0) % along_k).to(tl.int64) * VECTORS + tl.arange(0, VECTORS)[None, :]
    j0 = tl.program_id(0) // along_k % along_j * WIDE
    i = (tl.program_id(0) // along_k // along_j).to(tl.int64)
    place = tl.arange(0, C_PAD * C1 * C2 * C3 * WIDE)[:, None]
    g, j = place // WIDE, (j0 + place % WIDE).to(tl.int64)
    inside = (g < C0 * C1 * C2 * C3) & (j < J) & (k < K)
    held = tl.load(x + i * x_i + g.to(tl.int64) * x_g + j * x_j + k * x_k, mask=inside, other=0.0).to(tl.float32)
    f0 += i * f0_i
    f1 += i * f1_i
    f2 += i * f2_i
    f3 += i * f3_i
    if RISING:
        if COUNT > 3:
            held = _act(held, f3, f3_l, f3_b, f3_c, f3_r, f3_j, j0, J, C0 * C1 * C2, B3, C3, 1, B3, C3, WIDE, VECTORS)
        if COUNT > 2:
            held = _act(held, f2, f2_l, f2_b, f2_c, f2_r, f2_j, j0, J, C0 * C1, B2, C2, B3, B2, C2, WIDE, VECTORS)
        if COUNT > 1:
            held = _act(held, f1, f1_l, f1_b, f1_c, f1_r, f1_j, j0, J, C0, B1, C1, B2 * B3, B1, C1, WIDE, VECTORS)
        held = _act(held, f0, f0_l, f0_b, f0_c, f0_r, f0_j, j0, J, 1, B0, C0, B1 * B2 * B3, B_PAD, C_PAD, WIDE, VECTORS)
    else:
        held = _act(held, f0, f0_l, f0_b, f0_c, f0_r, f0_j, j0, J, 1, B0, C0, C1 * C2 * C3, B_PAD, C_PAD, WIDE, VECTORS)
        if COUNT > 1:
            held = _act(held, f1, f1_l, f1_b, f1_c, f1_r, f1_j, j0, J, B0, B1, C1, C2 * C3, B1, C1, WIDE, VECTORS)
        if COUNT > 2:
            held = _act(held, f2, f2_l, f2_b, f2_c, f2_r, f2_j, j0, J, B0 * B1, B2, C2, C3, B2, C2, WIDE, VECTORS)
        if COUNT > 3:
            held = _act(held, f3, f3_l, f3_b, f3_c, f3_r, f3_j, j0, J, B0 * B1 * B2, B3, C3, 1, B3, C3, WIDE, VECTORS)
    place = tl.arange(0, B_PAD * B1 * B2 * B3 * WIDE)[:, None]
    g, j = place // WIDE, (j0 + place % WIDE).to(tl.int64)
    inside = (g < B0 * B1 * B2 * B3) & (j < J) & (k < K)
    tl.store(y + i * y_i + g.to(tl.int64) * y_g + j * y_j + k * y_k, held.to(y.dtype.element_ty), mask=inside)


def factors(x: torch.Tensor, given: Sequence[torch.Tensor], rising: bool) -> torch.Tensor:
    """Each factor along its own digit of x, of any strides: the first digit's factor acts first, or if rising the last.

    Args:
        x: (I, G, J, K), where G is the product of the factors' C.
        given: (I, L, B, C, R, J) of each digit, L and R the digits before and after it as they are when it acts: with
            the sizes B of those that have acted, and C of those that have not. Up to `MOST`, and where they are several
            B and C are powers of two; sides are at most `LARGEST`.
        rising: Whether the last digit's factor acts first.

    Returns:
        (I, product of the factors' B, J, K).
    """
    outer, _, J, K = x.shape
    sides = [(f.shape[2], f.shape[3]) for f in given]
    y = like_operand(x, (outer, prod(b for b, _ in sides), J, K))
    if not y.numel():
        return y
    if not x.numel():
        return y.zero_()
    by_rows = x.stride(-1) != 1 and J > 1  # neighbours in memory are neighbours in j, not vectors
    sizes = constants(sides, rising, min(triton.next_power_of_2(J), 32) if by_rows else 1, K)
    arrays = [*given, *[given[0]] * (MOST - len(given))]
    _factors[(triton.cdiv(K, sizes["VECTORS"]) * triton.cdiv(J, sizes["WIDE"]) * outer,)](
        *(x, y, *arrays, J, K, *x.stride(), *y.stride()),
        *(stride for f in arrays for stride in f.stride()),
        **sizes,
        num_warps=4,
    )
    return y


def constants(sides: Sequence[tuple[int, int]], rising: bool, wide: int, vectors: int) -> dict[str, int | bool]:
    """The constants of a pass.

    Args:
        sides: (B, C) of each factor.
        rising: Whether the last digit's factor acts first.
        wide: At most how many neighbours in j a program takes, a power of two.
        vectors: How many vectors there are.

    Returns:
        Powers of two, and the sides, by name.
    """
    padded = [triton.next_power_of_2(side) for side in sides[0]]
    rows, columns = ([padded[place], *(pair[place] for pair in sides[1:])] for place in (0, 1))
    held = max(prod(rows), prod(columns)) * max(rows)
    room = max(_HELD // triton.next_power_of_2(held), 1)
    wide = min(wide, room)
    filled = [*sides, *[(1, 1)] * (MOST - len(sides))]
    return {f"{name}{place}": side for place, pair in enumerate(filled) for name, side in zip("BC", pair)} | {
        "B_PAD": padded[0],
        "C_PAD": padded[1],
        "COUNT": len(sides),
        "RISING": rising,
        "WIDE": wide,
        "VECTORS": min(triton.next_power_of_2(vectors), max(room // wide, 1), 256),
    }
