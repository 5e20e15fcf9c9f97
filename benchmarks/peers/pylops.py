"""pylops, on NumPy."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from benchmarks.peers.cases import Case

pylops: Any = import_module("pylops")
fft: Any = import_module("scipy.fft")


def products(case: Case) -> Any:
    """The product of a case, or why there is none."""
    arrays, x, dtype = case.arrays, case.x, case.dtype

    def matrix(a: Any) -> Any:
        return pylops.MatrixMult(a, dtype=dtype)

    def blocks(a: Any) -> Any:
        return pylops.BlockDiag([*map(matrix, a)], dtype=dtype)

    match case.work:
        case "kronecker":
            *others, operator = map(matrix, arrays.values())
            for other in others[::-1]:
                operator = pylops.Kronecker(other, operator, dtype=dtype)
        case "block_diag":
            operator = blocks(arrays["blocks"])
        case "permuted":
            b, s, _ = arrays["left"].shape
            swap = pylops.Transpose((s, b), (1, 0), dtype=dtype)
            operator = swap.H @ blocks(arrays["left"]) @ swap @ blocks(arrays["right"])
        case "low_rank":
            operator = matrix(arrays["U"]) @ matrix(arrays["V"])
        case "toeplitz" | "symmetric_toeplitz":
            c, r = arrays["c"], arrays.get("r", arrays["c"])
            length = fft.next_fast_len(len(c) + len(r) - 1, real=True)
            kernel = np.concatenate([c, np.zeros(length - len(c) - len(r) + 1, dtype), r[:0:-1]])
            pad, crop = (pylops.Pad(n, (0, length - n), dtype=dtype) for n in (len(r), len(c)))
            operator = crop.H @ _circulant(kernel, dtype) @ pad
        case "circulant":
            operator = _circulant(arrays["c"], dtype)
        case "sparse":
            operator = matrix(case.csr)
        case _:
            return "no such operator"
    return lambda: operator @ x


def _circulant(kernel: np.ndarray, dtype: str) -> Any:
    """Fᴴ diag(F kernel) F with the transform of real numbers."""
    transform = pylops.signalprocessing.FFT(kernel.size, real=True, engine="scipy", dtype=dtype)
    spectrum = fft.rfft(kernel)
    return transform.H @ pylops.Diagonal(spectrum, dtype=spectrum.dtype) @ transform
