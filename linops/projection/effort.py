"""`Effort` and `Found`: when an iteration stops, and what was found."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from linops.operator import LinearOperator


@dataclass(frozen=True)
class Effort:
    """When alternating least squares stop.

    Attributes:
        tol: Where a sweep lowers the error by less than this share of it.
        max_iterations: After so many sweeps.
        bound: Whether to look for an error that no member goes below.
    """

    tol: float = 1e-4
    max_iterations: int = 100
    bound: bool = True


@dataclass(frozen=True)
class Found:
    """A member of a structure that is near to a goal.

    Attributes:
        operator: The member.
        method: How it was found.
        is_optimal: Whether no member is nearer.
        lost: A squared error, in the goal's norm, that no member goes below; None where none is known.
        iterations: Sweeps; 0 of closed forms.
        converged: Whether the last sweep changed less than the tolerance.
    """

    operator: LinearOperator
    method: str
    is_optimal: bool = False
    lost: Any = None
    iterations: int = 0
    converged: bool = True

    def __call__(self, operator: LinearOperator, **changes: Any) -> Found:
        """The same of another operator."""
        return replace(self, operator=operator, **changes)
