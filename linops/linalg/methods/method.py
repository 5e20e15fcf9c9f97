"""What a method of solving is: a small frozen object, and what it makes of an operator."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from linops.linalg.settings import Settings
from linops.operator import LinearOperator
from linops.operators.dense import Dense
from linops.plan.step import Step


class Factor:
    """What a method made of an operator, for many right-hand sides.

    Attributes:
        is_constant: Whether it may be kept for later products: no graph or trace holds its arrays.
    """

    is_constant: bool = True

    def solve(self, b: Any, transposed: bool) -> Any:
        """A⁻¹ b, or A⁻ᵀ b, of right-hand sides (n, k)."""
        raise NotImplementedError

    def slogdet(self) -> tuple[Any, Any]:
        """(sign, log |det|) of A."""
        raise NotImplementedError

    def written(self, transposed: bool) -> Dense:
        """A⁻¹ or A⁻ᵀ written out, of a method that `writes`."""
        raise NotImplementedError


@dataclass(frozen=True)
class Method(Settings):
    """How to solve with an operator: a value with its settings, which makes a `Factor`.

    Attributes:
        of_structure: Whether it needs an operator of a class, with arrays; others take any.
        iterates: Whether it takes products alone, so that nothing is written out for it.
        writes: Whether it multiplies by A⁻¹ written out, from n right-hand sides on.
    """

    of_structure: ClassVar[bool] = False
    iterates: ClassVar[bool] = False
    writes: ClassVar[bool] = False

    def factor(self, A: LinearOperator, kept: bool) -> Factor:
        """What it makes of an operator.

        Args:
            A: A concrete operator in a dtype that LAPACK has.
            kept: Whether more right-hand sides are to come.

        Returns:
            The factor.
        """
        raise NotImplementedError

    def once(self, A: LinearOperator, b: Any, transposed: bool) -> Any:
        """A⁻¹ b or A⁻ᵀ b, with nothing kept.

        Args:
            A: As `factor` takes it.
            b: Right-hand sides, (n, k), of A's dtype.
            transposed: Whether to solve with Aᵀ.

        Returns:
            An array (n, k).
        """
        return self.factor(A, False).solve(b, transposed)

    def steps(self, A: LinearOperator, batch: int, kept: bool) -> Iterable[Step]:
        """What solving for `batch` right-hand sides costs; with the factorisation, unless that is kept.

        Args:
            A: An operator, which may be symbolic.
            batch: The number of right-hand sides.
            kept: Whether the factorisation is there already.

        Returns:
            Steps.
        """
        raise NotImplementedError

    def __str__(self) -> str:
        changed = [
            f"{field.name}={value!r}" for field in fields(self) if (value := getattr(self, field.name)) != field.default
        ]
        return f"{type(self).__name__}({', '.join(changed)})"
