"""`Twin`: what an expression is, in dense arithmetic that rounds 1,000 times less than float64; exact for integers.

Beside the numbers a twin carries what bounds the rounding errors of whoever computes the same in fewer digits: the
sizes of the numbers, as the expression gives them with an absolute value at every leaf, and how many roundings a number
passes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

Long = np.longdouble


@dataclass(frozen=True)
class Twin:
    """An array in several arithmetics.

    Attributes:
        value: In long double precision, real or complex.
        size: The same expression of absolute values, which bounds every number on the way to `value`.
        wrapped: The integers modulo 2⁶⁴, or None where there are others.
        truth: The booleans, of sums that are ors and products that are ands, or None where there are others.
        dtypes: Dtypes of the arrays, and Python numbers, in it.
        roundings: At most how many roundings a number passes.
        reach: At most how much a number of size 1 grows on the way.
        rewritten: Whether a part was multiplied beforehand, in the dtype of the expression rather than that of a
            product.
    """

    value: np.ndarray
    size: np.ndarray
    wrapped: np.ndarray | None
    truth: np.ndarray | None
    dtypes: tuple[Any, ...] = ()
    roundings: int = 1
    reach: float = 1.0
    rewritten: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    # ------------------------------------------------------------ what is linear in one

    def map(self, function: Callable[[Any], Any]) -> Twin:
        """A function that moves numbers, applied to every arithmetic."""
        wrapped, truth = (None if array is None else function(array) for array in (self.wrapped, self.truth))
        return replace(self, value=function(self.value), size=function(self.size), wrapped=wrapped, truth=truth)

    def __getitem__(self, key: Any) -> Twin:
        return self.map(lambda array: array[key])

    @property
    def T(self) -> Twin:
        return self.map(lambda array: array.T)

    def conj(self) -> Twin:
        return replace(self, value=self.value.conj())

    def reshape(self, *shape: int) -> Twin:
        return self.map(lambda array: array.reshape(shape))

    def spread(self, roundings: int, factor: float = 1.0) -> Twin:
        """What a Fourier transform mixes: an error in a number is a share of all of them."""
        total = float(self.size.sum(axis=0).max(initial=0)) if self.size.ndim else float(self.size)
        size = np.full(self.size.shape, factor * total, Long)
        return replace(self, size=size, roundings=self.roundings + roundings, reach=max(self.reach, factor * total))

    # ------------------------------------------------------------ what is linear in several

    def __matmul__(self, other: Twin) -> Twin:
        return product(np.matmul, self, other, roundings=self.shape[-1])

    def __add__(self, other: Twin) -> Twin:
        return total(self, other)

    def __sub__(self, other: Twin) -> Twin:
        return total(self, other.times(-1))

    def times(self, number: Any) -> Twin:
        """A multiple by a Python number, whose dtype is weak, or a NumPy scalar, which linops takes for one."""
        number = number.item() if isinstance(number, np.generic) else number
        return product(np.multiply, self, of_number(number), roundings=3)

    def over(self, number: Any) -> Twin:
        """The quotient by a number, whose dtype is weak, and never an integer's."""
        number = number.item() if isinstance(number, np.generic) else number
        return replace(self.times(1 / number), value=self.value / Long(number))

    def power(self, exponent: int) -> Twin:
        result = eye(*self.shape)
        for _ in range(exponent):
            result = result @ self
        return result


def product(function: Callable[..., Any], *twins: Twin, roundings: int) -> Twin:
    """A function that is linear in each of several twins."""
    wrapped = truth = None
    if all(twin.wrapped is not None for twin in twins):
        wrapped = np.asarray(function(*[twin.wrapped for twin in twins]), np.uint64)
    if all(twin.truth is not None for twin in twins):
        truth = np.asarray(function(*[twin.truth.astype(np.int64) for twin in twins])) > 0
    size = np.asarray(function(*[twin.size for twin in twins]))
    reach = max(norm(size), float(np.prod([twin.reach for twin in twins])))
    dtypes = tuple(dtype for twin in twins for dtype in twin.dtypes)
    value = np.asarray(function(*[twin.value for twin in twins]))
    roundings += sum(twin.roundings for twin in twins)
    return Twin(value, size, wrapped, truth, dtypes, roundings, reach, any(twin.rewritten for twin in twins))


