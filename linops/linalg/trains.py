"""Sums of tensor trains are tensor trains of added ranks.

Source: Oseledets, Tensor-Train Decomposition, 2011, §4.
"""

from __future__ import annotations

from typing import Any, cast

from linops import backends
from linops.linalg.norms import norm_, norm_of_any
from linops.linalg.parts import space_of
from linops.operator import LinearOperator
from linops.operators.scaled import Scaled
from linops.operators.sum import Sum
from linops.operators.tensor_train import TensorTrain


def train_of(a: LinearOperator) -> TensorTrain | None:
    """A train, a multiple of one, or a sum of such of equal dimensions, as one train; None of others.

    Args:
        a: An operator with numbers.

    Returns:
        The train. Of a sum the cores hold those of the terms side by side, so its ranks are sums.
    """
    if isinstance(a, TensorTrain):
        return a
    if isinstance(a, Scaled):
        train = train_of(a.base)
        return None if train is None else TensorTrain([a._scale(train.cores[0]), *train.cores[1:]])
    if not isinstance(a, Sum):
        return None
    trains = [train_of(term) for term in a.terms]
    if any(train is None for train in trains):
        return None
    dims = [[core.shape[1:3] for core in train.cores] for train in cast(list[TensorTrain], trains)]
    if any(one != dims[0] for one in dims):
        return None
    return TensorTrain([_beside(cores, k, len(dims[0])) for k, cores in enumerate(zip(*[t.cores for t in trains]))])  # type: ignore[union-attr]


def _beside(cores: tuple[Any, ...], place: int, count: int) -> Any:
    """The cores of terms along the diagonal of their ranks; in a row at the first place, in a column at the last."""
    space: Any = space_of(cores[0])
    if count == 1:
        return sum(cores[1:], cores[0])
    if place == 0:
        return space.concat(cores, axis=3)
    if place == count - 1:
        return space.concat(cores, axis=0)
    after, rows, start = sum(core.shape[3] for core in cores), [], 0
    for core in cores:
        before, m, n, width = core.shape
        left, right = [
            backends.zeros(core, (before, m, n, size), core.dtype) for size in (start, after - start - width)
        ]
        rows.append(space.concat([left, core, right], axis=3))
        start += width
    return space.concat(rows, axis=0)


@norm_.rule(
    "of the sum as one train, by contraction of its cores",
    of="tensor trains",
    when=lambda a: not a.is_symbolic and train_of(a) is not None,
    cost="Σ r³ m n of the summed ranks",
)
def _norm_of_trains(a: Sum, order: Any):
    train: Any = train_of(a)
    return norm_(train, order) if order == "fro" else norm_of_any(a, order)
