"""Solvers that are black boxes: a library's routine on numbers, differentiated by the equation that it solves."""

from __future__ import annotations

from typing import Any

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.methods.method import Factor
from linops.linalg.parts import is_constant
from linops.operator import LinearOperator


class BlackBox(Factor):
    """An operator and what a routine made of its numbers; A⁻ᵀ has its own where the routine cannot turn round."""

    transpose: Any
    operator: Any

    def __init__(self, A: LinearOperator, kept: bool = True) -> None:
        self.operator, self.transpose = A, A.T
        self.is_constant: bool = is_constant(A)
        self._known: dict[int, Any] = {}

    def prepare(self, A: Any) -> Any:
        """What the routine makes of an operator of numbers."""
        raise NotImplementedError

    def run(self, A: Any, prepared: Any, b: Any) -> Any:
        """A⁻¹ b of numbers."""
        raise NotImplementedError

    def solve(self, b: Any, transposed: bool) -> Any:
        """A⁻¹ b or A⁻ᵀ b."""
        A = self.transpose if transposed else self.operator
        dtype = backends.result_type(backends.backend_of(b), b.dtype, A.dtype)
        b = b if b.dtype == dtype else backends.namespace(backends.backend_of(b)).astype(b, dtype)
        if self.is_constant and lapack.is_constant(b):
            return self._solved(A, b)[0]
        # of one dtype: JAX knows the shape of a gradient from it
        return lapack.implicit_solve(b, A if A.dtype in (None, dtype) else A.to(dtype=dtype), self._solved)[0]

    def _solved(self, A: Any, b: Any) -> tuple[Any, tuple[()]]:
        if A is not self.operator and A is not self.transpose:
            return self.run(A, self.prepare(A), b), ()
        if id(A) not in self._known:
            prepared = self.prepare(A)
            if not (self.is_constant and lapack.is_constant(b)):
                return self.run(A, prepared, b), ()
            self._known[id(A)] = prepared
        return self.run(A, self._known[id(A)], b), ()
