"""The determinant of a positive definite Toeplitz operator, by the prediction errors of Levinson's recursion."""

from __future__ import annotations

from typing import Any

import numpy as np

from linops.linalg.determinants import slogdet_
from linops.linalg.inputs import fits, matrix_of, singular, widened
from linops.operators.toeplitz import Toeplitz
from linops.plan.step import Step
from linops.tags import Tag

#: up to this size Cholesky's blocks are faster than as many passes over one vector
SMALL = 512


def _steps(a: Toeplitz) -> Any:
    n = a.shape[0]
    return (Step("levinson", f"({n},)", macs=n * n, inputs=n),)


@slogdet_.rule(
    "logarithms of prediction errors, by Levinson's recursion",
    of="positive definite, NumPy's, large",
    when=lambda a: a.backend == "numpy" and a.shape[0] > SMALL and Tag.POSITIVE_DEFINITE in a.tags.yes,
    steps=_steps,
    cost="n²",
)
def _slogdet_toeplitz(a: Toeplitz):
    """Π E_k, of E_k the error of predicting a stationary number from the k before it.

    Source: Golub & Van Loan, Matrix Computations, §4.7.2.
    """
    c = widened(a, a.c)
    errors = _prediction_errors(c)
    if errors is None:  # what was declared does not hold
        if not fits(a):
            raise singular(a, "it is not positive definite as it is declared, and too large to be factorised")
        return np.linalg.slogdet(matrix_of(a))
    return c.dtype.type(1), np.log(errors).sum()


def _prediction_errors(c: Any) -> np.ndarray | None:
    """E_0 … E_{n-1} of a Hermitian Toeplitz matrix with first column c; None where one is not positive."""
    n = c.shape[0]
    errors, filters, error = np.empty(n, c.real.dtype), np.zeros(n, c.dtype), c[0].real
    filters[0] = 1
    for k in range(n):
        if k:
            reflection = -(filters[:k] @ c[k:0:-1]) / error
            filters[: k + 1] += reflection * filters[k::-1].conj()
            error = error * (1 - abs(reflection) ** 2)
        if not error > 0:
            return None
        errors[k] = error
    return errors
