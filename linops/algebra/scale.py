"""c A and A / c: numbers multiply, and 1 vanishes."""

from __future__ import annotations

from collections.abc import Iterable
from math import copysign, frexp, inf, nan
from numbers import Complex, Number, Real
from typing import Any

import numpy as np

from linops import backends
from linops.operator import LinearOperator, divide, scale
from linops.operators.scaled import Scaled
from linops.operators.wrap import aslinearoperator
from linops.tags import Tag


@scale.dispatch
def _scale(scalar: Any, a: LinearOperator):
    number: Any
    base, number, gain = (a.base, a.number, a.gain) if isinstance(a, Scaled) and a.assumed == Tag.NONE else (a, 1, None)
    scalar = _python_number(scalar)
    if isinstance(scalar, Number):
        if backends.is_traced(gain):  # the structure stays the same, as a carry of jax.lax.scan must
            return Scaled(base, number, scalar * gain)  # type: ignore[operator]
        number = number * scalar
    elif gain is None:
        gain = scalar
    else:
        return Scaled(a, 1, scalar)
    if gain is None and type(number) is int and number == 1:
        return base
    return Scaled(base, number, gain)


@scale.dispatch
def _scale_array(scalar: Any, a: Any):
    return scale(scalar, aslinearoperator(a))


@divide.dispatch
def _divide(a: LinearOperator, scalar: Any):
    scalar = _python_number(scalar)
    if not isinstance(scalar, Number):
        return scale(_reciprocal_array(a, scalar), a)
    divisor: Any = scalar if isinstance(scalar, complex) else float(scalar)  # type: ignore[arg-type]
    if isinstance(a, Scaled) and a.assumed == Tag.NONE and backends.is_traced(a.gain):
        return Scaled(a.base, a.number, a.gain / divisor, a.divisor)
    if isinstance(a, Scaled) and a.assumed == Tag.NONE and not a._is_one:
        return Scaled(a.base, _quotient(a.number, divisor), a.gain)
    if isinstance(a, Scaled) and a.assumed == Tag.NONE:
        return Scaled(a.base, _quotient(1, divisor), a.gain)
    exact = not isinstance(divisor, complex) and abs(frexp(divisor)[0]) == 0.5  # a power of two
    return Scaled(a, _quotient(1, divisor), None, None if exact else divisor)


def times(scalars: Iterable[Scaled], operator: LinearOperator) -> LinearOperator:
    """The operator times the scalars of multiples.

    Args:
        scalars: Multiples of any operators.
        operator: An operator.

    Returns:
        The multiple.
    """
    for scaled in scalars:
        if scaled.gain is not None:
            operator = scale(scaled.gain, operator)
        operator = scale(scaled.number, operator)
    return operator


def _python_number(scalar: Any) -> Any:
    """A number as Python's int, float or complex; arrays as they are."""
    if isinstance(scalar, np.generic):
        scalar = scalar.item()  # a NumPy scalar is a number, and as weak as Python's
    if isinstance(scalar, Number) and not isinstance(scalar, (int, float, complex)):
        # a Fraction or Decimal, which arrays would turn into objects, or a long double
        real = isinstance(scalar, Real) or not isinstance(scalar, Complex)
        return float(scalar) if real else complex(scalar)  # type: ignore[arg-type]
    return scalar


def _quotient(number: Any, divisor: Any) -> Any:
    """The quotient of Python numbers, where the divisor is zero as NumPy has it."""
    if divisor != 0:
        return number / divisor
    if isinstance(number, complex) or isinstance(divisor, complex):
        return complex(nan, nan)
    return number * copysign(inf, divisor)


def _reciprocal_array(a: LinearOperator, scalar: Any) -> Any:
    """1 / c of a 0-d array c, in the precision of the quotient: c's own may be narrower than that of A."""
    backend = backends.backend_of(scalar)
    if backend in (None, "spec") or a.backend not in (None, backend) or backends.weak_number(scalar) is not None:
        return 1 / scalar
    own = () if a.dtype is None else (backends.real_dtype(a.dtype, backend),)
    dtype = backends.result_type(backend, *own, scalar.dtype)
    if not backends.is_inexact(dtype):
        dtype = backends.result_type(backend, dtype, 1.0)
    reciprocal = 1 / backends.namespace(backend).astype(scalar, dtype)
    return np.asarray(reciprocal) if isinstance(reciprocal, np.generic) else reciprocal  # of a 0-d array
