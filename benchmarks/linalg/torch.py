"""Plain torch, as one writes it by hand."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from benchmarks.linalg.scipy import along

if TYPE_CHECKING:
    from benchmarks.linalg.cases import Case

torch: Any = import_module("torch")

BACKEND = "torch"


def functions(case: Case, arrays: dict[str, Any], b: Any) -> dict[str, Any]:
    """What there is for a case: a name → (once, with what is kept or None), or → why there is none."""
    factors = [*arrays.values()]
    match case.name:
        case "kronecker":
            made = [torch.linalg.lu_factor(factor) for factor in factors]
            return {
                "torch: LU a factor": (
                    lambda: along(factors, torch.linalg.solve, b),
                    lambda: along(made, lambda factor, x: torch.linalg.lu_solve(*factor, x), b),
                )
            }
        case "kronecker_definite":
            lowers = [torch.linalg.cholesky(factor) for factor in factors]

            def solve(lower: Any, x: Any) -> Any:
                return torch.cholesky_solve(x, lower)

            return {
                "torch: Cholesky a factor": (
                    lambda: along([torch.linalg.cholesky(factor) for factor in factors], solve, b),
                    lambda: along(lowers, solve, b),
                )
            }
        case "block_diag":
            blocks, x = arrays["blocks"], b.reshape(64, 64, -1)
            inverses = torch.linalg.inv(blocks)
            return {
                "torch: batched solve": (
                    lambda: torch.linalg.solve(blocks, x).reshape(b.shape),
                    lambda: (inverses @ x).reshape(b.shape),
                )
            }
        case "cg":
            matrix = arrays["matrix"]
            lower = torch.linalg.cholesky(matrix)
            return {
                "torch: Cholesky": (
                    lambda: torch.cholesky_solve(b, torch.linalg.cholesky(matrix)),
                    lambda: torch.cholesky_solve(b, lower),
                )
            }
        case "eigsh":
            n = 10**5
            places = torch.stack([arrays["rows"], arrays["columns"]])
            matrix = torch.sparse_coo_tensor(places, arrays["values"], (n, n)).to_sparse_csr()

            def largest() -> Any:
                torch.manual_seed(0)
                return torch.lobpcg(matrix, 10, largest=True)[0]

            return {"torch: lobpcg": (largest, None)}
    return {"torch": "has none"}
