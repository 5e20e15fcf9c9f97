"""Constants of torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import linops as lo
from benchmarks.thresholds.case import Case, normal
from linops.backends.torch_blocks import _crossed_in_parts
from linops.backends.torch_sparse import _bagged, _bags, _csr, _gathered, _has_csr
from linops.lab.measure import Function
from linops.tuning import TORCH_PART, TORCH_SPLIT


def _columns_and_rows(blocks: int, side: int) -> tuple[Function, Function]:
    a, x = normal("torch", blocks, side, side), normal("torch", blocks, side)
    return (
        lambda: torch.bmm(a, x.reshape(blocks, side, 1)).reshape(-1),
        lambda: torch.bmm(x.reshape(blocks, 1, side), a.mT).reshape(-1),
    )


def _looped(side: int) -> tuple[int, Function, Function]:
    return side * side, *_columns_and_rows((1 << 17) // (side * side), side)


def _tiny(macs: int) -> tuple[int, Function, Function]:
    return macs, *_columns_and_rows(macs // 529, 23)


def _view_and_copy(blocks: int, side: int, rows: bool) -> tuple[Function, Function]:
    a, x = normal("torch", blocks, side, side), normal("torch", side, blocks).T

    def copied() -> Any:
        if rows:
            return torch.bmm(x.contiguous().reshape(blocks, 1, side), a.mT).reshape(-1)
        return torch.bmm(a, x.contiguous().reshape(blocks, side, 1)).reshape(-1)

    return lambda: torch.bmm(a, x.reshape(blocks, side).unsqueeze(2)).reshape(-1), copied


def _tiny_looped(macs: int) -> tuple[int, Function, Function]:
    return macs, *_view_and_copy(macs // 64, 8, rows=False)


def _small(macs: int) -> tuple[int, Function, Function]:
    return macs, *_view_and_copy(macs // 1024, 32, rows=True)


def _tiny_shared(macs: int) -> tuple[int, Function, Function]:
    stack, side = macs // 256, 16
    a, x = normal("torch", side, side), normal("torch", stack, side, 1)
    return (
        macs,
        lambda: torch.bmm(a.expand(stack, -1, -1), x),
        lambda: torch.mm(x.reshape(stack, side), a.mT).reshape(stack, side, 1),
    )


def _crossed(numbers: int, part: int) -> Function:
    """BTT of d = 1024 and rank 4 with so many numbers between its products, as many at a time."""
    first, second = normal("torch", 32, 128, 32), normal("torch", 32, 32, 128)
    x = normal("torch", 32, 32, numbers // 4096)
    if part < numbers:
        return lambda: _crossed_in_parts(first, second, x, -(-numbers // part))
    return lambda: torch.bmm(second, torch.bmm(first, x).reshape(128, 32, -1).transpose(0, 1))


def _split(numbers: int) -> tuple[int, Function, Function]:
    return numbers, _crossed(numbers, numbers), _crossed(numbers, min(TORCH_PART, numbers // 2))


def _part(part: int) -> tuple[int, Function, Function]:
    return part, _crossed(2 * TORCH_SPLIT, part), _crossed(2 * TORCH_SPLIT, TORCH_PART)


def _sparse(numbers: int) -> tuple[int, Function, Function]:
    n, entries = 4096, 1 << 14
    rows, columns = np.random.default_rng(0).integers(0, n, (2, entries))
    A = lo.Sparse(normal("torch", entries), rows, columns, (n, n))
    x, gradient = normal("torch", n, numbers // entries), normal("torch", n, numbers // entries)
    positions = A._positions()
    return (
        numbers,
        lambda: _gathered(A.values, positions, x, gradient),
        lambda: _bagged(A.values, positions, x, gradient),
    )


def _sparse_columns(count: int) -> tuple[int, Function, Function]:
    n, entries = 1 << 14, 1 << 17
    rows, columns = np.random.default_rng(0).integers(0, n, (2, entries))
    A = lo.Sparse(normal("torch", entries), np.sort(rows), columns, (n, n))
    x, positions = normal("torch", n, count), A._positions()
    _has_csr()  # which takes the warning that such matrices are new in torch
    return count, lambda: _csr(A.values, positions, x), lambda: _bags(A.values, positions, x)


def _transforms(length: int, columns: int) -> tuple[Function, Function]:
    x, spectrum = normal("torch", length, columns), torch.fft.rfft(normal("torch", length))

    def by_columns() -> Any:
        return torch.fft.irfft(torch.fft.rfft(x, length, 0) * spectrum[:, None], length, 0)

    def by_rows() -> Any:
        return torch.fft.irfft(torch.fft.rfft(x.T.contiguous()) * spectrum, length).T.contiguous()

    return by_columns, by_rows


def _length(length: int) -> tuple[int, Function, Function]:
    return length, *_transforms(length, 1024)


def _cache(size: int) -> tuple[int, Function, Function]:
    return size, *_transforms(4096, size // (4 * 4096))


def _fresh(size: int) -> tuple[int, Function, Function]:
    x = torch.ones(size // 4)
    y = x + 1
    return size, lambda: x + 1, lambda: torch.add(x, 1, out=y)


SIDES = (10, 14, 28, 40)
CASES = [
    Case("TORCH_LOOPED", "torch", "blocks of 2^17 MACs times a vector", ("column", "rows"), _looped, SIDES),
    Case("TORCH_TINY", "torch", "blocks of 23×23 times a vector", ("column", "rows"), _tiny),
    Case("TORCH_TINY", "torch", "blocks of 8×8 times a scattered vector", ("view", "copy"), _tiny_looped),
    Case("TORCH_TINY", "torch", "16×16 times a stack of vectors", ("bmm", "mm of rows"), _tiny_shared),
    Case("TORCH_SMALL", "torch", "blocks of 32×32 times a scattered vector", ("view", "rows of a copy"), _small),
    Case("FRESH_BYTES", "torch", "x + 1", ("fresh memory", "memory that is there"), _fresh),
    Case("TORCH_SPLIT", "torch", "BTT, d = 1024, rank 4", ("whole", "in parts"), _split),
    Case("TORCH_PART", "torch", "the same in parts, 64 MiB", ("of this size", "of the constant"), _part, best=True),
    Case("TORCH_CSR_COLUMNS", "torch", "131,072 sparse entries times columns", ("CSR", "bags"), _sparse_columns),
    Case("TORCH_GATHERED", "torch", "gradient of 16,384 sparse entries", ("gathered", "bags"), _sparse),
    Case("TORCH_FFT_LENGTH", "torch", "convolution of 1024 columns", ("columns", "rows of a copy"), _length),
    Case("CORE_CACHE", "torch", "convolution of columns of 4096", ("columns", "rows of a copy"), _cache),
]
