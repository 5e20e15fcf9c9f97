"""Powers in closed form: what A ** k is without k products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from linops import backends
from linops.dispatch import generic
from linops.operator import LinearOperator
from linops.operators.block_diag import BlockDiag
from linops.operators.circulant import Circulant
from linops.operators.dense import Dense
from linops.operators.dft import DFT
from linops.operators.diagonal import Diagonal
from linops.operators.direct_sum import DirectSum
from linops.operators.hadamard import Hadamard
from linops.operators.householder import Householder
from linops.operators.identity import Identity
from linops.operators.kronecker import Kronecker
from linops.operators.low_rank import LowRank
from linops.operators.permutation import Permutation
from linops.operators.permute import Permute
from linops.operators.product import Product
from linops.operators.scaled import Scaled
from linops.operators.zero import Zero
from linops.tuning import POWER_PRODUCTS


@generic
def powered(a, exponent: int, x: Any):
    """A ** k, k ≥ 1, as an operator that is applied once to operands like x, or None where there is no closed form."""


@powered.dispatch
def _powered_any(a: LinearOperator, exponent: int, x: Any):
    return _permutation(a, exponent) if _permutes(a) else None


@powered.dispatch
def _powered_identity(a: Identity, exponent: int, x: Any):
    return a


@powered.dispatch
def _powered_zero(a: Zero, exponent: int, x: Any):
    return a


@powered.dispatch
def _powered_permutation(a: Permutation, exponent: int, x: Any):
    return _permutation(a, exponent)


@powered.dispatch
def _powered_diagonal(a: Diagonal, exponent: int, x: Any):
    return Diagonal(array_power(a.diagonal, exponent))


@powered.dispatch
def _powered_circulant(a: Circulant, exponent: int, x: Any):
    if a.shape != (a.c.shape[0], a.c.shape[0]):
        return None
    whole = Circulant(a.c)
    c = squared(a.c, exponent, lambda one, other: whole._unchecked(c=one) @ other)
    return Circulant(c, transposed=a.transposed)


@powered.dispatch
def _powered_blocks(a: BlockDiag, exponent: int, x: Any):
    square = a.blocks.shape[1] == a.blocks.shape[2]
    return BlockDiag(squared(a.blocks, exponent, backends.block_matmul)) if square else None


@powered.dispatch
def _powered_direct_sum(a: DirectSum, exponent: int, x: Any):
    found = _each(a.blocks, exponent, x)
    return None if found is None else DirectSum(found)


@powered.dispatch
def _powered_kronecker(a: Kronecker, exponent: int, x: Any):
    found = _each(a.factors, exponent, x)
    return None if found is None else Kronecker(found)


@powered.dispatch
def _powered_low_rank(a: LowRank, exponent: int, x: Any):
    if exponent == 1 or not a.U.shape[1]:
        return a
    # U V U V … V = U (V U)ᵏ⁻¹ V
    return LowRank(a.U @ squared(a.V @ a.U, exponent - 1, lambda one, other: one @ other), a.V)


@powered.dispatch
def _powered_scaled(a: Scaled, exponent: int, x: Any):
    dtype = x.dtype if not isinstance(a.base, DFT) else _real_dtype(a.base, x)
    gain = a._scale(backends.eye(x, 1, dtype))  # the number in the operand's dtype, where integers wrap around
    if isinstance(a.base, (Hadamard, DFT)):  # a transform grows by √n, and the number may undo that
        number, inner = _unscaled(a.base, exponent)
        pairs = array_power(gain * gain * number, exponent // 2)
        return Scaled(inner, 1, _in_field(a.base, pairs * gain if exponent % 2 else pairs))
    inner = powered(a.base, exponent, x) or matrix_power(a.base, exponent)
    return None if inner is None else Scaled(inner, 1, array_power(gain, exponent).reshape(()))


@powered.dispatch
def _powered_householder(a: Householder, exponent: int, x: Any):
    return None if a._count > 1 else a if exponent % 2 else Identity(a.shape[0])


@powered.dispatch
def _powered_hadamard(a: Hadamard, exponent: int, x: Any):
    return _powered_transform(a, exponent, x)


@powered.dispatch
def _powered_dft(a: DFT, exponent: int, x: Any):
    return _powered_transform(a, exponent, x)


def _powered_transform(a: Any, exponent: int, x: Any) -> LinearOperator:
    number, inner = _unscaled(a, exponent)
    gain = backends.constant(x, np.array([number]), _real_dtype(a, x))
    return Scaled(inner, 1, _in_field(a, array_power(gain, exponent // 2)))


def _real_dtype(a: Any, x: Any) -> Any:
    """The precision of a transform's products with x, as a real dtype."""
    backend = backends.backend_of(x)
    return backends.real_dtype(backends.result_type(backend, x.dtype, 1j if isinstance(a, DFT) else 1), backend)


