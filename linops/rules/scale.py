"""c A: numbers multiply, and 1 vanishes."""

from __future__ import annotations

from numbers import Complex, Number, Real
from typing import Any

import numpy as np

from linops.operator import LinearOperator, scale
from linops.operators.dense import aslinearoperator
from linops.operators.scaled import Scaled
from linops.tags import Tag


@scale.dispatch
def _scale(scalar: Any, a: LinearOperator):
    number: Any
    base, number, gain = (a.base, a.number, a.gain) if isinstance(a, Scaled) and a.assumed == Tag.NONE else (a, 1, None)
    if isinstance(scalar, np.generic):
        scalar = scalar.item()  # a NumPy scalar is a number, and as weak as Python's
    if isinstance(scalar, Number) and not isinstance(scalar, (int, float, complex)):
        # a Fraction or Decimal, which arrays would turn into objects, or a long double
        real = isinstance(scalar, Real) or not isinstance(scalar, Complex)
        scalar = float(scalar) if real else complex(scalar)  # type: ignore[arg-type]
    if isinstance(scalar, Number):
        number = number * scalar  # type: ignore[operator]
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
