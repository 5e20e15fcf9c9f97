"""linox, on JAX."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import jax

from benchmarks.peers.cases import call

if TYPE_CHECKING:
    from benchmarks.peers.cases import Case

linox: Any = import_module("linox")

#: what to know of some works
NOTES = {"symmetric_toeplitz": "no pytree: a constant of the compiled function"}


def products(case: Case) -> Any:
    """The product of a case, or why there is none."""
    arrays = case.arrays
    match case.work:
        case "kronecker":
            *others, operator = map(linox.Matrix, arrays.values())
            for other in others[::-1]:
                operator = linox.Kronecker(other, operator)
        case "block_diag":
            operator = linox.BlockDiagonal(*map(linox.Matrix, arrays["blocks"]))
        case "permuted":
            left, right = (linox.BlockDiagonal(*map(linox.Matrix, arrays[name])) for name in ("left", "right"))
            permutation, inverse = map(linox.Permutation, case.permutations())
            operator = linox.ProductLinearOperator(inverse, left, permutation, right)
        case "low_rank":
            operator = linox.LowRank(arrays["U"], None, arrays["V"].T)
        case "symmetric_toeplitz":
            operator = linox.Toeplitz(arrays["c"])
            multiply = jax.jit(lambda x: operator @ x)
            return lambda: multiply(case.x)
        case "toeplitz":
            return "symmetric ones only"
        case _:
            return "no such operator"
    return call("jax", lambda A, x: A @ x, operator, case.x)