def total(*twins: Twin) -> Twin:
    """A sum of twins."""
    wrapped = truth = None
    if all(twin.wrapped is not None for twin in twins):
        wrapped = np.sum([twin.wrapped for twin in twins], axis=0, dtype=np.uint64)
    if all(twin.truth is not None for twin in twins):
        truth = np.any([twin.truth for twin in twins], axis=0)
    value, size = (
        sum([twin.value for twin in twins[1:]], twins[0].value),
        sum([twin.size for twin in twins[1:]], twins[0].size),
    )
    dtypes = tuple(dtype for twin in twins for dtype in twin.dtypes)
    if not any(isinstance(dtype, np.dtype) for dtype in dtypes):
        dtypes += (1,)  # what has no dtype counts where it is summed: among booleans it makes integers
    roundings = max(twin.roundings for twin in twins) + len(twins) - 1
    reach, rewritten = sum(twin.reach for twin in twins), any(twin.rewritten for twin in twins)
    return Twin(value, size, wrapped, truth, dtypes, roundings, reach, rewritten)


def einsum(subscripts: str, *twins: Twin) -> Twin:
    """`np.einsum`; every axis that is summed over counts as roundings."""
    into, out = subscripts.split("->")
    sizes = {name: size for names, twin in zip(into.split(","), twins) for name, size in zip(names, twin.shape)}
    summed = int(np.prod([size for name, size in sizes.items() if name not in out]))
    shape = tuple(sizes[name] for name in out)

    def contracted(*arrays: np.ndarray) -> np.ndarray:
        if any(array.size == 0 for array in arrays):  # where NumPy 2.4's einsum writes beyond what it allocated
            return np.zeros(shape, np.result_type(*arrays))
        return np.einsum(subscripts, *arrays)

    return product(contracted, *twins, roundings=summed + len(twins))


def kron(*twins: Twin) -> Twin:
    """The Kronecker product."""
    first, *rest = twins
    for twin in rest:
        (p, q), (r, s) = first.shape, twin.shape
        first = einsum("ij,kl->ikjl", first, twin).reshape(p * r, q * s)
    return first


def block(grid: list[list[Twin]]) -> Twin:
    """Twins in a grid."""
    twins = [twin for row in grid for twin in row]

    def joined(name: str) -> Any:
        arrays = [[getattr(twin, name) for twin in row] for row in grid]
        return None if any(array is None for row in arrays for array in row) else np.block(arrays)

    dtypes = tuple(dtype for twin in twins for dtype in twin.dtypes)
    roundings, reach = max(twin.roundings for twin in twins) + len(grid[0]), sum(twin.reach for twin in twins)
    rewritten = any(twin.rewritten for twin in twins)
    return Twin(
        joined("value"), joined("size"), joined("wrapped"), joined("truth"), dtypes, roundings, reach, rewritten
    )


def block_diag(twins: list[Twin]) -> Twin:
    """Twins along the diagonal."""
    grid = [
        [one if i == j else zeros(one.shape[0], other.shape[1]) for j, other in enumerate(twins)]
        for i, one in enumerate(twins)
    ]
    return block(grid)


# ---------------------------------------------------------------- where they begin


def of_array(array: np.ndarray) -> Twin:
    """The twin of an array of any dtype."""
    kind = array.dtype.kind
    complex_ = kind == "c"
    value = array.astype(np.clongdouble if complex_ else Long)
    wrapped = array.astype(np.int64 if kind == "i" else np.uint64).astype(np.uint64) if kind in "iub" else None
    truth = array.astype(bool) if kind == "b" else None
    size = np.abs(value)
    return Twin(value, size, wrapped, truth, (array.dtype,), 1, norm(size))


def of_constant(array: np.ndarray) -> Twin:
    """The twin of what has no dtype of its own."""
    twin = of_array(array)
    nonnegative = array.dtype.kind in "iu" and bool((array >= 0).all())
    return replace(twin, dtypes=(), truth=array.astype(bool) if nonnegative else None, roundings=0)


def of_number(number: Any) -> Twin:
    """The twin of a Python number: where there are booleans it makes integers of them."""
    twin = of_array(np.asarray(number).astype(np.clongdouble if isinstance(number, complex) else Long))
    wrapped = np.asarray(number % 2**64, np.uint64) if isinstance(number, int) else None
    return replace(twin, wrapped=wrapped, dtypes=(number,), roundings=1)


def eye(m: int, n: int) -> Twin:
    """Ones on the diagonal."""
    return of_constant(np.eye(m, n, dtype=np.int64))


def zeros(m: int, n: int) -> Twin:
    """Zeros."""
    return of_constant(np.zeros((m, n), np.int64))


def norm(size: np.ndarray) -> float:
    """The larger of 1 and the largest sum of a row or column."""
    if size.ndim < 2:
        return max(1.0, float(size.max(initial=0)))
    return max(1.0, float(size.sum(axis=0).max(initial=0)), float(size.sum(axis=1).max(initial=0)))
