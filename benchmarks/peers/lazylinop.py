"""lazylinop, on NumPy and torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.peers.cases import Case

lazylinop: Any = import_module("lazylinop")
ksm: Any = import_module("lazylinop.butterfly").ksm
convolve: Any = import_module("lazylinop.signal").convolve

#: what to know of some works
NOTES = {"block_diag": "as ksm, which is faster than its block_diag", "permuted": "as ksm"}


def products(case: Case) -> Any:
    """The product of a case, or why there is none."""
    arrays, x = case.arrays, case.x
    match case.work:
        case "kronecker":
            *others, operator = arrays.values()
            for other in others[::-1]:
                operator = lazylinop.kron(other, operator)
        case "block_diag":
            operator = ksm(arrays["blocks"][..., None])
        case "permuted":
            b, s, _ = arrays["left"].shape
            # P A P of a block-diagonal A is the Kronecker-sparse matrix of pattern (1, s, s, b)
            left = arrays["left"].reshape(1, b, s, s)
            left = (
                left.permute(0, 2, 3, 1).contiguous() if case.backend == "torch" else left.transpose(0, 2, 3, 1).copy()
            )
            operator = ksm([left, arrays["right"][..., None]])
        case "low_rank":
            operator = lazylinop.aslazylinop(arrays["U"]) @ lazylinop.aslazylinop(arrays["V"])
        case "circulant":
            operator = convolve(len(arrays["c"]), arrays["c"], mode="circ")
        case "sparse" if case.backend == "numpy":
            operator = lazylinop.aslazylinop(case.csr)
        case "toeplitz" | "symmetric_toeplitz":
            return "convolutions only"
        case _:
            return "no such operator"
    return lambda: operator @ x
