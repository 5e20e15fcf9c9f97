"""scipy.sparse and scipy.linalg, on NumPy: the best that scipy has for each structure, operator or not."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from benchmarks.peers.cases import Case

linalg: Any = import_module("scipy.linalg")
sparse: Any = import_module("scipy.sparse")
aslinearoperator: Any = import_module("scipy.sparse.linalg").aslinearoperator

#: what to know of some works
NOTES = {"block_diag": "bsr_array", "permuted": "bsr_array and indices", "sparse": "csr_array"}
NOTES |= dict.fromkeys(("toeplitz", "symmetric_toeplitz", "circulant"), "matmul_toeplitz")


def products(case: Case) -> Any:
    """The product of a case, or why there is none."""
    arrays, x = case.arrays, case.x
    match case.work:
        case "block_diag":
            matrix = _blocks(arrays["blocks"])
            return lambda: matrix @ x
        case "permuted":
            left, right = _blocks(arrays["left"]), _blocks(arrays["right"])
            permutation, inverse = case.permutations()
            return lambda: (left @ (right @ x)[permutation])[inverse]
        case "low_rank":
            operator = aslinearoperator(arrays["U"]) @ aslinearoperator(arrays["V"])
            return lambda: operator @ x
        case "toeplitz" | "symmetric_toeplitz":
            c, r = arrays["c"], arrays.get("r", arrays["c"])
            return lambda: linalg.matmul_toeplitz((c, r), x, check_finite=False)
        case "circulant":
            c = arrays["c"]
            r = np.roll(c[::-1], 1)
            return lambda: linalg.matmul_toeplitz((c, r), x, check_finite=False)
        case "sparse":
            matrix = case.csr
            return lambda: matrix @ x
        case "kronecker":
            return "forms the matrix"
    return "no such operator"


def _blocks(blocks: np.ndarray) -> Any:
    """A block-diagonal matrix in block rows."""
    b, p, q = blocks.shape
    return sparse.bsr_array((blocks, np.arange(b), np.arange(b + 1)), shape=(b * p, b * q))
