"""Results of operators of half precision, which LAPACK computes in single, in half precision again."""

from __future__ import annotations

from typing import Any

from linops import backends
from linops.linalg.inputs import wide_dtype
from linops.operator import LinearOperator


def own(A: LinearOperator, x: Any) -> Any:
    """An array or operator in A's dtype, where A has half precision and it single; complex numbers stay.

    Args:
        A: The operand.
        x: What was computed of it.

    Returns:
        The array or operator.
    """
    if A.dtype is None or A.backend == "spec" or x.dtype is None:
        return x
    wide = wide_dtype(A.dtype, A.backend)
    if wide == A.dtype or x.dtype != wide:
        return x
    return x.to(dtype=A.dtype) if isinstance(x, LinearOperator) else backends.namespace(A.backend).astype(x, A.dtype)
