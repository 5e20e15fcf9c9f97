"""Constants of NumPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy

from benchmarks.thresholds.case import Case, normal, split
from linops.lab.measure import Function
from linops.tuning import CORE_CACHE, NUMPY_EINSUM_BLOCKS, NUMPY_EINSUM_NUMBERS, NUMPY_FFT_PART


def _einsum(blocks: int, rows: int, columns: int) -> tuple[Function, Function]:
    a, x = normal("numpy", blocks, rows, columns), normal("numpy", blocks, columns, 1)
    return lambda: a @ x, lambda: np.einsum("bpq,bqk->bpk", a, x)


def _blocks(blocks: int) -> tuple[int, Function, Function]:
    return blocks, *_einsum(blocks, *split(NUMPY_EINSUM_NUMBERS))


def _numbers(numbers: int) -> tuple[int, Function, Function]:
    matmul, einsum = _einsum(8 * NUMPY_EINSUM_BLOCKS, *split(numbers))
    return numbers, einsum, matmul


def _stack(stack: int) -> tuple[int, Function, Function]:
    a, x = normal("numpy", 32, 32), normal("numpy", stack, 32, 1)
    return stack, lambda: a @ x, lambda: (x.reshape(stack, 32) @ a.T).reshape(stack, 32, 1)


def _convolution(size: int, part: int) -> Callable[[], np.ndarray]:
    """A convolution of columns of so many bytes, as many bytes at a time."""
    length = 1024
    x, spectrum = normal("numpy", length, size // (4 * length)), scipy.fft.rfft(normal("numpy", length))[:, None]
    step = max(1, part // (4 * length))

    def convolved(x: np.ndarray) -> np.ndarray:
        return scipy.fft.irfft(scipy.fft.rfft(x, length, 0) * spectrum, length, 0)

    def parts() -> np.ndarray:
        return np.concatenate([convolved(x[:, start : start + step]) for start in range(0, x.shape[1], step)], axis=-1)

    return parts if step < x.shape[1] else lambda: convolved(x)


def _cache(size: int) -> tuple[int, Function, Function]:
    return size, _convolution(size, size), _convolution(size, NUMPY_FFT_PART)


def _part(part: int) -> tuple[int, Function, Function]:
    return part, _convolution(4 * CORE_CACHE, part), _convolution(4 * CORE_CACHE, NUMPY_FFT_PART)


def _fresh(size: int) -> tuple[int, Function, Function]:
    x = np.ones(size // 4, np.float32)
    y = x + 1
    return size, lambda: x + 1, lambda: np.add(x, 1, out=y)


CASES = [
    Case("NUMPY_EINSUM_BLOCKS", "numpy", "blocks of 16 numbers times a vector", ("matmul", "einsum"), _blocks),
    Case("NUMPY_EINSUM_NUMBERS", "numpy", "1024 blocks times a vector", ("einsum", "matmul"), _numbers),
    Case("NUMPY_SHARED_STACK", "numpy", "32×32 times a stack of vectors", ("stack", "rows"), _stack),
    Case("FRESH_BYTES", "numpy", "x + 1", ("fresh memory", "memory that is there"), _fresh),
    Case("CORE_CACHE", "numpy", "convolution of columns of 1024", ("whole", "in parts"), _cache),
    Case("NUMPY_FFT_PART", "numpy", "the same in parts, 8 MiB", ("of this size", "of the constant"), _part, best=True),
]
