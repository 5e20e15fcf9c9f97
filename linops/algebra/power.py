"""A ** k."""

from __future__ import annotations

from linops.algebra.meet import meet
from linops.hooks import inverted, power
from linops.operator import LinearOperator
from linops.operators.identity import Identity
from linops.operators.permutation import Permutation
from linops.operators.power import Power
from linops.operators.squaring import squared
from linops.tags import Tag


@power.dispatch
def _power(a: LinearOperator, exponent: int):
    if a.shape[0] != a.shape[1]:
        raise ValueError(f"{a._short()} ** {exponent}: powers need a square operator")
    if exponent < 0:
        return inverted(a) ** -exponent
    if exponent == 0:
        return Identity(a.shape[0])
    if exponent == 1 or a._is_zero or isinstance(a, Identity):
        return a
    if isinstance(a, Permutation):
        found = _permuted(a, exponent)
        if found is not None:
            return found
    if isinstance(a, Power) and a.assumed == Tag.NONE:
        return Power(a.base, a.exponent * exponent)
    return Power(a, exponent)


def _permuted(a: Permutation, exponent: int) -> LinearOperator | None:
    """The power of a permutation as one; None where the axes of a permutation of axes have no common refinement."""

    def times(one: LinearOperator | None, other: LinearOperator | None) -> LinearOperator | None:
        if isinstance(one, Identity) or isinstance(other, Identity):
            return other if isinstance(one, Identity) else one
        return None if one is None or other is None else meet(one, other)

    return squared(a, exponent, times)
