"""linear_operator, of GPyTorch, on torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.linalg.cases import Case

torch: Any = import_module("torch")
linear_operator: Any = import_module("linear_operator")
operators, to_linear_operator = linear_operator.operators, linear_operator.to_linear_operator
settings: Any = linear_operator.settings

BACKEND = "torch"


def functions(case: Case, arrays: dict[str, Any], b: Any) -> dict[str, Any]:
    """What there is for a case: a name → (once, with what is kept or None), or → why there is none."""
    from benchmarks.linalg.cases import NOISE, RTOL

    def kronecker() -> Any:
        return operators.KroneckerProductLinearOperator(*map(to_linear_operator, arrays.values()))

    def noisy() -> Any:
        noise = operators.ConstantDiagLinearOperator(torch.full((1,), NOISE, dtype=torch.float64), 64**3)
        return operators.KroneckerProductAddedDiagLinearOperator(kronecker(), noise)

    match case.name:
        case "kronecker":
            return {"linear_operator": "positive definite ones only"}
        case "kronecker_definite":
            return {"linear_operator": _solved(kronecker, b)}
        case "kronecker_noise":
            return {"linear_operator": _solved(noisy, b)}
        case "kronecker_noise_logdet":
            return {"linear_operator": (lambda: noisy().logdet(), None)}
        case "block_diag":
            return {"linear_operator": "positive definite ones only"}
        case "toeplitz":
            return {"linear_operator": "symmetric ones only"}
        case "toeplitz_definite":

            def toeplitz() -> Any:
                return operators.ToeplitzLinearOperator(arrays["c"])

            settings.cg_tolerance._set_value(1e-9)
            settings.max_cg_iterations._set_value(1000)
            return {"linear_operator: CG": _solved(toeplitz, b)}
        case "low_rank":
            U, d = arrays["U"], arrays["d"]

            def update() -> Any:
                root = operators.LowRankRootLinearOperator(U)
                return operators.LowRankRootAddedDiagLinearOperator(root, operators.DiagLinearOperator(d))

            return {"linear_operator": _solved(update, b)}
        case "cg":

            def iterate() -> Any:
                with settings.cg_tolerance(RTOL), settings.fast_computations(True, True, True):
                    return linear_operator.utils.linear_cg(
                        arrays["matrix"].matmul, b, tolerance=RTOL, max_iter=1000, max_tridiag_iter=0
                    )

            return {"linear_operator: linear_cg": (iterate, iterate)}
        case "slq":
            settings.max_cholesky_size._set_value(1)
            settings.num_trace_samples._set_value(10)

            def estimate() -> Any:
                torch.manual_seed(0)
                return to_linear_operator(arrays["matrix"]).logdet()

            return {"linear_operator: SLQ": (estimate, None)}
    return {"linear_operator": "has none"}


def _solved(make: Any, b: Any) -> Any:
    """Solving with an operator made afresh, and with one that keeps what it finds."""
    kept = make()
    column = b if b.ndim > 1 else b[:, None]
    return (
        lambda: make().solve(column).reshape(b.shape),
        lambda: kept.solve(column).reshape(b.shape),
    )
