"""Checks of what an operator says it is: no property is claimed that its matrix has not."""

from __future__ import annotations

from typing import Any

import numpy as np

from linops.tags import Properties
from linops.testing.check import Subject, check, require

PROPERTIES = tuple(name for name in vars(Properties) if name.startswith("is_"))


def truth(matrix: np.ndarray, tolerance: float = 1e-10) -> dict[str, bool | None]:
    """Each property of a matrix: True, False, or None where rounding decides.

    Args:
        matrix: A matrix.
        tolerance: Rounding, as a share of the largest entry.

    Returns:
        A dict by the names of `linops.tags.Properties`.

    Example:
        >>> truth(np.diag([1., 2.]))["is_positive_definite"], truth(np.ones((2, 2)))["is_diagonal"]
        (True, False)
    """
    m, n = matrix.shape
    size = max(1.0, float(np.abs(matrix).max(initial=0)))
    bound = tolerance * size

    def zero(difference: np.ndarray) -> bool:
        return float(np.abs(difference).max(initial=0)) <= bound

    square = m == n
    found: dict[str, bool | None] = {
        "is_symmetric": square and zero(matrix - matrix.T),
        "is_hermitian": square and zero(matrix - matrix.conj().T),
        "is_orthogonal": square and float(np.abs(matrix.conj().T @ matrix - np.eye(n)).max(initial=0)) <= tolerance,
        "is_diagonal": zero(matrix[np.arange(m)[:, None] != np.arange(n)]),
        "is_lower_triangular": zero(np.triu(matrix, 1)),
        "is_upper_triangular": zero(np.tril(matrix, -1)),
    }
    smallest = np.linalg.svd(matrix, compute_uv=False).min(initial=np.inf) if square else 0.0
    found["is_invertible"] = square and (True if smallest > bound else False if smallest < 1e-5 * bound else None)
    lowest = np.linalg.eigvalsh(matrix).min(initial=np.inf) if found["is_hermitian"] else -np.inf
    definite = True if lowest > bound else False if lowest < -bound else None
    found["is_positive_definite"] = definite
    found["is_positive_semidefinite"] = True if definite is None and lowest == 0 else definite
    return found


def false_claims(operator: Any, matrix: np.ndarray, tolerance: float = 1e-10) -> list[str]:
    """What an operator claims wrongly.

    Args:
        operator: The operator.
        matrix: Its matrix.
        tolerance: Rounding, as a share of the largest entry.

    Returns:
        One line a false claim; none if all claims are sound.

    Example:
        >>> import linops as lo
        >>> false_claims(lo.assume(lo.Dense(np.ones((2, 2))), lo.Tag.ORTHOGONAL), np.ones((2, 2)))
        ['is_orthogonal is False, claimed True', 'is_invertible is False, claimed True']
    """
    facts = truth(matrix, tolerance)
    claims = {name: getattr(operator, name) for name in PROPERTIES}
    return [
        f"{name} is {facts[name]}, claimed {claim}"
        for name, claim in claims.items()
        if claim is not None and facts[name] is not None and claim != facts[name]
    ]


@check()
def tags(s: Subject) -> None:
    """No property is claimed wrongly, of A, T, H, multiples (negative, zero, complex), A Aᴴ and A Aᵀ."""
    A = s.operator
    matrix = s.matrix.astype(complex if s.matrix.dtype.kind == "c" else float)
    tolerance = 1e-10 if s.exact or s.precise else 1e-4 if s.dtype.itemsize >= 4 else 3e-2
    pairs = [
        ("A", A, matrix),
        ("T", A.T, matrix.T),
        ("H", A.H, matrix.conj().T),
        ("conj", A.conj(), matrix.conj()),
        ("-A", -A, -matrix),
    ]
    pairs += [(f"{scalar} A", scalar * A, scalar * matrix) for scalar in (0, 0.0, 2.5, -1, 1j, -1 + 0j, 0.6 + 0.8j)]
    pairs += [("A Aᴴ", A @ A.H, matrix @ matrix.conj().T), ("A Aᵀ", A @ A.T, matrix @ matrix.T)]
    for name, operator, expected in pairs:
        wrong = false_claims(operator, expected, tolerance)
        require(not wrong, f"of {name}: {'; '.join(wrong)}")
