"""Plain torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from benchmarks.projection import hand

if TYPE_CHECKING:
    from benchmarks.projection.cases import Case

torch: Any = import_module("torch")

BACKENDS = ("torch",)
#: dimensions of the random space beyond the rank
MORE = 8


def functions(case: Case, W: Any, C: Any, backend: str, full: bool) -> dict[str, Any]:
    """What there is for a case: a name → (what is timed, what makes the matrix of its result)."""
    found = hand.functions(case, W, C, torch, full)
    if case.work.kind == "low_rank":
        found["torch: svd_lowrank"] = (lambda: _svd_lowrank(W, case.work.rank), hand.product)
    return found


def _svd_lowrank(W: Any, rank: int) -> tuple[Any, Any]:
    torch.manual_seed(0)
    U, s, V = torch.svd_lowrank(W, q=rank + MORE)
    return U[:, :rank] * s[:rank], V[:, :rank].T
