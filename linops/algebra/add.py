"""A + B: zeros vanish, nested sums are one."""

from __future__ import annotations

from typing import Any

from linops.checks import require_joinable
from linops.operator import LinearOperator, add
from linops.operators.sum import Sum
from linops.operators.wrap import aslinearoperator
from linops.tags import Tag


@add.dispatch
def _add_operators(a: LinearOperator, b: LinearOperator):
    if a.shape != b.shape:
        raise ValueError(f"{a._short()} + {b._short()}: the shapes differ")
    if b._is_zero:
        return a
    if a._is_zero:
        return b
    left, right = _terms(a), _terms(b)
    require_joinable("Sum", left, right)
    return Sum._unchecked(terms=left + right)


@add.dispatch
def _add_to_operator(a: LinearOperator, b: Any):
    return add(a, aslinearoperator(b))


@add.dispatch
def _add_operator_to(a: Any, b: LinearOperator):
    return add(aslinearoperator(a), b)


def _terms(a: LinearOperator) -> tuple[LinearOperator, ...]:
    return a.terms if isinstance(a, Sum) and a.assumed == Tag.NONE else (a,)
