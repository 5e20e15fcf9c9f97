"""Whether two expressions are the same: the same structure, and the same structure over the same arrays."""

from __future__ import annotations

from typing import Any

from linops import backends
from linops.backends.values import as_value
from linops.operator import LinearOperator
from linops.specs import Spec


def same_structure(A: Any, B: Any) -> bool:
    """Whether two operators have the same structure: trees, shapes, dtypes, index arrays, numbers outside arrays, tags.

    The numbers in arrays do not matter, nor does the backend: a symbolic operator and what `init` makes of it are the
    same structure.

    Args:
        A: An operator.
        B: Another.

    Returns:
        True or False.

    Raises:
        TypeError: If one is no operator.

    Example:
        >>> import linops as lo
        >>> A = lo.btt(16, 16)
        >>> same_structure(A, A.init(seed=1)), same_structure(A, A.T), same_structure(2 * A, 3 * A)
        (True, True, False)
        >>> same_structure(A, lo.btt(16, 16, rank=2))
        False
    """
    for operator in (A, B):
        if not isinstance(operator, LinearOperator):
            raise TypeError(f"same_structure: expected two operators, got {type(operator).__name__}")
    return A.structure == B.structure


def same(a: Any, b: Any) -> bool:
    """Whether two operators certainly are the same: equal structure, and leaves that share memory.

    Args:
        a: An operator.
        b: Another.

    Returns:
        True if they are; False if they are not, or it cannot be told without reading numbers. Two equal specs are two
        parameters.
    """
    if a is b and not (isinstance(a, Spec) or (isinstance(a, LinearOperator) and a.is_symbolic)):
        return True
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, LinearOperator):
        if type(a) is not type(b):
            return False
        return all(
            _same_field(kind, getattr(a, name), getattr(b, name)) for name, kind in a._fields if name != "assumed"
        )
    kind = backends.backend_of(a)
    return kind is not None and kind == backends.backend_of(b) and backends.same_array(a, b)


def _same_field(kind: str, a: Any, b: Any) -> bool:
    return same(a, b) if kind == "tree" else as_value(kind, a) == as_value(kind, b)


def transpose_of(a: LinearOperator, b: LinearOperator) -> bool:
    """Whether A certainly is Bᵀ.

    Args:
        a: An operator.
        b: Another.

    Returns:
        True if it is; False if it is not, or it cannot be told without reading numbers.
    """
    return a.shape == b.shape[::-1] and a.backend == b.backend and same(a, b.T)


def adjoint_of(a: LinearOperator, b: LinearOperator) -> bool:
    """Whether A certainly is Bᴴ.

    Args:
        a: An operator.
        b: Another.

    Returns:
        True if it is; False if it is not, or it cannot be told without reading numbers.
    """
    return a.shape == b.shape[::-1] and a.backend == b.backend and same(a, b.H)
