"""Plain torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from benchmarks.projection import hand

if TYPE_CHECKING:
    from benchmarks.projection.cases import Case

torch: Any = import_module("torch")

BACKENDS = ("torch",)
#: dimensions of the random space beyond the rank, and steps of iteration: torch's own, and those that find the optimum
#: of the matrices here to 1e-6
MORE, STEPS = 8, 2
TO_OPTIMUM = {8: (8, 6), 64: (72, 6)}


def functions(case: Case, W: Any, C: Any, backend: str, full: bool) -> dict[str, Any]:
    """What there is for a case: a name → (what is timed, what makes the matrix of its result)."""
    found = hand.functions(case, W, C, torch, full)
    if case.work.kind == "low_rank":
        rank = case.work.rank
        found["torch: svd_lowrank"] = (lambda: _svd_lowrank(W, rank, MORE, STEPS), hand.product)
        found["torch: svd_lowrank, to 1e-6"] = (lambda: _svd_lowrank(W, rank, *TO_OPTIMUM[rank]), hand.product)
    return found


def _svd_lowrank(W: Any, rank: int, more: int, steps: int) -> tuple[Any, Any]:
    torch.manual_seed(0)
    U, s, V = torch.svd_lowrank(W, q=rank + more, niter=steps)
    return U[:, :rank] * s[:rank], V[:, :rank].T
