"""A ** k."""

from __future__ import annotations

from linops.operator import LinearOperator, power
from linops.operators.identity import Identity
from linops.operators.power import Power
from linops.tags import Tag


@power.dispatch
def _power(a: LinearOperator, exponent: int):
    if a.shape[0] != a.shape[1]:
        raise ValueError(f"{a._short()} ** {exponent}: powers need a square operator")
    if exponent < 0:
        raise ValueError(f"{a._short()} ** {exponent}: negative powers need an inverse; the exponent must be at least 0")
    if exponent == 0:
        return Identity(a.shape[0])
    if exponent == 1 or isinstance(a, Identity):
        return a
    if isinstance(a, Power) and a.assumed == Tag.NONE:
        return Power(a.base, a.exponent * exponent)
    return Power(a, exponent)
