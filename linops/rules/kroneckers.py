"""Kronecker products: nested ones are one, fitting ones multiply and add by factors (the mixed-product property)."""

from __future__ import annotations

from itertools import accumulate
from operator import mul
from typing import Any

from linops.operator import LinearOperator, add, assume
from linops.operators.diagonal import Diagonal
from linops.operators.identity import Identity
from linops.operators.kronecker import Kronecker
from linops.operators.kronecker_sum import KroneckerSum
from linops.operators.permutation import Permutation
from linops.operators.product import Product
from linops.operators.scaled import Scaled
from linops.operators.zero import Zero
from linops.rules.functions import absorb, join, merge, reduce
from linops.rules.guard import affordable
from linops.rules.pairs import absorbed, computable, multiplied, total
from linops.rules.permutes import kron_of_permutations
from linops.rules.scalars import first_that_absorbs, times
from linops.sameness import same
from linops.specs import spec

# ---------------------------------------------------------------- neighbours


@merge.dispatch
def _merge_kroneckers(a: Kronecker, b: Kronecker):
    # (A ⊗ B)(C ⊗ D) = AC ⊗ BD, on the finest grouping of the factors whose sizes fit
    pairs = _fitting(a.factors, b.factors)
    if len(pairs) < 2:
        return None
    found = [multiplied(one, other) for one, other in pairs]
    if not any(found):
        return None
    products = [Product(pair) for pair in pairs]
    return Kronecker(
        [whole if merged is None else _known(merged.after, whole) for merged, whole in zip(found, products)]
    )


def _known(after: LinearOperator, before: LinearOperator) -> LinearOperator:
    """What a factor became, with what was known of it."""
    tags = before.tags.yes & ~after.tags.yes
    return assume(after, tags) if tags else after


def _fitting(a: tuple[Any, ...], b: tuple[Any, ...]) -> list[tuple[LinearOperator, LinearOperator]]:
    """The factors in groups, so that the columns of each group of one are the rows of that of the other."""
    ends_a = list(accumulate((factor.shape[1] for factor in a), mul))
    ends_b = list(accumulate((factor.shape[0] for factor in b), mul))
    if not ends_a[-1]:
        return []
    pairs, i, j = [], 0, 0
    while i < len(a) and j < len(b):
        stop_a, stop_b = i, j
        while ends_a[stop_a] != ends_b[stop_b]:
            if ends_a[stop_a] < ends_b[stop_b]:
                stop_a += 1
            else:
                stop_b += 1
            if stop_a == len(a) or stop_b == len(b):
                return []
        pairs.append((_kron(a[i : stop_a + 1]), _kron(b[j : stop_b + 1])))
        i, j = stop_a + 1, stop_b + 1
    if i < len(a) or j < len(b):  # factors of one column, or one row, are left over
        return []
    return pairs


def _kron(factors: tuple[Any, ...]) -> LinearOperator:
    return factors[0] if len(factors) == 1 else Kronecker(factors)


@join.dispatch
def _join_kroneckers(a: Kronecker, b: Kronecker):
    # A ⊗ B + A ⊗ C = A ⊗ (B + C)
    if [factor.shape for factor in a.factors] != [factor.shape for factor in b.factors]:
        return None
    differ = [place for place, pair in enumerate(zip(a.factors, b.factors)) if not same(*pair)]
    if len(differ) != 1:
        return None
    factors, place = list(a.factors), differ[0]
    factors[place] = add(factors[place], b.factors[place])
    return Kronecker(factors)


# ---------------------------------------------------------------- one operator


@reduce.dispatch
def _reduce_kronecker(a: Kronecker):
    if any(factor._is_zero for factor in a.factors):
        return Zero(*a.shape)
    factors: list[LinearOperator] = []
    for factor in a.factors:
        for inner in factor.factors if isinstance(factor, Kronecker) else (factor,):
            joined = _neighbours(factors[-1], inner) if factors else None
            if joined is None:
                factors.append(inner)
            else:
                factors[-1] = joined
    if len(factors) == 1:
        return factors[0]
    if len(factors) < len(a.factors) or any(isinstance(factor, Kronecker) for factor in a.factors):
        return Kronecker(factors)
    scaled = [factor for factor in factors if isinstance(factor, Scaled)]
    if not scaled:
        return None
    return times(scaled, Kronecker([factor.base if isinstance(factor, Scaled) else factor for factor in factors]))


def _neighbours(a: LinearOperator, b: LinearOperator) -> LinearOperator | None:
    """A ⊗ B as one operator of their kind, or None."""
    for one, other in ((a, b), (b, a)):
        if isinstance(one, Identity) and one.size == 1:
            return other
    if isinstance(a, (Identity, Permutation)) and isinstance(b, (Identity, Permutation)):
        return kron_of_permutations(a, b)
    if isinstance(a, Diagonal) and isinstance(b, Diagonal):
        m, n = a.shape[0], b.shape[0]
        if computable(Kronecker((a, b))) and affordable(Diagonal(spec(m * n)), Kronecker((a, b))):
            return Diagonal((a.diagonal[:, None] * b.diagonal).reshape(m * n))
    return None


# ---------------------------------------------------------------- scalars


@absorb.dispatch
def _absorb_kronecker(a: Kronecker, scalar: Any):
    factors = first_that_absorbs(a.factors, scalar)
    return None if factors is None else Kronecker(factors)


# ---------------------------------------------------------------- Kronecker sums


@join.dispatch
def _join_kronecker_sums(a: KroneckerSum, b: KroneckerSum):
    if [factor.shape for factor in a.factors] != [factor.shape for factor in b.factors]:
        return None
    return KroneckerSum([total(one, other) for one, other in zip(a.factors, b.factors)])


@reduce.dispatch
def _reduce_kronecker_sum(a: KroneckerSum):
    if len(a.factors) == 1:
        return a.factors[0]
    if all(isinstance(factor, Identity) for factor in a.factors):
        return Scaled(Identity(a.shape[0]), len(a.factors))
    return Zero(*a.shape) if all(factor._is_zero for factor in a.factors) else None


@absorb.dispatch
def _absorb_kronecker_sum(a: KroneckerSum, scalar: Any):
    factors = [absorbed(factor, scalar) for factor in a.factors]
    return None if None in factors else KroneckerSum(factors)
