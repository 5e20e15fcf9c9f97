"""Spectra in NumPy's order, with vectors whose columns follow."""

from __future__ import annotations

from typing import Any

import numpy as np

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.inputs import DENSE_LIMIT
from linops.linalg.parts import space_of
from linops.operator import LinearOperator, flat
from linops.operators.dense import Dense
from linops.operators.permute import Permute


def order_of(values: Any, descending: bool = False) -> Any:
    """The indices that sort real numbers: NumPy's where the numbers are at hand, None where they are in order."""
    if not lapack.is_known(values):
        return space_of(values).argsort(-values if descending else values)
    numbers = backends.to_numpy(lapack.stop_gradient(values))
    numbers = -numbers if descending else numbers
    if bool((numbers[1:] >= numbers[:-1]).all()):
        return None
    return np.argsort(numbers, kind="stable")


def taken(values: Any, order: Any) -> Any:
    """Numbers in an order."""
    return values if order is None else _gathered(values, order)


def _gathered(x: Any, order: Any) -> Any:
    """Rows in an order, which may be traced."""
    if isinstance(order, np.ndarray):
        return backends.gather(x, backends.indices_beside(x, order))
    return space_of(x).take(x, order, axis=0)


def columns_taken(V: LinearOperator, order: Any, like: Any) -> LinearOperator:
    """The columns of an operator in an order: by a permutation, or gathered where the order is traced.

    Args:
        V: An operator.
        order: What `order_of` found.
        like: An array of the framework that the order is traced in.

    Returns:
        The operator.

    Raises:
        ValueError: If the order is traced, and the matrix of V too large to be written out.
    """
    if order is None:
        return V
    if isinstance(order, np.ndarray) and not isinstance(V, Dense):
        return V @ Permute(order).T
    m, n = V.shape
    if m * n > DENSE_LIMIT:
        raise ValueError(
            f"{V._short()}: its columns are to follow the eigenvalues, whose order is traced, and it is too large to "
            "be written out; call the function outside jax.jit and vmap"
        )
    if isinstance(V, Dense):
        matrix = V.matrix
    else:
        matrix = flat(V._columns(backends.eye(like, n, like.dtype if V.dtype is None else V._own_dtype)))
    rows = backends.permute(matrix, (1, 0))
    return Dense(backends.permute(_gathered(rows, order), (1, 0)))


def rows_taken(Vh: LinearOperator, order: Any, like: Any) -> LinearOperator:
    """The rows of an operator in an order, as `columns_taken` takes columns."""
    return Vh if order is None else columns_taken(Vh.T, order, like).T
