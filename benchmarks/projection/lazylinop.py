"""lazylinop, on NumPy and torch: its hierarchical factorisation into square-dyadic factors, in both orders."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from benchmarks.projection.cases import Case

butterfly: Any = import_module("lazylinop.butterfly")

BACKENDS = ("numpy", "torch")


def functions(case: Case, W: Any, C: Any, backend: str, full: bool) -> dict[str, Any]:
    """What there is for a case: a name → (what is timed, what makes the matrix of its result)."""
    if case.work.kind != "butterfly":
        return {}
    chain = butterfly.Chain.square_dyadic(tuple(W.shape))
    return {
        f"lazylinop, {backend}: ksd, {order}": (
            partial(butterfly.ksd, W, chain, order=order),
            lambda found: np.asarray(found.toarray()),
        )
        for order in ("l2r", "balanced")
    }
