"""`norm`, `cond` and `matrix_rank`: what users call."""

from __future__ import annotations

from typing import Any

import numpy as np

from linops import backends
from linops.linalg.asking import asked, require_finite
from linops.linalg.decompositions import singular_values
from linops.linalg.errors import SingularError
from linops.linalg.halves import own
from linops.linalg.inputs import operator_of
from linops.linalg.inversion import inverse_
from linops.linalg.norms import ORDERS, norm_
from linops.operator import LinearOperator


@asked
def norm(A: Any, ord: Any = "fro") -> Any:
    """A norm of an operator, as `numpy.linalg.norm` defines it.

    Those of Kronecker products are products of the factors', those of direct sums the largest, least or sum of the
    blocks'. Largest singular values of operators of more than 512 rows without a closed form are found by `Lanczos`, to
    4e-11 in double precision. Norms by entries of what is too large to be written out take a product a column.

    Args:
        A: An operator or matrix.
        ord: ``"fro"`` (Frobenius), ``"nuc"`` (the sum of the singular values), 2 and −2 (the largest and smallest of
            them), 1 and −1 (the largest and smallest sum of absolute values of a column), inf and −inf (of a row).

    Returns:
        A number; its derivative at zero is zero.

    Raises:
        ValueError: If there is no such norm, or singular values of what is too large are asked for.

    Example:
        >>> import linops as lo, numpy as np
        >>> A = lo.Kronecker(np.diag([1., 2.]), np.array([[1., 1.], [0., 1.]]))
        >>> [round(float(lo.linalg.norm(A, ord)), 6) for ord in ("fro", 2, 1, np.inf, "nuc")]
        [3.872983, 3.236068, 4.0, 4.0, 6.708204]
    """
    operator = operator_of("norm", A)
    found = _norm(operator, ord)
    if ord in (2, -2, "nuc"):
        require_finite("norm", operator, found)
    return own(operator, found)


def _norm(operator: LinearOperator, ord: Any) -> Any:
    """The norm, of halves in single precision."""
    if not any(ord == one and isinstance(ord, str) == isinstance(one, str) for one in ORDERS):
        raise ValueError(f"linalg.norm: ord={ord!r}: expected 'fro', 'nuc', 2, -2, 1, -1, inf or -inf")
    if not min(operator.shape) and ord not in ("fro", "nuc"):
        raise ValueError(f"linalg.norm({operator._short()}, {ord!r}): it has no entries; 'fro' and 'nuc' are zero")
    return norm_(operator, ord)


@asked
def cond(A: Any, p: Any = 2) -> Any:
    """The condition number ‖A‖ ‖A⁻¹‖.

    Args:
        A: An operator or matrix, square unless p is 2 or −2.
        p: The norm: None or 2, or another `ord` of `norm`.

    Returns:
        A number; inf of a singular operator.

    Raises:
        ValueError: If A is not square, for other norms than 2 and −2.

    Example:
        >>> import linops as lo, numpy as np
        >>> float(lo.linalg.cond(lo.Kronecker(np.diag([1., 2.]), np.diag([1., 5.]))))
        10.0
    """
    if p is None or (not isinstance(p, str) and p in (2, -2)):
        operator = operator_of("cond", A)
        values = singular_values(operator)
        if not values.shape[0]:
            raise ValueError("linalg.cond: an operator without entries has no condition number")
        space: Any = backends.namespace(backends.backend_of(values))
        large, least = values[0], values[-1]
        one, other = (least, large) if p == -2 else (large, least)
        zero = other == 0
        return own(operator, space.where(zero, space.inf, one / space.where(zero, 1 + 0 * other, other)))
    operator = operator_of("cond", A, square=True)
    size = _norm(operator, p)
    try:
        inverse = _norm(inverse_(operator, False), p)
    except SingularError:
        return own(operator, size * np.inf if float(size) else size + np.inf)
    return own(operator, size * inverse)


@asked
def matrix_rank(A: Any, tol: Any = None) -> Any:
    """The number of singular values above a tolerance.

    Args:
        A: An operator or matrix (m, n).
        tol: The tolerance; None for the largest singular value times max(m, n) eps, as NumPy takes it.

    Returns:
        An integer, as a 0-d array of the backend.

    Example:
        >>> import linops as lo, numpy as np
        >>> int(lo.linalg.matrix_rank(lo.Kronecker(np.ones((2, 2)), np.eye(3))))
        3
    """
    operator = operator_of("matrix_rank", A)
    values = singular_values(operator)
    require_finite("matrix_rank", operator, values)
    space: Any = backends.namespace(backends.backend_of(values))
    if tol is None:
        eps = float(space.finfo(values.dtype).eps)
        tol = (values[0] if values.shape[0] else 0) * max(operator.shape) * eps
    return space.sum(values > tol)
