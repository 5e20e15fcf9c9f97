"""What becomes an operator: matrices of any kind, and operators of other libraries."""

from __future__ import annotations

from typing import Any

from linops import backends
from linops.checks import require_same_backend
from linops.operator import LinearOperator
from linops.operators.dense import Dense
from linops.operators.scipy_operator import imported
from linops.operators.sparse import Sparse


def aslinearoperator(value: Any) -> LinearOperator:
    """A matrix of any kind as an operator; an operator as it is.

    Args:
        value: A matrix of any backend, a spec with two axes, what stands for a NumPy matrix (nested lists, a
            DataFrame), a sparse matrix (scipy in any format, torch in any layout, JAX BCOO, BCSR, COO, CSR or CSC), a
            `scipy.sparse.linalg.LinearOperator` or an operator of another library that has a ``shape`` and a ``matvec``
            (T and H need its ``rmatvec``), or an operator.

    Returns:
        The operator.

    Raises:
        TypeError: If it is none of those.
        ValueError: If an array has not two axes.

    Example:
        >>> import linops as lo, numpy as np, scipy.sparse
        >>> lo.aslinearoperator(np.eye(2)).shape
        (2, 2)
        >>> lo.aslinearoperator(scipy.sparse.eye_array(3))
        Sparse(3 entries)  3×3  float64  3 parameters  numpy
    """
    if isinstance(value, LinearOperator):
        return value
    kind = backends.foreign_kind(value)
    if kind == "sparse":
        return Sparse(value)
    if kind == "operator":
        return imported(value)
    if not (backends.is_array(value) or backends.stands_for_array(value)):
        raise TypeError(
            "aslinearoperator: expected an array or an operator, of linops, scipy or one with a shape and a matvec, "
            f"or a sparse matrix of scipy, torch or JAX; got {type(value).__name__}"
        )
    return Dense(value)


def as_operators(where: str, given: Any) -> tuple[LinearOperator, ...]:
    """Operators of one expression, given one by one or in one list.

    Args:
        where: The name of the expression.
        given: Operators and matrices, or one list of them.

    Returns:
        The operators.

    Raises:
        ValueError: If there is none.
        TypeError: If one is neither array nor operator, or backends are mixed.
    """
    listed = given[0] if len(given) == 1 and isinstance(given[0], (list, tuple)) else given
    operators = tuple(aslinearoperator(operator) for operator in listed)
    if not operators:
        raise ValueError(f"{where}: expected at least one operator")
    require_same_backend(where, operators)
    return operators
