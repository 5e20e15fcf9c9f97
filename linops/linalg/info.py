"""`Info`: how a solution was found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from linops.backends.tree import register_record


@dataclass(frozen=True)
class Info:
    """How `lo.linalg.solve` or `lo.linalg.lstsq` found a solution; a pytree of JAX and torch.

    Attributes:
        iterations: How many iterations the slowest right-hand side took; 0 by rules and factorisations.
        residual: ‖b − A x‖ of each right-hand side, an array (…, k), computed from x; a 0-d one of a vector.
        converged: Whether all right-hand sides are within the tolerance.
        method: The method, or None where a rule found the solution.
    """

    iterations: Any
    residual: Any
    converged: Any
    method: Any


register_record(Info, "method")
