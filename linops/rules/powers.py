"""Powers: of what multiplies itself to one operator, by repeated squaring."""

from __future__ import annotations

from cmath import isfinite

from linops import backends
from linops.operator import LinearOperator, scale
from linops.operators.identity import Identity
from linops.operators.power import Power
from linops.operators.scaled import Scaled
from linops.rules.functions import reduce
from linops.rules.pairs import multiplied


@reduce.dispatch
def _reduce_power(a: Power):
    base, exponent = a.base, a.exponent
    if isinstance(base, Identity):
        return base
    if isinstance(base, Power):
        return Power(base.base, base.exponent * exponent)
    if isinstance(base, Scaled) and base.gain is None:
        number = base.number
        if isinstance(number, int) and (exponent > 1024 or not _fits(number, exponent, base.base)) and abs(number) > 1:
            return None
        try:
            power = number**exponent
        except OverflowError:  # of Python's floats
            return None
        return (
            scale(power, Power(base.base, exponent))
            if (power != 0) == (number != 0) and isfinite(power) == isfinite(number)
            else None
        )
    return _squared(base, exponent)


def _fits(number: int, exponent: int, base: LinearOperator) -> bool:
    """Whether an integer's power is a number of the dtype of an operator's products: integers might wrap around."""
    bits = exponent * number.bit_length()
    return bits < 1024 if base.dtype is not None and backends.is_inexact(base.dtype) else bits < 7


def _squared(base: LinearOperator, exponent: int) -> LinearOperator | None:
    """A ** k by squaring, if every product on the way is one operator."""
    result, square = None, base
    while True:
        if exponent % 2:
            result = square if result is None else _times(result, square)
            if result is None:
                return None
        exponent //= 2
        if not exponent:
            return result
        square = _times(square, square)
        if square is None:
            return None


def _times(a: LinearOperator, b: LinearOperator) -> LinearOperator | None:
    found = multiplied(a, b)
    return None if found is None else found.after
