"""Bounds of spectral norms by products with ones: how many terms a series of an operator takes."""

from __future__ import annotations

from functools import reduce
from math import sqrt
from typing import Any

import numpy as np

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.function import Function
from linops.linalg.parts import norms
from linops.linalg.spectra import scalar_of
from linops.operator import LinearOperator, flat
from linops.operators.block_diag import BlockDiag
from linops.operators.block_tensor_train import BlockTensorTrain
from linops.operators.butterfly import Butterfly
from linops.operators.dense import Dense
from linops.operators.dft import DFT
from linops.operators.diagonal import Diagonal
from linops.operators.direct_sum import DirectSum
from linops.operators.hadamard import Hadamard
from linops.operators.kronecker import Kronecker
from linops.operators.kronecker_sum import KroneckerSum
from linops.operators.low_rank import LowRank
from linops.operators.product import Product
from linops.operators.scaled import Scaled
from linops.operators.sparse import Sparse
from linops.operators.sum import Sum
from linops.operators.tensor_train import TensorTrain
from linops.operators.triangular import Triangular
from linops.operators.tridiagonal import Tridiagonal
from linops.operators.zero import Zero
from linops.tags import Tag

#: a number that the spectral norm does not exceed; an estimate, for which see its rule, where only products are known
bound_: Function = Function("norm bound")

_PRODUCTS, _VECTORS = 8, 4


def norm_bound(a: LinearOperator) -> Any:
    """A bound of the spectral norm, without derivatives.

    Args:
        a: A concrete operator.

    Returns:
        A real number, of Python or a 0-d array.

    Example:
        >>> import linops as lo, numpy as np
        >>> float(norm_bound(lo.Dense(np.array([[3., -4.], [0., 0.]])) + 2 * lo.Identity(2)))
        7.291502622129181
    """
    return bound_(a._map(lapack.stop_gradient))


def _larger(one: Any, other: Any) -> Any:
    if backends.is_array(one) or backends.is_array(other):
        space: Any = backends.namespace(backends.backend_of(one if backends.is_array(one) else other))
        return space.where(one > other, one, other)
    return max(one, other)


def _magnitudes(a: LinearOperator) -> Any:
    return a._map(lambda leaf: backends.namespace(backends.backend_of(leaf)).abs(leaf))


@bound_.rule("0", cost="0")
def _bound_zero(a: Zero):
    return 0.0


@bound_.rule("√n, or 1", cost="1")
def _bound_transform(a: DFT | Hadamard):
    return 1.0 if isinstance(a, DFT) and a.norm == "ortho" else sqrt(a.shape[0])


@bound_.rule("√(the largest row sum times the largest column sum) of magnitudes", cost="two products")
def _bound_entries(
    a: Dense
    | Diagonal
    | Triangular
    | Tridiagonal
    | BlockDiag
    | LowRank
    | Sparse
    | TensorTrain
    | BlockTensorTrain
    | Butterfly,
):
    if 0 in a.shape or not a.num_params:
        return 0.0
    magnitudes = _magnitudes(a)
    like = magnitudes._like
    space: Any = backends.namespace(backends.backend_of(like))
    rows, columns = [
        space.amax(one @ (backends.zeros(like, (one.shape[1],), like.dtype) + 1)) for one in (magnitudes, magnitudes.T)
    ]
    return space.sqrt(rows) * space.sqrt(columns)


@bound_.rule("|c| times that of the base", parts=lambda a: [(bound_, a.base)])
def _bound_scaled(a: Scaled):
    return abs(scalar_of(a)) * bound_(a.base)


@bound_.rule("the sum of the terms'", parts=lambda a: [(bound_, term) for term in a.terms])
def _bound_sum(a: Sum):
    return sum(bound_(term) for term in a.terms)


@bound_.rule("the sum of the factors'", parts=lambda a: [(bound_, factor) for factor in a.factors])
def _bound_kronecker_sum(a: KroneckerSum):
    return sum(bound_(factor) for factor in a.factors)


@bound_.rule("the product of the factors'", parts=lambda a: [(bound_, factor) for factor in a.factors])
def _bound_product(a: Product | Kronecker):
    return reduce(lambda one, other: one * other, [bound_(factor) for factor in a.factors])


@bound_.rule("the largest of the blocks'", parts=lambda a: [(bound_, block) for block in a.blocks])
def _bound_direct_sum(a: DirectSum):
    return reduce(_larger, [bound_(block) for block in a.blocks])


@bound_.rule("1", when=lambda a: Tag.ORTHOGONAL in a.tags.yes, cost="0")
def _bound_orthogonal(a: LinearOperator):
    return 1.0


@bound_.rule("twice an estimate by products with AᴴA: no bound, where only products are known", cost="16 products")
def _bound_any(a: LinearOperator):
    like = a._like
    dtype = like.dtype if a.dtype is None else a._own_dtype
    start = np.random.default_rng(0).standard_normal((a.shape[1], _VECTORS))
    x = backends.constant(like, start, dtype)
    space: Any = backends.namespace(backends.backend_of(x))
    size: Any = 0.0
    for _ in range(_PRODUCTS):
        x = x / (norms(x) + space.finfo(dtype).tiny)
        y = flat(a @ x)
        size = space.amax(norms(y))
        x = flat(a.H @ y)
    return 2 * size
