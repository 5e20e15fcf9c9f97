"""A @ B: identities, zeros and scalars; neighbouring permutations; flattening.

`compose(A, B)` checks shapes and hands the factors to `meet(A, B)`, which says what two neighbours become: one
operator, or None where they stay two. To add a rule, register a method of `meet`.
"""

from __future__ import annotations

from typing import Any

from linops.algebra.meet import meet
from linops.algebra.scale import times
from linops.checks import require_joinable
from linops.operator import LinearOperator, compose
from linops.operators.identity import Identity
from linops.operators.product import Product
from linops.operators.scaled import Scaled
from linops.operators.wrap import aslinearoperator
from linops.operators.zero import Zero
from linops.tags import Tag


def _factors(a: LinearOperator) -> tuple[LinearOperator, ...]:
    return a.factors if isinstance(a, Product) and a.assumed == Tag.NONE else (a,)


def _join(a: LinearOperator, b: LinearOperator) -> LinearOperator:
    left, right = _factors(a), _factors(b)
    merged = meet(left[-1], right[0])
    if merged is None:
        require_joinable("Product", left, right)
        return Product._unchecked(factors=left + right)
    while merged is not None:
        left, right = left[:-1], right[1:]
        if not isinstance(merged, Identity):
            right = (merged, *right)
        merged = meet(left[-1], right[0]) if left and right else None
    factors = left + right
    if not factors:
        return Identity(a.shape[0])
    return factors[0] if len(factors) == 1 else Product(factors)


def _is_bare(a: LinearOperator) -> bool:
    """Whether nothing in an operator takes part in the dtype of a product: no array, no number, nothing complex."""
    return a.backend is None and not a._numbers and not a._is_complex


@compose.dispatch
def _compose(a: LinearOperator, b: LinearOperator):
    if a.shape[1] != b.shape[0]:
        raise ValueError(f"{a._short()} @ {b._short()}: the inner sizes {a.shape[1]} and {b.shape[0]} differ")
    if isinstance(a, Identity):
        return b
    if isinstance(b, Identity):
        return a
    if a._is_zero or b._is_zero:
        return Zero(a.shape[0], b.shape[1]) if _is_bare(a) and _is_bare(b) else Product((a, b))
    if isinstance(a, Scaled) and a.assumed == Tag.NONE:
        return times([a], compose(a.base, b))
    if isinstance(b, Scaled) and b.assumed == Tag.NONE:
        return times([b], compose(a, b.base))
    return _join(a, b)


@compose.dispatch
def _compose_with(a: LinearOperator, b: Any):
    return compose(a, aslinearoperator(b))


@compose.dispatch
def _compose_after(a: Any, b: LinearOperator):
    return compose(aslinearoperator(a), b)
