"""NumPy and SciPy: the best of them for each structure, as one writes it by hand."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from benchmarks.linalg.cases import Case

linalg: Any = import_module("scipy.linalg")
sparse: Any = import_module("scipy.sparse")
sparse_linalg: Any = import_module("scipy.sparse.linalg")
fft: Any = import_module("scipy.fft")

BACKEND = "numpy"


def functions(case: Case, arrays: dict[str, Any], b: Any) -> dict[str, Any]:
    """What there is for a case: a name → (once, with what is kept or None), or → why there is none."""
    from benchmarks.linalg.cases import NOISE, RTOL

    factors = [*arrays.values()]
    match case.name:
        case "kronecker":
            return {
                "numpy: LU a factor": (
                    lambda: along(factors, np.linalg.solve, b),
                    _kept([linalg.lu_factor(factor) for factor in factors], linalg.lu_solve, b),
                )
            }
        case "kronecker_definite":

            def once() -> Any:
                return along([linalg.cho_factor(factor) for factor in factors], linalg.cho_solve, b)

            return {
                "scipy: Cholesky a factor": (
                    once,
                    _kept([linalg.cho_factor(factor) for factor in factors], linalg.cho_solve, b),
                )
            }
        case "kronecker_slogdet":
            return {"numpy: slogdet a factor": (lambda: _determinant(factors), None)}
        case "kronecker_noise":

            def solve(made: Any) -> Any:
                (one, two, three), bases = zip(*made)
                values = (one[:, None, None] * two[:, None] * three).reshape(-1) + NOISE
                y = along([basis.T for basis in bases], np.matmul, b) / values
                return along(bases, np.matmul, y)

            made = [np.linalg.eigh(factor) for factor in factors]
            return {
                "numpy: eigh a factor": (
                    lambda: solve([np.linalg.eigh(factor) for factor in factors]),
                    lambda: solve(made),
                )
            }
        case "kronecker_noise_logdet":

            def logdet() -> Any:
                one, two, three = map(np.linalg.eigvalsh, factors)
                return np.log((one[:, None, None] * two[:, None] * three) + NOISE).sum()

            return {"numpy: eigvalsh a factor": (logdet, None)}
        case "poisson":
            return _poisson(b)
        case "block_diag":
            blocks, x = arrays["blocks"], b.reshape(64, 64, -1)
            inverses = np.linalg.inv(blocks)
            return {
                "numpy: batched solve": (
                    lambda: np.linalg.solve(blocks, x).reshape(b.shape),
                    lambda: (inverses @ x).reshape(b.shape),
                )
            }
        case "toeplitz" | "toeplitz_definite":
            pair = arrays["c"], arrays.get("r", arrays["c"])
            return {"scipy: solve_toeplitz": (lambda: linalg.solve_toeplitz(pair, b),) * 2}
        case "tridiagonal":
            diagonals = arrays["lower"], arrays["diagonal"], arrays["upper"]
            factored = linalg.lapack.dgttrf(*diagonals)[:5]
            return {
                "scipy: lapack.dgtsv": (
                    lambda: linalg.lapack.dgtsv(*diagonals, b)[3],
                    lambda: linalg.lapack.dgttrs(*factored, b)[0],
                )
            }
        case "low_rank":
            return {"numpy: Woodbury": _woodbury(arrays["U"], arrays["d"], b)}
        case "cg":
            matrix = arrays["matrix"]
            made = linalg.cho_factor(matrix)

            def columns() -> Any:
                return np.stack([sparse_linalg.cg(matrix, one, rtol=RTOL)[0] for one in b.T], 1)

            return {
                "scipy: cg a vector": (columns, columns),
                "scipy: Cholesky": (
                    lambda: linalg.cho_solve(linalg.cho_factor(matrix), b),
                    lambda: linalg.cho_solve(made, b),
                ),
            }
        case "slq":
            matrix = arrays["matrix"]
            return {
                "scipy: Cholesky, exact": (
                    lambda: 2 * np.log(np.diagonal(linalg.cholesky(matrix, lower=True))).sum(),
                    None,
                )
            }
        case "eigsh":
            matrix = _csr(arrays)
            return {
                "scipy: eigsh": (
                    lambda: sparse_linalg.eigsh(matrix, 10, which="LA", return_eigenvectors=False),
                    None,
                )
            }
    return {"scipy": "has none"}


def along(factors: Any, apply: Any, x: Any) -> Any:
    """Each factor's function along an axis of its own: x viewed as 64×64×64, turned by one axis each time."""
    for factor in factors:
        x = apply(factor, x.reshape(64, -1)).T
    return x.reshape(-1)


def _kept(made: Any, apply: Any, b: Any) -> Any:
    return lambda: along(made, apply, b)


def _determinant(factors: Any) -> Any:
    found = [np.linalg.slogdet(factor) for factor in factors]
    return np.prod([sign**4096 for sign, _ in found]), 4096 * sum(log for _, log in found)


def _poisson(b: Any) -> dict[str, Any]:
    n = 256
    line = sparse.diags_array([-np.ones(n - 1), 2 * np.ones(n), -np.ones(n - 1)], offsets=[-1, 0, 1])
    matrix = sparse.kronsum(line, line).tocsc()
    factored = sparse_linalg.splu(matrix)
    one = 2 - 2 * np.cos(np.pi * np.arange(1, n + 1) / (n + 1))
    values = one[:, None] + one

    def sines() -> Any:
        y = fft.dstn(b.reshape(n, n), type=1, norm="ortho") / values
        return fft.dstn(y, type=1, norm="ortho").reshape(-1)

    return {
        "scipy: splu": (lambda: sparse_linalg.splu(matrix).solve(b), lambda: factored.solve(b)),
        "scipy: dstn": (sines, sines),
    }


def _woodbury(U: Any, d: Any, b: Any) -> Any:
    def made() -> Any:
        Z = U / d[:, None]
        return Z, np.eye(U.shape[1]) + U.T @ Z

    def solve(found: Any) -> Any:
        Z, core = found
        y = b / d
        return y - Z @ np.linalg.solve(core, U.T @ y)

    known = made()
    return lambda: solve(made()), lambda: solve(known)


def _csr(arrays: dict[str, Any]) -> Any:
    n = 10**5
    return sparse.coo_array((arrays["values"], (arrays["rows"], arrays["columns"])), (n, n)).tocsr()
