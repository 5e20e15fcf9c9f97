# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportCallIssue=false
# pyright: reportArgumentType=false, reportIndexIssue=false
"""A Triton kernel of two block products, the second across the first's blocks, with what lies between them on chip.

A program makes the outputs of a few of the second's blocks for a few vectors. It goes through the middle a chunk at a
time: the first product makes the chunk, in float32, and the second adds what it gives, so the middle is never written
to memory. In exchange the operand is read once for each share of the second's blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

#: dtypes of the kernel; sums are float32
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
#: whether kernels run in Triton's interpreter, on a CPU; its products of bfloat16 are wrong: there they are of float32
INTERPRETED = triton.knobs.runtime.interpret


@dataclass(frozen=True)
class Tile:
    """What one program computes at a time.

    Attributes:
        vectors: How many vectors.
        sums: How many rows of the first product, and how many numbers of the middle: each at least the 16 of tensor
            cores.
        rows: At most how many outputs of each of the second's blocks.
        columns: At most how many columns of the first product at a time.
        warps: Of 32 threads.
        stages: How many loads are under way at once.
    """

    vectors: int = 32
    sums: int = 16
    rows: int = 64
    columns: int = 32
    warps: int = 8
    stages: int = 2


#: of ranks below 4, then of others: so many numbers fit the registers of sm_80 and sm_90
TILES = (
    Tile(vectors=16, columns=16, stages=1),
    Tile(rows=32, columns=16, stages=1),
    Tile(),
    Tile(vectors=64, rows=32),
)


def tiles(rank: int) -> tuple[int, ...]:
    """Which of `TILES` a first use compares.

    Args:
        rank: The rank between the products.

    Returns:
        Their positions.
    """
    return (0, 1) if rank < 4 else (2, 3)


@triton.jit
def _crossed(
    first,  # (J, R, M, N)
    second,  # (M, P, J, R)
    x,  # (J, N, K)
    y,  # (M, P, K)
    J,
    R,
    M,
    N,
    P,
    K,
    first_j,
    first_r,
    first_m,
    first_n,
    second_m,
    second_p,
    second_j,
    second_r,
    x_j,
    x_n,
    x_k,
    y_m,
    y_p,
    y_k,
    VECTORS: tl.constexpr,
    BLOCKS: tl.constexpr,
    ROWS: tl.constexpr,
    RANKS: tl.constexpr,  # a chunk of the middle is JOINED blocks of the first times RANKS
    JOINED: tl.constexpr,
    COLUMNS: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDENED: tl.constexpr,
):
    k = tl.program_id(0).to(tl.int64) * VECTORS + tl.arange(0, VECTORS)
    m = tl.program_id(1) * BLOCKS + tl.arange(0, BLOCKS)
    p = tl.program_id(2) * ROWS + tl.arange(0, ROWS)
    # the first's rows of a chunk are (rank, block of the second), the chunk itself is (block of the first, rank)
    row_r = tl.arange(0, RANKS * BLOCKS) // BLOCKS
    row_m = tl.program_id(1) * BLOCKS + tl.arange(0, RANKS * BLOCKS) % BLOCKS
    chunk_j = tl.arange(0, JOINED * RANKS) // RANKS
    chunk_r = tl.arange(0, JOINED * RANKS) % RANKS
    total = tl.zeros((BLOCKS, ROWS, VECTORS), tl.float32)
    for j0 in range(0, J, JOINED):
        j = j0 + tl.arange(0, JOINED)
        for r0 in range(0, R, RANKS):
            middle = tl.zeros((JOINED, RANKS * BLOCKS, VECTORS), tl.float32)
            for n0 in range(0, N, COLUMNS):
                n = n0 + tl.arange(0, COLUMNS)
                a = tl.load(
                    first
                    + j[:, None, None].to(tl.int64) * first_j
                    + (r0 + row_r)[None, :, None] * first_r
                    + row_m[None, :, None] * first_m
                    + n[None, None, :] * first_n,
                    mask=(j[:, None, None] < J)
                    & (r0 + row_r < R)[None, :, None]
                    & (row_m < M)[None, :, None]
                    & (n < N)[None, None, :],
                    other=0.0,
                )
                b = tl.load(
                    x
                    + j[:, None, None].to(tl.int64) * x_j
                    + n[None, :, None].to(tl.int64) * x_n
                    + k[None, None, :] * x_k,
                    mask=(j[:, None, None] < J) & (n < N)[None, :, None] & (k < K)[None, None, :],
                    other=0.0,
                )
                if WIDENED:
                    a, b = a.to(tl.float32), b.to(tl.float32)
                middle = tl.dot(a, b, middle, input_precision=PRECISION)
            between = tl.reshape(middle.to(first.dtype.element_ty), (JOINED * RANKS, BLOCKS, VECTORS))
            between = tl.permute(between, (1, 0, 2))
            a = tl.load(
                second
                + m[:, None, None].to(tl.int64) * second_m
                + p[None, :, None] * second_p
                + (j0 + chunk_j)[None, None, :] * second_j
                + (r0 + chunk_r)[None, None, :] * second_r,
                mask=(m[:, None, None] < M)
                & (p < P)[None, :, None]
                & (j0 + chunk_j < J)[None, None, :]
                & (r0 + chunk_r < R)[None, None, :],
                other=0.0,
            )
            if WIDENED:
                a, between = a.to(tl.float32), between.to(tl.float32)
            total = tl.dot(a, between, total, input_precision=PRECISION)
    tl.store(
        y + m[:, None, None].to(tl.int64) * y_m + p[None, :, None].to(tl.int64) * y_p + k[None, None, :] * y_k,
        total.to(y.dtype.element_ty),
        mask=(m[:, None, None] < M) & (p < P)[None, :, None] & (k < K)[None, None, :],
    )


def crossed(first: torch.Tensor, second: torch.Tensor, x: torch.Tensor, tile: Tile = TILES[0]) -> torch.Tensor:
    """Σ_jr second[m, p, j, r] Σ_n first[j, r, m, n] x[j, n, k], of any strides.

    Args:
        first: (J, R, M, N).
        second: (M, P, J, R).
        x: (J, N, K), all three of one dtype of `DTYPES`.
        tile: What a program computes at a time.

    Returns:
        (M, P, K): vectors are its innermost axis in memory where they are x's, else its outermost.
    """
    (J, R, M, N), P, K = first.shape, second.shape[1], x.shape[2]
    y = like_operand(x, (M, P, K))
    if not y.numel():
        return y
    if not (x.numel() and R):
        return y.zero_()
    sizes = chunks(R, N, P, tile)
    grid = (triton.cdiv(K, tile.vectors), triton.cdiv(M, sizes["BLOCKS"]), triton.cdiv(P, sizes["ROWS"]))
    _crossed[grid](
        first,
        second,
        x,
        y,
        *(J, R, M, N, P, K),
        *(*first.stride(), *second.stride(), *x.stride(), *y.stride()),
        **sizes,
        PRECISION=precision(x.dtype),
        WIDENED=INTERPRETED and x.dtype == torch.bfloat16,
        num_warps=tile.warps,
        num_stages=tile.stages,
    )
    return y


def chunks(R: int, N: int, P: int, tile: Tile) -> dict[str, int]:
    """The constants of a tile for a rank and sizes of blocks; see `crossed`.

    Args:
        R: The rank.
        N: Columns of the first's blocks.
        P: Rows of the second's.
        tile: The tile.

    Returns:
        Powers of two by name.
    """
    ranks = min(triton.next_power_of_2(R), tile.sums)
    return {
        "VECTORS": tile.vectors,
        "BLOCKS": tile.sums // ranks,
        "ROWS": min(max(triton.next_power_of_2(P), 16), tile.rows),
        "RANKS": ranks,
        "JOINED": tile.sums // ranks,
        "COLUMNS": min(max(triton.next_power_of_2(N), 16), tile.columns),
    }


def precision(dtype: torch.dtype) -> str:
    """How tensor cores multiply a dtype: float32 as three products of TF32, which lose no more than float32 rounds.

    Args:
        dtype: The dtype.

    Returns:
        Triton's name of it.
    """
    return "tf32x3" if dtype == torch.float32 else "ieee"


def like_operand(x: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """An empty tensor whose last axis, the vectors, lies innermost in memory if that of x does, else outermost.

    Args:
        x: The operand.
        shape: The shape.

    Returns:
        The tensor.
    """
    if x.stride(-1) == 1 or x.shape[-1] == 1:
        return x.new_empty(shape)
    return x.new_empty((shape[-1], *shape[:-1])).movedim(0, -1)
