"""tensorly, on NumPy and torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from benchmarks.projection import hand

if TYPE_CHECKING:
    from benchmarks.projection.cases import Case

tensorly: Any = import_module("tensorly")
tensor_train_matrix: Any = import_module("tensorly.decomposition").tensor_train_matrix

BACKENDS = ("numpy", "torch")
_NAMES = {"numpy": "numpy", "torch": "pytorch"}


def functions(case: Case, W: Any, C: Any, backend: str, full: bool) -> dict[str, Any]:
    """What there is for a case: a name → (what is timed, what makes the matrix of its result)."""
    if case.work.kind != "tensor_train":
        return {}
    dims, rank = case.work.dims, case.work.rank
    ranks = (1, *[rank] * (len(dims) // 2 - 1), 1)

    def decomposed() -> Any:
        tensorly.set_backend(_NAMES[backend])
        return list(tensor_train_matrix(W.reshape(dims), [*ranks]))

    return {f"tensorly, {backend}": (decomposed, lambda cores: hand.tt_matrix(cores, dims))}
