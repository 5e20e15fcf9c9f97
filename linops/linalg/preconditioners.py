"""Preconditioners: frozen objects that make an approximate inverse of an operator."""

from __future__ import annotations

from dataclasses import dataclass

from linops.operator import LinearOperator


@dataclass(frozen=True)
class Preconditioner:
    """What makes an approximate inverse of an operator, as a value with its settings."""

    def of(self, A: LinearOperator) -> LinearOperator:
        """An operator that approximates A⁻¹.

        Args:
            A: A square operator with numbers.

        Returns:
            The operator.
        """
        raise NotImplementedError
