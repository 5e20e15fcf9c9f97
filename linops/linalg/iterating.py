"""Right-hand sides of any shape for iterative methods, which take columns; and what is told of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from numbers import Number
from typing import Any

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.errors import ConvergenceError
from linops.linalg.info import Info
from linops.linalg.inputs import floating_array
from linops.linalg.inverse import Inverse
from linops.operator import LinearOperator


def iterated(inverse: Inverse, b: Any, x0: Any) -> tuple[Any, Info]:
    """The solution for right-hand sides of any shape, and how it was found.

    Args:
        inverse: The inverse by an iterative method.
        b: (n,) or (…, n, k).
        x0: Where to begin, of the shape of b, or None.

    Returns:
        x and the information.

    Raises:
        ValueError: If x0 has not the shape of b.
    """
    n = inverse.shape[1]
    b = admitted("solve", inverse.base, n, b)
    if x0 is not None:
        x0 = columns(like_solution("solve", inverse.base, tuple(b.shape), x0))
    with errors_restored(b.shape):
        x, (norms, counts, converged) = inverse._solved(columns(b), x0)
    return restored(x, b.shape), info_of(counts, norms.reshape(kept_shape(b.shape)), converged, inverse.method)


def like_solution(function: str, A: LinearOperator, shape: tuple[int, ...], x0: Any) -> Any:
    """The array that an x0 is or stands for; one of another shape than the solution's raises."""
    x0 = floating_array(x0)
    x0 = admitted(function, A, A.shape[1], x0, "x0")
    if tuple(x0.shape) != shape:
        raise ValueError(
            f"linalg.{function}({A._short()}): x0 of shape {tuple(x0.shape)}; expected that of the solution, {shape}"
        )
    return x0


@contextmanager
def errors_restored(shape: Any) -> Iterator[None]:
    """Last iterates and residuals of errors in the shape that right-hand sides have."""
    try:
        yield
    except ConvergenceError as error:
        if error.solution is not None and error.solution.shape[1] == columns_in(shape):
            error.solution = restored(error.solution, shape)
            error.residual = error.residual.reshape(kept_shape(shape))
        raise


def info_of(counts: Any, residual: Any, converged: Any, method: Any) -> Info:
    """What is told of right-hand sides together."""
    is_known = lapack.is_known(converged)
    count = counts.max() if counts.shape[0] else counts.sum()
    return Info(
        int(count) if is_known else count, residual, bool(converged.all()) if is_known else converged.all(), method
    )


def columns_in(shape: Any) -> int:
    """How many right-hand sides there are."""
    return prod(shape[:-2]) * shape[-1] if len(shape) > 1 else 1


def admitted(function: str, A: LinearOperator, n: int, b: Any, name: str = "right-hand side") -> Any:
    """The array of n numbers that a right-hand side is or stands for; others raise as in a product."""
    theirs = backends.backend_of(b)
    if theirs not in (None, "spec", A.backend) and A.backend not in (None, "spec"):
        raise TypeError(
            f"linalg.{function}({A._short()}): {name} is a {theirs} array of shape {tuple(b.shape)}: mixed backends; "
            f"convert one, as in A.to(backend={theirs!r})"
        )
    if isinstance(b, Number):
        raise ValueError(f"linalg.{function}({A._short()}): {name} {b!r}; expected an array of {n} rows")
    array = A._admitted(b, left=True)
    if array is NotImplemented:
        raise TypeError(f"linalg.{function}({A._short()}): expected an array as {name}, got {type(b).__name__}")
    b, shape = array, array.shape
    if (shape[-2] if len(shape) > 1 else shape[0] if shape else -1) != n:
        raise ValueError(
            f"linalg.{function}({A._short()}): {name} of shape {tuple(shape)}; expected ({n},) or (…, {n}, k)"
        )
    return b


def columns(b: Any) -> Any:
    """(n,) and (…, n, k) as (n, all columns)."""
    if b.ndim < 3:
        return b.reshape(b.shape[0], 1 if b.ndim == 1 else b.shape[1])
    stack = b.reshape(prod(b.shape[:-2]), *b.shape[-2:])
    count, n, k = stack.shape
    return backends.permute(stack, (1, 0, 2)).reshape(n, count * k)


def restored(x: Any, shape: Any) -> Any:
    """Columns in the shape they had."""
    if len(shape) < 3:
        return x.reshape(x.shape[0], *shape[1:])
    lead, k = prod(shape[:-2]), shape[-1]
    return backends.permute(x.reshape(x.shape[0], lead, k), (1, 0, 2)).reshape(*shape[:-2], x.shape[0], k)


def kept_shape(shape: Any) -> tuple[int, ...]:
    """The shape of what there is of each right-hand side."""
    return (*shape[:-2], shape[-1]) if len(shape) > 1 else ()


def residual_norms(A: LinearOperator, x: Any, b: Any) -> Any:
    """‖b − A x‖ of each right-hand side."""
    product = A @ x
    space: Any = backends.namespace(backends.backend_of(product))
    left = product - space.asarray(b)
    return space.sqrt((space.abs(left) ** 2).sum(-2 if product.ndim > 1 else -1))
