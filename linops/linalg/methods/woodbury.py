"""`Woodbury`: a sum of something easy to solve with and something of low rank."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.errors import SingularError
from linops.linalg.inputs import fits, matrices_of, require_no_zero
from linops.linalg.methods.lu import LUFactor, factored_steps
from linops.linalg.methods.method import Factor, Method
from linops.operator import LinearOperator, flat
from linops.operators.dense import Dense
from linops.operators.low_rank import LowRank
from linops.operators.product import Product
from linops.operators.scaled import Scaled
from linops.operators.sum import Sum
from linops.plan.step import Step, matmul_step
from linops.specs import Spec

#: by how much numbers may exceed their difference, and the capacitance matrix enlarge errors, without refinement
CANCELS = 100.0


class Split(NamedTuple):
    """A sum S + Σ U_k V_k.

    Attributes:
        rest: S.
        pairs: (U, V) of each term of low rank, as operators.
        rank: The sum of the ranks.
    """

    rest: LinearOperator
    pairs: tuple[tuple[LinearOperator, LinearOperator], ...]
    rank: int


def split(A: Any) -> Split | None:
    """A sum as something and something of low rank; None where it is none."""
    pairs, rest, rank = [], [], 0
    for term in A.terms:
        pair = _narrow(term)
        if pair is None:
            rest.append(term)
        else:
            pairs.append(pair)
            rank += pair[0].shape[1]
    if not pairs or not rest or 2 * rank > A.shape[0]:
        return None
    return Split(rest[0] if len(rest) == 1 else Sum(tuple(rest)), tuple(pairs), rank)


def _narrow(term: LinearOperator) -> tuple[LinearOperator, LinearOperator] | None:
    """(U, V) of a term of low rank."""
    if isinstance(term, LowRank):
        return Dense(term.U), Dense(term.V)
    if isinstance(term, Scaled):
        pair = _narrow(term.base)
        return None if pair is None else (Scaled(pair[0], term.number, term.gain, term.divisor), pair[1])
    if isinstance(term, Product):
        inner = [factor.shape[1] for factor in term.factors[:-1]]
        place = min(range(len(inner)), key=inner.__getitem__)
        if 2 * inner[place] <= term.shape[0]:
            left, right = term.factors[: place + 1], term.factors[place + 1 :]
            return tuple(one[0] if len(one) == 1 else Product(one) for one in (left, right))  # type: ignore[return-value]
    return None


class Updated(Factor):
    """S⁻¹, Z = S⁻¹ U and the LU of C = I + V Z."""

    growth: Any
    core: Any
    inverse: Any

    def __init__(self, A: LinearOperator, inverse: Any) -> None:
        found: Any = split(A)
        self.operator = A
        self.inverse = inverse(found.rest, True)
        left, right = (matrices_of(A, [pair[side] for pair in found.pairs]) for side in (0, 1))
        self.U = left[0] if len(left) == 1 else backends.concatenate(left[0].T, [one.T for one in left[1:]]).T
        self.V = right[0] if len(right) == 1 else backends.concatenate(right[0], right[1:])
        self.Z = flat(self.inverse @ self.U)
        core = backends.eye(self.Z, found.rank, self.Z.dtype) + self.V @ self.Z
        self.core = LUFactor(Dense(core))
        require_no_zero(A, self.core.diagonal, "the capacitance matrix I + V S⁻¹ U is")
        self.is_constant: bool = self.core.is_constant
        self.growth = None  # by how much the capacitance matrix enlarges what rounding leaves
        if self.is_constant:
            squares = [float((abs(one) ** 2).sum()) for one in (core, self.core.inverse())]
            self.growth = (squares[0] * squares[1]) ** 0.5 / max(found.rank, 1)

    def solve(self, b: Any, transposed: bool) -> Any:
        """By the Sherman–Morrison–Woodbury formula, refined once unless nothing cancels."""
        x, before = self._once(b, transposed)
        if self.growth is not None and lapack.is_constant(b):
            one, other = ((abs(columns) ** 2).sum(0) for columns in (before, x))
            if bool((self.growth**2 * one <= CANCELS**2 * other).all()):
                return x
        A = self.operator.T if transposed else self.operator
        return x + self._once(b - flat(A @ x), transposed)[0]

    def _once(self, b: Any, transposed: bool) -> tuple[Any, Any]:
        """The formula, and S⁻¹ b, or of the transpose b, from which it subtracts."""
        if not transposed:
            y = flat(self.inverse @ b)
            return y - self.Z @ self.core.substitute(self.V @ y, False), y
        y = flat(self.inverse.T @ b)
        w = self.core.substitute(self.U.T @ y, True)
        return y - flat(self.inverse.T @ (self.V.T @ w)), y


@dataclass(frozen=True)
class Woodbury(Method):
    """The Sherman–Morrison–Woodbury formula, (S + U V)⁻¹ = S⁻¹ − S⁻¹ U (I + V S⁻¹ U)⁻¹ V S⁻¹, refined on cancelling.

    Where S itself is singular the whole is factorised, if it is small enough.
    """

    inverse: Any = None
    of_structure = True

    def factor(self, A: LinearOperator, kept: bool) -> Factor:
        """S⁻¹ U, and the LU of I + V S⁻¹ U."""
        try:
            return Updated(A, self.inverse)
        except SingularError:
            if not fits(A):
                raise
        found = LUFactor(A)
        require_no_zero(A, found.diagonal, "elimination meets a pivot of zero")
        return found

    def steps(self, A: LinearOperator, batch: int, kept: bool) -> Iterable[Step]:
        """S⁻¹ of U and of b, twice for the refinement, and products with U and V."""
        found: Any = split(A)
        n, r = A.shape[0], found.rank
        inverse = self.inverse(found.rest, kept)
        if not kept:
            yield from inverse._lower(r)
            yield matmul_step(1, r, n, r)
        for _ in range(2):
            yield from inverse._lower(batch)
            yield matmul_step(1, r, n, batch)
            yield from factored_steps("lu", Dense(Spec((r, r), A.dtype or "float64")), batch, True, 3)
            yield matmul_step(1, n, r, batch)
            yield from A._lower(batch)

    def __str__(self) -> str:
        return "Woodbury()"
