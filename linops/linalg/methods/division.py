"""`Division`: diagonal operators, with nothing made beforehand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from linops.linalg.inputs import require_no_zero
from linops.linalg.methods.method import Factor, Method
from linops.linalg.traces import diagonal_
from linops.operator import LinearOperator
from linops.plan.step import Step


class Divisor(Factor):
    """The numbers on the diagonal."""

    numbers: Any

    is_constant = False

    def __init__(self, A: LinearOperator) -> None:
        self.numbers = diagonal_(A)
        require_no_zero(A, self.numbers, "its diagonal has a zero")

    def solve(self, b: Any, transposed: bool) -> Any:
        """Number by number."""
        return b / self.numbers[:, None]


@dataclass(frozen=True)
class Division(Method):
    """Division by the numbers on the diagonal. Cost: a division a number."""

    of_structure = True

    def factor(self, A: LinearOperator, kept: bool) -> Divisor:
        """The numbers; SingularError where one is zero."""
        return Divisor(A)

    def steps(self, A: LinearOperator, batch: int, kept: bool) -> Iterable[Step]:
        """A division a number."""
        n = A.shape[0]
        yield Step("divide", f"({n}, {batch})", other_flops=n * batch, inputs=n * (batch + 1), outputs=n * batch)
