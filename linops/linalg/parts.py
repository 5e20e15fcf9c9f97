"""What rules ask of an operator's parts, their results in one framework, and small functions of arrays."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.function import Function
from linops.operator import LinearOperator


def space_of(x: Any) -> Any:
    """The array namespace of an array."""
    return backends.namespace(backends.backend_of(x))


def parts_of(function: Function, name: str) -> Any:
    """What is asked of the parts of an operator in a field."""
    return lambda a: [(function, part) for part in getattr(a, name)]


def square_parts(name: str) -> Any:
    """Whether the parts of an operator in a field are square."""
    return lambda a: all(part.shape[0] == part.shape[1] for part in getattr(a, name))


def is_deficient(a: Any) -> bool:
    """Whether somewhere between the factors of a product there are fewer numbers than outside: its rank is lower."""
    return min(factor.shape[1] for factor in a.factors) < a.shape[0]


def alike(a: LinearOperator, arrays: list[Any]) -> list[Any]:
    """Arrays of parts, as arrays of the whole's backend and dtype: parts without arrays give NumPy's."""
    if a.dtype is None:
        return arrays
    like = a._like
    backend = str(backends.backend_of(like))
    complex_dtype, real_dtype = backends.result_type(backend, like.dtype, 1j), backends.real_dtype(like.dtype, backend)
    return [
        array
        if backends.backend_of(array) == backend
        else backends.constant(like, array, complex_dtype if backends.is_complex(array.dtype) else real_dtype)
        for array in arrays
    ]


def alike_numbers(a: LinearOperator, numbers: list[Any]) -> list[Any]:
    """Numbers of parts, as 0-d arrays of the whole's backend."""
    return alike(a, [number if backends.is_array(number) else np.asarray(number) for number in numbers])


def joined(a: LinearOperator, arrays: list[Any]) -> Any:
    """The arrays of parts, one after the other."""
    first, *rest = alike(a, arrays)
    return backends.concatenate(first, rest)


def outer(a: LinearOperator, arrays: list[Any], combine: Any) -> Any:
    """Numbers of parts combined each with each, the last one's fastest."""
    return reduce(lambda one, other: combine(one[:, None], other).reshape(-1), alike(a, arrays))


def is_constant(A: LinearOperator) -> bool:
    """Whether no trace, graph or transformation holds an array of an operator: what is made of them may be kept."""
    return all(lapack.is_constant(leaf) for _, leaf in A.named_leaves())


def adjoint(a: Any) -> Any:
    """The conjugate transpose of a matrix."""
    return backends.conj(backends.permute(a, (1, 0)))


def norms(x: Any) -> Any:
    """The norms of columns."""
    space: Any = backends.namespace(backends.backend_of(x))
    return space.sqrt(space.sum(space.abs(x) ** 2, axis=0))
