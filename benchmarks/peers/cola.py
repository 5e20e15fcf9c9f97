"""CoLA, on torch and JAX.

It installs a fork of plum as ``plum``, beside which linops cannot be imported. Both run in one process all the same,
each with its plum: CoLA and the fork are imported first, then forgotten by name, and linops finds plum-dispatch in a
directory of its own.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from benchmarks.peers.plum import forget_fork

if TYPE_CHECKING:
    from benchmarks.peers.cases import Case

cola: Any = import_module("cola")

forget_fork()


def products(case: Case) -> Any:
    """The product of a case, or why there is none."""
    from benchmarks.peers.cases import call  # which imports linops, after the fork is forgotten

    ops, arrays = cola.ops, case.arrays
    match case.work:
        case "kronecker":
            operator = ops.Kronecker(*map(ops.Dense, arrays.values()))
        case "block_diag":
            operator = ops.BlockDiag(*map(ops.Dense, arrays["blocks"]))
        case "permuted":
            left, right = (ops.BlockDiag(*map(ops.Dense, arrays[name])) for name in ("left", "right"))
            permutation, inverse = (
                ops.Permutation(indices, dtype=arrays["left"].dtype) for indices in case.permutations()
            )
            operator = ops.Product(inverse, left, permutation, right)
        case "low_rank":
            operator = ops.Product(ops.Dense(arrays["U"]), ops.Dense(arrays["V"]))
        case "sparse":
            operator = ops.Sparse(arrays["values"], arrays["rows"], arrays["columns"], case.operator.shape)
        case _:
            return "no such operator"
    return call(case.backend, lambda A, x: A @ x, operator, case.x)
