"""`Levinson`: square Toeplitz operators by Levinson's recursion, SciPy's, checked and refined."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy  # whose submodules load when they are first used

from linops.backends import factorizations as lapack
from linops.linalg.inputs import DENSE_LIMIT, singular
from linops.linalg.methods.black_box import BlackBox
from linops.linalg.methods.method import Method
from linops.operator import LinearOperator
from linops.plan.step import Step


class Recursion(BlackBox):
    """First column and row."""

    def prepare(self, A: Any) -> Any:
        """Nothing is made beforehand."""
        return ()

    def run(self, A: Any, prepared: Any, b: Any) -> Any:
        """The recursion, refined once; elimination where a leading minor is singular, or nearly."""

        def solved(b: np.ndarray, c: np.ndarray, r: np.ndarray) -> np.ndarray:
            c, r = (r, c) if A.transposed else (c, r)
            column, row = np.concatenate([c[:1] if not A.transposed else r[:1], c[1:]]), r
            wide = np.result_type(b, c, np.float64)
            pair, right = (column.astype(wide), row.astype(wide)), b.astype(wide)
            x = _recursed(pair, right)
            if x is not None:
                residual = right - _product(pair, x)
                correction = _recursed(pair, residual)
                x = x if correction is None else x + correction
                residual = right - _product(pair, x)
                size = np.abs(pair[0]).sum() + np.abs(pair[1]).sum()
                scale = size * np.linalg.norm(x, axis=0) + np.linalg.norm(right, axis=0)
                if not (np.linalg.norm(residual, axis=0) <= 1e3 * np.finfo(wide).eps * scale).all():
                    x = None
            return (_eliminated(A, pair, right) if x is None else x).astype(b.dtype)

        return lapack.on_numpy(b, solved, (A.c, A.r))


def _recursed(pair: Any, b: np.ndarray) -> np.ndarray | None:
    try:
        with np.errstate(all="ignore"):
            x = scipy.linalg.solve_toeplitz(pair, b, check_finite=False)
    except np.linalg.LinAlgError:
        return None
    return x if np.isfinite(x).all() else None


def _product(pair: Any, x: np.ndarray) -> np.ndarray:
    return scipy.linalg.matmul_toeplitz(pair, x, check_finite=False)


def _eliminated(A: Any, pair: Any, b: np.ndarray) -> np.ndarray:
    if len(b) ** 2 > DENSE_LIMIT:
        raise singular(A, "or a leading minor is, where Levinson's recursion ends; name an iterative method")
    try:
        return np.linalg.solve(scipy.linalg.toeplitz(*pair), b)
    except np.linalg.LinAlgError:
        raise singular(A) from None


@dataclass(frozen=True)
class Levinson(Method):
    """Levinson's recursion for square Toeplitz operators, with a step of refinement by fast products.

    Where a leading minor is singular, which ends the recursion, the matrix is factorised if it is small enough. Cost:
    2 n² MACs a right-hand side and refinement.
    """

    of_structure = True

    def factor(self, A: LinearOperator, kept: bool) -> Recursion:
        """The operator."""
        return Recursion(A)

    def steps(self, A: LinearOperator, batch: int, kept: bool) -> Iterable[Step]:
        """The recursion, twice."""
        n = A.shape[0]
        yield Step(
            "levinson", f"({n}, {n}) \\ ({n}, {batch})", macs=4 * n * n * batch, inputs=n * batch, outputs=n * batch
        )
