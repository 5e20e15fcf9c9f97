"""What goes wrong in linear algebra."""

from __future__ import annotations

from typing import Any

import numpy as np


class SingularError(np.linalg.LinAlgError):
    """An operator that has no inverse was to be inverted."""


class ConvergenceError(np.linalg.LinAlgError):
    """An iteration did not reach its tolerance.

    Attributes:
        solution: The last iterate.
        residual: The norm of its residual.
        iterations: How many iterations there were.
    """

    def __init__(self, message: str, solution: Any = None, residual: Any = None, iterations: int = 0) -> None:
        super().__init__(message)
        self.solution = solution
        self.residual = residual
        self.iterations = iterations

    def __reduce__(self) -> Any:
        return type(self), (str(self), self.solution, self.residual, self.iterations)