def _in_field(a: Any, gain: Any) -> Any:
    """An array of one number as a scalar, complex if the transform is, for its even powers are of complex dtype too."""
    if isinstance(a, DFT):
        backend = backends.backend_of(gain)
        gain = backends.namespace(backend).astype(gain, backends.result_type(backend, gain.dtype, 1j))
    return gain.reshape(())


def _unscaled(a: Any, exponent: int) -> tuple[int, LinearOperator]:
    """(c, B) with A ** k = c ** (k // 2) B of a transform: A A = n I, or n R ("ortho": R), R the reflection j → -j."""
    size = a.size
    power: Any = a if exponent % 2 else Identity(size)
    if isinstance(a, Hadamard):
        return size, power
    if exponent // 2 % 2:
        reflection = Permute(-np.arange(size) % max(size, 1))
        power = Product((a, reflection)) if exponent % 2 else reflection
    return (1 if a.norm == "ortho" else size), power


def _each(operators: tuple[LinearOperator, ...], exponent: int, x: Any) -> list[LinearOperator] | None:
    """The power of every one of square operators, as a product once, or None if one has none."""
    found = []
    for one in operators:
        if one.shape[0] != one.shape[1]:
            return None
        found.append(powered(one, exponent, x) or matrix_power(one, exponent))
    return None if None in found else found


# ---------------------------------------------------------------- permutations


def _permutes(a: LinearOperator) -> bool:
    """Whether an operator is made of permutations alone."""
    kinds = (Permutation, Identity, Product, Kronecker, DirectSum)
    return all(isinstance(node, kinds) for _, node in a._nodes()) and not a.num_params and a.shape[0] == a.shape[1]


def _permutation(a: LinearOperator, exponent: int) -> LinearOperator:
    """The power of a permutation: indices gather indices."""
    numbers = np.arange(a.shape[0])
    held = next((node.indices for _, node in a._nodes() if isinstance(node, Permute)), numbers)
    indices = a.indices if isinstance(a, Permute) else a @ backends.indices_beside(held, numbers)
    return Permute._unchecked(indices=squared(indices, exponent, lambda one, other: backends.gather(other, one)))


# ---------------------------------------------------------------- repeated squaring


def squared(a: Any, exponent: int, times: Callable[[Any, Any], Any]) -> Any:
    """The power a ** k, k ≥ 1, of an associative product, by repeated squaring: at most 2 log2 k products.

    Args:
        a: What is multiplied.
        exponent: k.
        times: The product.

    Returns:
        The power.

    Example:
        >>> squared(3, 5, lambda one, other: one * other)
        243
    """
    result = None
    while True:
        if exponent % 2:
            result = a if result is None else times(result, a)
        exponent //= 2
        if not exponent:
            return result
        a = times(a, a)


def array_power(a: Any, exponent: int) -> Any:
    """The power of every number of an array: integers wrap around, as in products.

    Args:
        a: An array.
        exponent: The exponent, at least 1.

    Returns:
        An array.

    Example:
        >>> array_power(np.array([2, 3], np.uint8), 9)
        array([  0, 227], dtype=uint8)
    """
    if backends.is_inexact(a.dtype) and exponent < 2**53:
        return a ** float(exponent)
    return squared(a, exponent, lambda one, other: one * other)


def matrix_power(a: LinearOperator, exponent: int) -> Dense | None:
    """A ** k as a matrix, where that is fewer FLOPs than k products with a vector; None elsewhere.

    Args:
        a: A square operator.
        exponent: k.

    Returns:
        The operator, or None.
    """
    return Dense(squared(a.to_dense(), exponent, lambda one, other: one @ other)) if as_matrix(a, exponent) else None


def as_matrix(a: LinearOperator, exponent: int) -> bool:
    """Whether a power is taken of the matrix: for one vector, squaring it costs fewer FLOPs than k products.

    Args:
        a: A square operator.
        exponent: k.

    Returns:
        True or False.
    """
    n = a.shape[0]
    return exponent > POWER_PRODUCTS and 4 * exponent.bit_length() * n**3 < exponent * max(a.flops(), n)
