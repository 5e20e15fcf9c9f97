"""Random vectors for estimates, the same for a seed on every framework; and what an estimate says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from linops import backends
from linops.backends import factorizations as lapack
from linops.backends.tree import register_record
from linops.linalg.inputs import wide_dtype
from linops.operator import LinearOperator, flat


@dataclass(frozen=True)
class Estimate:
    """What an estimate says of itself.

    Attributes:
        standard_error: The estimated standard deviation of the result, from how its samples differ: a 0-d array, or NaN
            where there is one sample. It knows nothing of a bias.
        products: How many products of A with a vector were taken.
    """

    standard_error: Any
    products: int


register_record(Estimate, "products")


def require_samples(method: Any, least: int) -> None:
    """Raise unless a method has an integer number of samples, at least so many, and a seed."""
    name = type(method).__name__
    if isinstance(method.samples, bool) or not isinstance(method.samples, (int, np.integer)) or method.samples < least:
        raise ValueError(f"{name}: samples must be an integer of at least {least}, got {method.samples!r}")
    if isinstance(method.seed, bool) or not isinstance(method.seed, (int, np.integer)):
        raise TypeError(f"{name}: seed must be an integer, got {method.seed!r}")


def require_estimator(function: str, method: Any, kind: type, return_info: bool) -> bool:
    """Whether an estimate is asked for; a TypeError where a method is none that the function has."""
    named = {"trace": "lo.linalg.Hutchinson(samples), HutchPP(samples) or XTrace(samples)"}
    expected = named.get(function, "lo.linalg.SLQ(steps, samples)")
    if method is None:
        if return_info:
            raise TypeError(f"linalg.{function}: the exact one has no info; name an estimate, method={expected}")
        return False
    if not isinstance(method, kind):
        raise TypeError(f"linalg.{function}: method {method!r}: expected None, or an estimate, {expected}")
    return True


def signs(A: LinearOperator, count: int, seed: int) -> Any:
    """Probes of independent numbers 1 and −1; of a complex operator 1, i, −1 and −i.

    Args:
        A: The operator.
        count: How many.
        seed: The seed.

    Returns:
        (n, count).
    """
    draws = np.random.default_rng(seed).integers(0, 4 if A._is_complex else 2, (A.shape[1], count))
    return beside(A, np.array([1, 1j, -1, -1j])[draws] if A._is_complex else 1.0 - 2.0 * draws)


def normals(A: LinearOperator, count: int, seed: int) -> Any:
    """Probes of independent normal numbers of variance 1, complex for a complex operator.

    Args:
        A: The operator.
        count: How many.
        seed: The seed.

    Returns:
        (n, count).
    """
    random, shape = np.random.default_rng(seed), (A.shape[1], count)
    drawn = random.standard_normal(shape)
    return beside(A, (drawn + 1j * random.standard_normal(shape)) / np.sqrt(2) if A._is_complex else drawn)


def beside(A: LinearOperator, array: np.ndarray) -> Any:
    """A NumPy array as an operand of an operator: in single precision beside halves, complex where A is."""
    like, backend = A._like, backends.backend_of(A._like)
    dtype = like.dtype if A.dtype is None else A.dtype
    dtype = backends.result_type(backend, dtype, 1j) if A._is_complex else dtype
    return backends.constant(like, array, wide_dtype(dtype, backend))


def wide(A: LinearOperator) -> LinearOperator:
    """An operator in a precision that sums can be taken in, and in one dtype where the framework mixes none."""
    if A.dtype is None:
        return A
    dtype = wide_dtype(A.dtype, A.backend)
    mixed = not backends.promotes(A.backend) and any(leaf.dtype != dtype for _, leaf in A.named_leaves())
    return A if dtype == A.dtype and not mixed else A.to(dtype=dtype)


def inner(one: Any, other: Any) -> Any:
    """oneᴴ other of each column; columns that are all real give real numbers."""
    return backends.namespace(backends.backend_of(one)).sum(backends.conj(one) * other, axis=0)


def applied(A: LinearOperator, x: Any) -> Any:
    """A X as a matrix."""
    return flat(A @ x)


def spread(samples: Any) -> Any:
    """The estimated standard error of the mean of samples, without a derivative."""
    space: Any = backends.namespace(backends.backend_of(samples))
    samples = lapack.stop_gradient(samples)
    count = samples.shape[0]
    if count < 2:
        return space.abs(space.sum(samples)) * space.nan
    away = space.abs(samples - space.sum(samples) / count)
    return space.sqrt(space.sum(away**2) / (count * (count - 1)))
