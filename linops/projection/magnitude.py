"""Matrices of very large or small numbers, whose squares and their sums would overflow or vanish.

W is multiplied by a power of two beforehand, and the member by its inverse: leaves in each of which the member is
linear by equal parts of it, so that factors stay in balance; what is linear in its leaves together, as Toeplitz
matrices, leaf by leaf. Orthogonal matrices and permutations are what they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import frexp, isfinite
from typing import Any

import numpy as np

from linops import backends
from linops.backends import factorizations as lapack
from linops.operator import LinearOperator
from linops.operators.block import Block
from linops.operators.dense import Dense
from linops.operators.direct_sum import DirectSum
from linops.operators.householder import Householder
from linops.operators.product import Product
from linops.operators.sum import Sum
from linops.projection.goal import Goal
from linops.projection.permutations import Assignment
from linops.specs import Spec
from linops.tags import Tag

#: the exponents of the largest entry from which on numbers are scaled: fourth powers are within single precision
SAFE = 16


def largest_of(array: Any) -> float:
    """The largest absolute entry: NaN where there is one, 0 where numbers are not known, or there are none.

    Args:
        array: An array, or None.

    Returns:
        The number, by passes that make no array.
    """
    if array is None or not lapack.is_known(array) or not np.prod(array.shape):
        return 0.0
    if backends.backend_of(array) == "jax":  # what JAX computes of constants is traced under jit
        array = backends.to_numpy(array)
    space: Any = backends.namespace(backends.backend_of(array))
    array = lapack.stop_gradient(array)
    if backends.is_complex(array.dtype):
        return float(space.max(space.abs(array)))
    return float(np.maximum(float(space.max(array)), -float(space.min(array))))  # which keeps NaN


def exponent_of(largest: float) -> int:
    """The even exponent of two of the largest absolute entry, and 0 where that is safe, zero, or not finite.

    Args:
        largest: From `largest_of`.

    Returns:
        The exponent.
    """
    exponent = frexp(largest)[1] if largest and isfinite(largest) else 0
    return exponent // 2 * 2 if abs(exponent) > SAFE else 0


def times(array: Any, exponent: float) -> Any:
    """An array, or None, times a power of two, in steps that are numbers of its dtype."""
    if array is None or not exponent:
        return array
    for step in (exponent // 2, exponent - exponent // 2):
        array = array * 2.0**step
    return array


def probe(goal: Goal) -> Any:
    """Numbers of W's size: W, or where that is not written out a product with signs, whose sums are not much larger."""
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is told by name
        if not goal.is_large:
            return goal.matrix
        signs = np.random.default_rng(0).choice([-1.0, 1.0], goal.shape[1])
        return goal.source @ backends.constant(goal.like, signs, goal.source.dtype)


def shares(target: LinearOperator, exponent: int) -> list[float] | None:
    """By which powers of two leaves are multiplied where a structure's member is multiplied by one.

    Args:
        target: The structure, or the set of permutations.
        exponent: Of the member.

    Returns:
        An exponent for each leaf; zeros for matrices whose size does not follow that of W; None for what is no cone.
    """
    if isinstance(target, (Assignment, Householder)) or _is_orthogonal(target):
        return [0.0] * (0 if isinstance(target, Assignment) else len(list(target.named_leaves())))
    return _shares(target, exponent)


def _is_orthogonal(target: Any) -> bool:
    return isinstance(target, Dense) and Tag.ORTHOGONAL in target.assumed


def _shares(target: LinearOperator, exponent: int) -> list[float] | None:
    leaves = [leaf for _, leaf in target.named_leaves()]
    free = [k for k, leaf in enumerate(leaves) if isinstance(leaf, Spec)] or [*range(len(leaves))]
    try:
        image = _Image(target)
        linear = [k for k in free if image.doubles([k])]
        if not linear and image.doubles(free):
            return [float(exponent) if k in free else 0.0 for k in range(len(leaves))]
    except (TypeError, ValueError):
        return None
    if linear and not isinstance(target, Sum):
        return [exponent / len(linear) if k in linear else 0.0 for k in range(len(leaves))]
    children: Sequence[LinearOperator] = ()
    if isinstance(target, Sum):
        children = target.terms
    elif isinstance(target, DirectSum):
        children = target.blocks
    elif isinstance(target, Block):
        children = [block for row in target.blocks for block in row]
    elif isinstance(target, Product):
        return _of_one(target.factors, exponent)
    parts = [_shares(child, exponent) if child._num_leaves else None for child in children]
    if not parts or None in parts or any(map(_is_orthogonal, children)):
        return None
    return [one for part in parts if part for one in part]


def _of_one(factors: Sequence[LinearOperator], exponent: int) -> list[float] | None:
    """That of a product by its first factor that has leaves to be found."""
    found: list[float] = []
    place = next((k for k, one in enumerate(factors) if any(isinstance(x, Spec) for _, x in one.named_leaves())), -1)
    for k, factor in enumerate(factors):
        part = _shares(factor, exponent) if k == place else [0.0] * factor._num_leaves
        if part is None:
            return None
        found += part
    return found


class _Image:
    """What a structure with some leaves makes of a vector."""

    def __init__(self, target: LinearOperator) -> None:
        random = np.random.default_rng(0)
        self.target = target
        self.leaves = [random.uniform(1, 2, tuple(leaf.shape)) for _, leaf in target.named_leaves()]
        self.x = random.uniform(1, 2, target.shape[1])
        self.image = self._of(())

    def _of(self, doubled: Sequence[int]) -> np.ndarray:
        leaves = [2 * leaf if k in doubled else leaf for k, leaf in enumerate(self.leaves)]
        return np.asarray(self.target.with_leaves(leaves) @ self.x)

    def doubles(self, leaves: Sequence[int]) -> bool:
        """Whether it is twice as large where some leaves are."""
        size = float(np.abs(self.image).max(initial=0))
        return size > 0 and bool(np.allclose(self._of(leaves), 2 * self.image, rtol=0, atol=1e-6 * size))


def multiplied(operator: LinearOperator, like: LinearOperator, exponents: Sequence[float], sign: int) -> LinearOperator:
    """An operator with leaves times powers of two.

    Args:
        operator: The operator, or a structure, whose specs stay.
        like: The structure, whose leaves that are given take the place of the operator's where `sign` is 1.
        exponents: Of each leaf.
        sign: 1, or −1 for the inverse.

    Returns:
        The operator.
    """
    leaves = []
    for (_, leaf), (_, given), exponent in zip(operator.named_leaves(), like.named_leaves(), exponents):
        if isinstance(leaf, Spec):
            leaves.append(leaf)
        elif sign > 0 and not isinstance(given, Spec):
            leaves.append(given)
        else:
            leaves.append(times(leaf, sign * exponent))
    return operator.with_leaves(leaves)
