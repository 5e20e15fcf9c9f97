"""linear_operator, of GPyTorch, on torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.peers.cases import Case

linear_operator: Any = import_module("linear_operator")
operators, to_linear_operator = linear_operator.operators, linear_operator.to_linear_operator


def products(case: Case) -> Any:
    """The product of a case, or why there is none."""
    arrays, x = case.arrays, case.x
    match case.work:
        case "kronecker":
            operator = operators.KroneckerProductLinearOperator(*map(to_linear_operator, arrays.values()))
        case "block_diag":
            operator = operators.BlockDiagLinearOperator(to_linear_operator(arrays["blocks"]))
        case "permuted":
            left, right = (
                operators.BlockDiagLinearOperator(to_linear_operator(arrays[name])) for name in ("left", "right")
            )
            permutation, inverse = map(operators.PermutationLinearOperator, case.permutations())
            operator = inverse @ (left @ (permutation @ right))
        case "low_rank":
            operator = operators.MatmulLinearOperator(to_linear_operator(arrays["U"]), to_linear_operator(arrays["V"]))
        case "symmetric_toeplitz":
            operator = operators.ToeplitzLinearOperator(arrays["c"])
        case "toeplitz":
            return "symmetric ones only"
        case _:
            return "no such operator"
    return lambda: operator @ x
