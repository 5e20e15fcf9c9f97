"""CoLA, on torch. It and its fork of plum come first; see `benchmarks.peers.cola`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from benchmarks.peers.plum import forget_fork

if TYPE_CHECKING:
    from benchmarks.linalg.cases import Case

cola: Any = import_module("cola")
linalg: Any = import_module("cola.linalg")
torch: Any = import_module("torch")
numpy: Any = import_module("numpy")

forget_fork()

BACKEND = "torch"


def functions(case: Case, arrays: dict[str, Any], b: Any) -> dict[str, Any]:
    """What there is for a case: a name → (once, with what is kept or None), or → why there is none."""
    from benchmarks.linalg.cases import NOISE, RTOL

    ops = cola.ops
    match case.name:
        case "kronecker":
            return {"cola": _solved(lambda: ops.Kronecker(*map(ops.Dense, arrays.values())), b)}
        case "kronecker_definite":
            return {"cola": _solved(lambda: _definite(ops, arrays), b)}
        case "kronecker_slogdet":
            operator = ops.Kronecker(*map(ops.Dense, arrays.values()))
            return {"cola": (lambda: linalg.slogdet(operator), None)}
        case "kronecker_noise":

            def noisy() -> Any:
                identity = ops.I_like(_definite(ops, arrays))
                return cola.PSD(_definite(ops, arrays) + NOISE * identity)

            method = linalg.CG(tol=1e-10, max_iters=1000)
            return {"cola: CG": _solved(noisy, b, method)}
        case "kronecker_noise_logdet":
            return {"cola": "an estimate alone"}
        case "poisson":
            n = 256
            line = arrays["diagonal"].new_full((n,), 2.0)
            beside = arrays["beside"]

            def laplace() -> Any:
                one = ops.Tridiagonal(beside[:, None], line[:, None], beside[:, None])
                return cola.PSD(ops.KronSum(one, one))

            return {"cola: CG": _solved(laplace, b, linalg.CG(tol=1e-11, max_iters=2000))}
        case "block_diag":
            return {"cola": _solved(lambda: ops.BlockDiag(*map(ops.Dense, arrays["blocks"])), b)}
        case "low_rank":
            U, d = arrays["U"], arrays["d"]

            def update() -> Any:
                return cola.PSD(ops.Dense(U) @ ops.Dense(U.T) + ops.Diagonal(d))

            return {"cola: CG": _solved(update, b, linalg.CG(tol=1e-9, max_iters=1000))}
        case "cg":
            operator = cola.PSD(ops.Dense(arrays["matrix"]))
            return {"cola: CG": _solved(lambda: operator, b, linalg.CG(tol=RTOL, max_iters=1000))}
        case "slq":
            operator = cola.PSD(ops.Dense(arrays["matrix"]))

            def estimate() -> Any:
                torch.manual_seed(0)
                return linalg.logdet(operator, linalg.Lanczos(max_iters=20), linalg.Hutch(tol=3e-2, max_iters=10))

            return {"cola: Lanczos, Hutch": (estimate, None)}
        case "eigsh":
            n = 10**5
            sparse = ops.Sparse(arrays["values"], arrays["rows"], arrays["columns"], (n, n))
            operator = cola.SelfAdjoint(sparse)

            def largest() -> Any:
                values, _ = linalg.eig(operator, 10, "LM", linalg.Lanczos(max_iters=100, tol=1e-10))
                return values.real

            return {"cola: Lanczos": (largest, None)}
    return {"cola": "has none"}


def _definite(ops: Any, arrays: dict[str, Any]) -> Any:
    return cola.PSD(ops.Kronecker(*(cola.PSD(ops.Dense(factor)) for factor in arrays.values())))


def _solved(make: Any, b: Any, *method: Any) -> Any:
    """Solving with an operator made afresh, and with an inverse that is kept."""
    kept = linalg.inv(make(), *method)
    return (lambda: linalg.inv(make(), *method) @ b, lambda: kept @ b)
