"""Sum of operators."""

from __future__ import annotations

from typing import Any, ClassVar

from linops.checks import require_same_backend
from linops.declaration import declare, remembered, tree
from linops.operator import LinearOperator, flat
from linops.operators.outputs import every, numbered
from linops.plan.step import Step
from linops.tags import Knowledge, summed


@declare
class Sum(LinearOperator):
    """The sum A_1 + … + A_c, made by ``+``.

    Cost: that of the terms, and an addition per term after the first and number.

    Attributes:
        terms: At least two operators of one shape.

    Raises:
        ValueError: If the shapes differ.
        TypeError: If backends are mixed.

    Example:
        >>> import linops as lo
        >>> (lo.Identity(3) + lo.Dense(lo.spec(3, 3))).num_params
        9
    """

    terms: tuple[LinearOperator, ...] = tree()

    _adds: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if len(self.terms) < 2:
            raise ValueError(f"Sum: expected at least two terms, got {len(self.terms)}")
        first, *rest = self.terms
        for term in rest:
            if term.shape != first.shape:
                raise ValueError(f"Sum: {first._short()} + {term._short()}: the shapes differ")
        require_same_backend("Sum", self.terms)

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        return self.terms[0].shape

    @remembered
    def _numbers(self) -> tuple[Any, ...]:
        return (1, *LinearOperator._numbers.function(self))  # a sum counts, also terms without arrays

    @remembered
    def _meets_real(self) -> bool:
        return all(term._meets_real for term in self.terms)

    @property
    def _prefers_rows(self) -> bool:
        return all(term._prefers_rows for term in self.terms)

    def _columns(self, x: Any) -> Any:
        first, *rest = self.terms
        y = flat(first._columns(x))
        for term in rest:
            y = y + flat(term._columns(x))
        return y

    def _rows(self, x: Any) -> Any:
        first, *rest = self.terms
        y = first._rows(x)
        for term in rest:
            y = y + term._rows(x)
        return y

    def _transpose(self) -> Sum:
        return Sum(tuple(term.T for term in self.terms))

    def _conj(self) -> Sum:
        return Sum(tuple(term.conj() for term in self.terms))

    def _lower(self, batch: int) -> tuple[Step, ...]:
        size = self.shape[0] * batch
        steps = []
        for number, term in enumerate(self.terms):
            steps += term._lower(batch)
            if number:
                steps.append(
                    Step("add", f"({self.shape[0]}, {batch})", other_flops=size, inputs=2 * size, outputs=size)
                )
        return tuple(steps)

    def _output_leaves(self) -> tuple[str, ...]:
        return every(numbered("terms", self.terms))

    def _knowledge(self) -> Knowledge:
        return Knowledge(summed(term.tags.yes for term in self.terms))

    def _detail(self) -> str:
        return f"{len(self.terms)} terms"
