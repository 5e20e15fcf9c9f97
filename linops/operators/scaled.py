"""Scaled: a number times an operator."""

from __future__ import annotations

from cmath import isfinite
from typing import Any

import numpy as np

from linops import backends
from linops.declaration import declare, remembered, scalar, tree
from linops.operator import LinearOperator
from linops.operators.outputs import below
from linops.plan.step import Step
from linops.tags import Knowledge, Tag


@declare
class Scaled(LinearOperator):
    """The operator c A, made by ``*``, with c = number · gain.

    Cost: that of A, and a multiplication per number of the smaller side of A.

    Attributes:
        base: A.
        number: A Python number: structure, not a parameter. `jax.jit` compiles anew for another one.
        gain: A 0-d array, which is a parameter, or None. In JAX a number that is an argument of a compiled function is
            one.
        divisor: Where the number is the rounded reciprocal of another and there is no gain, that one: products divide
            by it, as exactly as NumPy; None otherwise.

    Raises:
        TypeError: If backends are mixed.

    Example:
        >>> import linops as lo, numpy as np
        >>> (2 * lo.Identity(2)) @ np.ones(2)
        array([2., 2.])
    """

    base: LinearOperator = tree()
    number: Any = scalar(default=1)
    gain: Any = tree(axes=0, default=None)
    divisor: Any = scalar(default=None)

    def __post_init__(self) -> None:
        if self.gain is None:
            return
        gain, base = backends.backend_of(self.gain), self.base.backend
        if not {gain, base} & {None, "spec"} and gain != base:
            raise TypeError(f"Scaled: a {gain} scalar times {self.base._short()}: mixed backends")

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        return self.base.shape

    @remembered
    def dtype(self) -> Any:
        """The dtype of A, or what it and the scalar promote to."""
        base: Any = self.base
        inner = []
        while isinstance(base, Scaled) and "dtype" not in base.__dict__:
            inner.append(base)
            base = base.base
        for scaled in reversed(inner):  # from the inside: multiples may be nested deeper than Python's stack
            _ = scaled.dtype
        if self._weak is not None:
            dtype = None if self.base.dtype is None else backends.result_type(self.backend, self.base.dtype, self._weak)
        else:
            dtype = LinearOperator.dtype.function(self)
        return dtype if dtype is None or self._is_one else backends.result_type(self.backend, dtype, self.number)

    @property
    def _weak(self) -> Any:
        """A Python number that promotes as a weakly typed gain does, as a number that JAX traces; else None."""
        return backends.weak_number(self.gain)

    @remembered
    def _numbers(self) -> tuple[Any, ...]:
        weak = self._weak
        return (self.number, *(() if weak is None else (weak,)), *self.base._numbers)

    @remembered
    def _is_complex(self) -> bool:
        return isinstance(self.number, complex) or LinearOperator._is_complex.function(self)

    @remembered
    def _meets_real(self) -> bool:
        return self.base._meets_real

    @property
    def _is_one(self) -> bool:
        """Whether the number says nothing, not even a dtype."""
        return self.number == 1 and type(self.number) is int

    @remembered
    def _aliases(self) -> bool:
        return self._is_one and self.gain is None and self.base._aliases

    @property
    def _prefers_rows(self) -> bool:
        return self.base._prefers_rows

    @property
    def _first(self) -> bool:
        """Whether to scale the operand, not the result: where it is cheaper, exact, and makes nothing real complex."""
        return self.shape[1] < self.shape[0] and self.divisor is None and not isinstance(self.number, complex)

    def _scales_operand(self, x: Any) -> bool:
        """Whether to scale this operand: of another dtype (uint8 of images) it may overflow, and the result not."""
        return self._first and x.dtype == self.dtype

    def _scale(self, x: Any) -> Any:
        if self.gain is not None:
            x = self.gain * x
        if self.divisor is not None:
            return x / self.divisor
        return x if self._is_one else _fitting(self.number, x.dtype) * x

    def _columns(self, x: Any) -> Any:
        return self.base._columns(self._scale(x)) if self._scales_operand(x) else self._scale(self.base._columns(x))

    def _rows(self, x: Any) -> Any:
        return self.base._rows(self._scale(x)) if self._scales_operand(x) else self._scale(self.base._rows(x))

    def _transpose(self) -> Scaled:
        return Scaled(self.base.T, self.number, self.gain, self.divisor)

    def _conj(self) -> Scaled:
        gain = None if self.gain is None else backends.conj(self.gain)
        divisor = None if self.divisor is None else self.divisor.conjugate()
        return Scaled(self.base.conj(), self.number.conjugate(), gain, divisor)

    def _lower(self, batch: int) -> tuple[Step, ...]:
        side = self.shape[1] if self._first else self.shape[0]
        size = side * batch
        scalars = 0 if self.gain is None else 1
        scaling = Step("scale", f"({side}, {batch})", other_flops=size, inputs=size, weights=scalars, outputs=size)
        steps = self.base._lower(batch)
        return (scaling, *steps) if self._first else (*steps, scaling)

    def _output_leaves(self) -> tuple[str, ...]:
        return below("base", self.base) or (("gain",) if self.gain is not None else ())

    def _knowledge(self) -> Knowledge:
        known, number = self.base.tags, self.number
        kept = Tag.SYMMETRIC | Tag.LOWER_TRIANGULAR | Tag.UPPER_TRIANGULAR | Tag.DIAGONAL
        if self.gain is not None:
            return Knowledge(known.yes & kept)
        if not isfinite(number):
            return Knowledge(known.yes & kept)
        if isinstance(number, complex) and number.imag != 0:
            yes, no = known.yes & (kept | Tag.INVERTIBLE), known.no & (Tag.SYMMETRIC | Tag.INVERTIBLE)
            return Knowledge(yes | (known.yes & Tag.ORTHOGONAL if abs(number) == 1 else Tag.NONE), no)
        number = number.real
        kept |= Tag.HERMITIAN
        if not number:
            return Knowledge(known.yes & kept)
        kept |= Tag.INVERTIBLE
        if number > 0:
            kept |= Tag.POSITIVE_SEMIDEFINITE | Tag.POSITIVE_DEFINITE
        no = known.no & kept
        if number < 0 and Tag.POSITIVE_DEFINITE in known.yes and self.shape[0]:
            no |= Tag.POSITIVE_SEMIDEFINITE
        if abs(number) == 1:
            kept |= Tag.ORTHOGONAL
        return Knowledge(known.yes & kept, no)

    def _detail(self) -> str:
        number = f"{self.number:g}" if not isinstance(self.number, complex) else f"{self.number}"
        if self.gain is None:
            return number
        return "gain" if type(self.number) is int and self.number == 1 else f"{number} · gain"


def _fitting(number: Any, dtype: Any) -> Any:
    """A number, wrapped around where integers of the dtype do not hold it: as torch and JAX do, and NumPy does not."""
    if type(number) is not int or getattr(dtype, "kind", "") not in ("i", "u"):
        return number
    least = int(np.iinfo(dtype).min)
    return (number - least) % 2 ** (8 * dtype.itemsize) + least
