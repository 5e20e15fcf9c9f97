"""lineax, on JAX: its operators multiply vectors, so matrices go through `jax.vmap`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import jax

from benchmarks.peers.cases import call

if TYPE_CHECKING:
    from benchmarks.peers.cases import Case

lineax: Any = import_module("lineax")


def products(case: Case) -> Any:
    """The product of a case, or why there is none."""
    if case.work != "low_rank":
        return "no such operator"
    operator = lineax.MatrixLinearOperator(case.arrays["U"]) @ lineax.MatrixLinearOperator(case.arrays["V"])

    def multiply(A: Any, x: Any) -> Any:
        return A.mv(x) if x.ndim == 1 else jax.vmap(A.mv, in_axes=1, out_axes=1)(x)

    return call("jax", multiply, operator, case.x)
