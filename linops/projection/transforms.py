"""Circulant matrices as diagonal ones between Fourier transforms, and back; what is known of operators without leaves.

A = F⁻¹ diag(F c) F for the first column c of A. With L D R for L, R transforms of which one is the conjugate of the
other, and s the product of their scales (1, or 1/√n where unitary), n s D = diag(R₀ c), R₀ being R unnormalised.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from linops import backends
from linops.linalg.solving import diagonal
from linops.operator import LinearOperator
from linops.operators.circulant import Circulant
from linops.operators.dft import DFT
from linops.operators.diagonal import Diagonal
from linops.operators.identity import Identity
from linops.operators.permutation import Permutation
from linops.operators.product import Product


def diagonalized(target: Product, A: LinearOperator) -> LinearOperator | None:
    """A circulant matrix as a diagonal between transforms.

    Args:
        target: Transforms around a diagonal.
        A: A concrete operator.

    Returns:
        The product; None where target or operator is another one.
    """
    n = A.shape[0]
    scale = _scale(target)
    if scale is None or not isinstance(A, Circulant) or tuple(A.c.shape) != (n,) or A.shape != (n, n):
        return None
    right: Any = target.factors[2]
    column = DFT(n, conjugate=right.conjugate != A.transposed) @ A.c
    return target.with_leaves([column / (n * scale)])


def circulant(target: Circulant, A: LinearOperator) -> LinearOperator | None:
    """A diagonal between transforms as a circulant matrix, which is complex.

    Args:
        target: A circulant matrix of a spec.
        A: A concrete operator.

    Returns:
        The circulant matrix; None where target or operator is another one.
    """
    n = A.shape[0]
    scale = _scale(A)
    if scale is None or tuple(target.c.shape) != (n,) or target.shape != (n, n):
        return None
    right, d = A.factors[2], A.factors[1].diagonal  # type: ignore[attr-defined]
    return target.with_leaves([(DFT(n, conjugate=right.conjugate == target.transposed) @ d) * scale])


def _scale(product: LinearOperator) -> float | None:
    """The product of the scales of two conjugate transforms around a diagonal; None of other products."""
    if not isinstance(product, Product) or len(product.factors) != 3:
        return None
    left, between, right = product.factors
    if not isinstance(left, DFT) or not isinstance(between, Diagonal) or not isinstance(right, DFT):
        return None
    n = left.size
    if n == 0 or left.conjugate == right.conjugate:
        return None
    return float(np.prod([n**-0.5 for one in (left, right) if one.norm == "ortho"]))


def permutes(A: LinearOperator) -> bool:
    """Whether an operator is a permutation, by its class.

    Args:
        A: The operator.

    Returns:
        True or False.
    """
    return isinstance(A, (Permutation, Identity)) and A.shape[0] == A.shape[1]


def diagonal_of(A: LinearOperator) -> Any:
    """The diagonal of an operator without leaves, as an array of NumPy.

    Args:
        A: The operator.

    Returns:
        (min(m, n),) in double precision.
    """
    return backends.asarray(np.asarray(diagonal(A)), "numpy", "float64")
