"""Traces of products: of two tensor trains core by core, and of factors that merge to one operator."""

from __future__ import annotations

from typing import Any, cast

from linops import backends
from linops.linalg.merging import inner, merged
from linops.linalg.traces import trace_
from linops.linalg.trains import train_of
from linops.operators.product import Product
from linops.operators.tensor_train import TensorTrain


def _trains(a: Any) -> tuple[TensorTrain, TensorTrain] | None:
    """The trains of a product of two that fit core by core."""
    if a.is_symbolic or len(a.factors) != 2:
        return None
    one, other = (train_of(factor) for factor in a.factors)
    if one is None or other is None or len(one.cores) != len(other.cores):
        return None
    fit = all(core.shape[1:3] == across.shape[2:0:-1] for core, across in zip(one.cores, other.cores))
    return (one, other) if fit else None


@trace_.rule(
    "the inner product of two trains, core by core",
    of="tensor trains",
    when=lambda a: _trains(a) is not None,
    cost="Σ r³ m n",
)
def _trace_of_trains(a: Product):
    one, other = cast(tuple[TensorTrain, TensorTrain], _trains(a))
    found: Any = None
    for core, across in zip(one.cores, other.cores):
        # found[a, b] Σ_ij core[a, i, j, a'] across[b, j, i, b'], over a first
        before, m, n, after = core.shape
        row = core
        if found is not None:
            row = (backends.permute(found, (1, 0)) @ core.reshape(before, -1)).reshape(-1, m, n, after)
        row = backends.permute(row, (3, 0, 2, 1)).reshape(after, -1)  # (a', (b, j, i))
        found = row @ across.reshape(row.shape[1], across.shape[3])
    return found.reshape(())


def _whole(a: Any) -> Any:
    """What a product is when its factors merge to one operator."""
    found = merged(a)
    return None if found is None or isinstance(inner(found), Product) else found


@trace_.rule(
    "that of the one operator to which the factors merge",
    of="diagonals, circulants, Kronecker products, …",
    when=lambda a: _whole(a) is not None,
    parts=lambda a: [(trace_, _whole(a))],
    cost="that of merging",
)
def _trace_merged(a: Product):
    return trace_(_whole(a))
