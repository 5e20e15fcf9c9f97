"""Tridiagonal operators: determinants by elimination."""

from __future__ import annotations

from typing import Any

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.determinants import slogdet_
from linops.linalg.inputs import widened
from linops.linalg.parts import space_of
from linops.operators.tridiagonal import Tridiagonal
from linops.plan.step import Step


def _steps(a: Tridiagonal) -> Any:
    n = a.shape[0]
    return (Step("tridiagonal lu", f"({n}, 3)", other_flops=6 * n, inputs=3 * n),)


@slogdet_.rule("elimination with pivoting", steps=_steps, cost="n")
def _slogdet_tridiagonal(a: Tridiagonal):
    lower, diag, upper = (widened(a, one) for one in (a.lower, a.diag, a.upper))
    dtype = backends.result_type(a.backend, lower.dtype, diag.dtype, upper.dtype)
    lower, diag, upper = (space_of(one).astype(one, dtype) for one in (lower, diag, upper))
    return lapack.tridiagonal_slogdet(diag, lower, upper)
