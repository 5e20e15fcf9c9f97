"""NumPy and SciPy."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.projection import hand

if TYPE_CHECKING:
    from benchmarks.projection.cases import Case

linalg: Any = import_module("scipy.linalg")
sparse_linalg: Any = import_module("scipy.sparse.linalg")

BACKENDS = ("numpy",)


def functions(case: Case, W: Any, C: Any, backend: str, full: bool) -> dict[str, Any]:
    """What there is for a case: a name → (what is timed, what makes the matrix of its result)."""
    found = hand.functions(case, W, C, np, full)
    rank = case.work.rank
    match case.work.kind:
        case "low_rank":

            def dense() -> Any:
                U, s, Vh = linalg.svd(W, full_matrices=False)
                return U[:, :rank] * s[:rank], Vh[:rank]

            found |= {"scipy: svd": (dense, hand.product), "scipy: svds": (lambda: _svds(W, rank), hand.product)}
        case "kronecker":
            dims = case.work.dims
            found["scipy: svds, rearranged"] = (lambda: _svds(hand.rearranged(np, W, dims), 1), hand.back(dims))
    return found


def _svds(M: Any, rank: int) -> tuple[Any, Any]:
    U, s, Vh = sparse_linalg.svds(M, rank, rng=np.random.default_rng(0))
    return U * s, Vh
