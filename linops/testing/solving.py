"""The check of linear algebra: what the rules of `lo.linalg` give for an operator, against its matrix."""

from __future__ import annotations

from typing import Any

import numpy as np

from linops.linalg import diagonal, slogdet, solve, trace
from linops.testing.algebra import expected_dtype
from linops.testing.check import Subject, check, require, wide

#: from this condition number on nothing is solved, nor where rounding leaves less than a digit
LARGEST_CONDITION = 1e6


def _of_integers(s: Subject) -> str | None:
    return "integers are made floating first" if s.exact else None


def _not_square(s: Subject) -> str | None:
    m, n = s.operator.shape
    return None if m == n else "it is not square"


def _all(A: Any, vector: Any, matrix: Any) -> tuple[Any, ...]:
    return trace(A), diagonal(A), solve(A, vector), solve(A, matrix), *slogdet(A)


def _first(A: Any, *sides: Any) -> tuple[Any, ...]:
    return trace(A), diagonal(A)


@check(_of_integers, _not_square)
def linalg(s: Subject) -> None:
    """`trace`, `diagonal`; where the condition is below 10^6, `solve` of a vector and of a matrix, and `slogdet`."""
    matrix, n = s.matrix, s.operator.shape[0]
    condition = float(np.linalg.cond(matrix)) if n else 1.0
    solvable = condition < LARGEST_CONDITION and condition * s.rtol < 0.1
    sides = s.array(n), s.array(n, 3)
    total, entries, *solved = s.run(_all if solvable else _first, *sides)
    bound = s.rtol * float(np.abs(matrix).sum())
    _is_near(s, "trace", total, np.trace(matrix), bound)
    _is_near(s, "diagonal", entries, np.diagonal(matrix), bound)
    if solvable:
        *solutions, sign, logarithm = solved
        inverse = np.linalg.inv(matrix)
        reach = np.abs(inverse) @ np.abs(matrix) @ np.abs(inverse)  # how far a rounding of A's entries moves A⁻¹
        for b, x in zip(sides, solutions):
            found, expected = s.numpy(x).dtype, expected_dtype(s, s.on(b).dtype)
            require(found == expected, f"solve(A, b) of b {b.shape} has dtype {found}, expected {expected}")
            s.close(f"solve(A, b) of b {b.shape}", x, inverse @ wide(b), reach @ np.abs(wide(b)))
        phase, size = np.linalg.slogdet(matrix)
        bound = s.rtol * condition * max(n, 1) * max(1.0, abs(size))
        _is_near(s, "the sign of slogdet", sign, phase, bound)
        _is_near(s, "the logarithm of slogdet", logarithm, size, bound)


def _is_near(s: Subject, name: str, value: Any, expected: Any, bound: float) -> None:
    """Assert that numbers are those expected; those of an operator without arrays may be NumPy's."""
    numbers = isinstance(value, np.generic | np.ndarray) and (s.backend == "numpy" or s.operator.backend is None)
    found, expected = wide(np.asarray(value) if numbers else s.numpy(value)), np.asarray(expected)
    require(found.shape == expected.shape, f"{name} has shape {found.shape}, expected {expected.shape}")
    error = float(np.abs(found - expected).max(initial=0))
    require(error <= bound, f"{name} is {found}, expected {expected}; error {error:.3g} above {bound:.3g}")
