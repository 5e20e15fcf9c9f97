"""`Levinson`: square Toeplitz operators by iteration where that is fast, else by Levinson's recursion, checked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy  # whose submodules load when they are first used

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.inputs import DENSE_LIMIT, singular
from linops.linalg.methods.black_box import BlackBox
from linops.linalg.methods.circulants import LEAST, Spectra, iterated, spectra
from linops.linalg.methods.method import Method
from linops.operator import LinearOperator
from linops.plan.step import Step
from linops.tags import Tag


class Recursion(BlackBox):
    """First column and row, and their transforms."""

    def prepare(self, A: Any) -> Any:
        """The transforms with which iteration multiplies, where there are numbers."""
        if not lapack.is_known(A.c):
            return None
        return _prepared(A, *[backends.to_numpy(lapack.stop_gradient(one)) for one in (A.c, A.r)])

    def run(self, A: Any, prepared: Any, b: Any) -> Any:
        """Iteration; the recursion, refined once; elimination where a leading minor is singular, or nearly."""

        def solved(b: np.ndarray, *leaves: np.ndarray) -> np.ndarray:
            pair, made = _prepared(A, *leaves) if prepared is None else prepared
            right = b.astype(np.result_type(b, pair[0]))
            x = iterated(made, right) if made else None
            x = _refined(pair, right) if x is None else x
            return (_eliminated(A, pair, right) if x is None else x).astype(b.dtype, copy=False)

        return lapack.on_numpy(b, solved, (A.c, A.r) if prepared is None else ())


def _prepared(A: Any, c: np.ndarray, r: np.ndarray) -> tuple[Any, Spectra | None]:
    """The first column and row in double precision, and their transforms."""
    wide, corner = np.result_type(c, r, np.float64), c[:1]
    c, r = (r, c) if A.transposed else (c, r)
    column, row = (np.concatenate([corner, one[1:]]).astype(wide) for one in (c, r))
    return (column, row), spectra(column, row, Tag.POSITIVE_DEFINITE in A.tags.yes)


def _refined(pair: Any, b: np.ndarray) -> np.ndarray | None:
    """By the recursion and a step of refinement; None where that leaves a residual."""
    x = _recursed(pair, b)
    if x is None:
        return None
    correction = _recursed(pair, b - _product(pair, x))
    x = x if correction is None else x + correction
    residual = b - _product(pair, x)
    size = np.abs(pair[0]).sum() + np.abs(pair[1]).sum()
    scale = size * np.linalg.norm(x, axis=0) + np.linalg.norm(b, axis=0)
    return x if (np.linalg.norm(residual, axis=0) <= 1e3 * np.finfo(b.dtype).eps * scale).all() else None


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
    """Square Toeplitz operators: iteration with fast products, or Levinson's recursion with a step of refinement.

    From 512 unknowns on the former is tried: conjugate gradients if A is known to be positive definite, else GMRES,
    with T. Chan's circulant as preconditioner, until the residual is of the order of rounding. Where that is not
    reached in 40 steps, three times, the recursion runs. Where a leading minor is singular, which ends the recursion,
    the matrix is factorised if it is small enough. Cost: some ten products and Fourier transforms a right-hand side; or
    4 n² MACs.
    """

    of_structure = True

    def factor(self, A: LinearOperator, kept: bool) -> Recursion:
        """The operator."""
        return Recursion(A)

    def steps(self, A: LinearOperator, batch: int, kept: bool) -> Iterable[Step]:
        """Some ten products and preconditioners, as if it converged so; of few unknowns the recursion, twice."""
        n = A.shape[0]
        name = f"({n}, {n}) \\ ({n}, {batch})"
        if n >= LEAST:
            length = 2 * n
            flops = 10 * batch * 5 * (length * length.bit_length() + n * n.bit_length())
            yield Step("iterate, some 10 steps", name, other_flops=flops, inputs=10 * n * batch, outputs=n * batch)
        else:
            yield Step("levinson", name, macs=4 * n * n * batch, inputs=n * batch, outputs=n * batch)
