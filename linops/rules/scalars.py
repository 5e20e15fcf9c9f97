"""Scalars: into the smallest leaf that takes them in, else to where the fewest numbers pass."""

from __future__ import annotations

from math import prod
from typing import Any

from linops.algebra.scale import times
from linops.operator import LinearOperator, scale
from linops.operators.block_tensor_train import BlockTensorTrain
from linops.operators.dense import Dense
from linops.operators.identity import Identity
from linops.operators.low_rank import LowRank
from linops.operators.product import Product
from linops.operators.scaled import Scaled
from linops.operators.sum import Sum
from linops.operators.tensor_train import TensorTrain
from linops.rules.functions import absorb, reduce
from linops.rules.pairs import absorbed, computable


@reduce.dispatch
def _reduce_scaled(a: Scaled):
    if isinstance(a.base, Scaled):
        return _as_one(a, a.base)
    if computable(a):
        # one after the other: a narrow gain would round what it is multiplied by
        taken_in = absorbed(a.base, a.number if a.gain is None else a.gain)
        if taken_in is not None:
            return taken_in if a.gain is None else scale(a.number, taken_in)
    return scaled_product(a.base.factors, [a]) if isinstance(a.base, Product) else None


def _as_one(a: Scaled, b: Scaled) -> LinearOperator | None:
    """X (y A) = (x y) A."""
    if a.gain is None or b.gain is None:
        gain = b.gain if a.gain is None else a.gain
        return scale(a.number * b.number, b.base if gain is None else scale(gain, b.base))
    if not computable(a) or not computable(*[Scaled(Identity(1), 1, one.gain) for one in (a, b)]):
        return None
    gain = (a.gain.reshape(1) * b.gain.reshape(1)).reshape(())  # of 0-d arrays NumPy makes scalars
    return Scaled(b.base, a.number * b.number, gain)


def scaled_product(factors: tuple[LinearOperator, ...], scalars: list[Scaled]) -> LinearOperator:
    """A product times scalars, which multiply where the fewest numbers pass.

    Args:
        factors: At least one operator.
        scalars: Multiples of any operators.

    Returns:
        The operator.
    """
    whole = factors[0] if len(factors) == 1 else Product(tuple(factors))
    if not scalars:
        return whole
    sizes = [factor.shape[0] for factor in factors]
    place = min(range(len(sizes)), key=sizes.__getitem__)
    complex_scalar = any(scaled._is_complex for scaled in scalars) and not whole._is_complex
    # outside is as good; and real numbers stay real as long as they can
    if sizes[place] >= min(whole.shape) or complex_scalar:
        return times(scalars, whole)
    return Product((*factors[:place], times(scalars, factors[place]), *factors[place + 1 :]))


@reduce.dispatch
def _reduce_sum(a: Sum):
    """The sum c A + c B as c (A + B)."""
    first = a.terms[0]
    if not isinstance(first, Scaled) or type(first.number) is bool:
        return None
    for term in a.terms:
        if not isinstance(term, Scaled) or term.gain is not first.gain or term.number != first.number:
            return None
    return times([first], Sum(tuple(term.base for term in a.terms)))  # type: ignore[attr-defined]


# ---------------------------------------------------------------- who takes in a scalar


@absorb.dispatch
def _absorb_dense(a: Dense, scalar: Any):
    return Dense(scalar * a.matrix)


@absorb.dispatch
def _absorb_low_rank(a: LowRank, scalar: Any):
    m, n = a.shape
    return LowRank(scalar * a.U, a.V) if m < n else LowRank(a.U, scalar * a.V)


@absorb.dispatch
def _absorb_train(a: TensorTrain, scalar: Any):
    return TensorTrain(_smallest_scaled(a.cores, scalar))


@absorb.dispatch
def _absorb_block_train(a: BlockTensorTrain, scalar: Any):
    return BlockTensorTrain(_smallest_scaled(a.cores, scalar), a.out_dims, a.in_dims)


def _smallest_scaled(arrays: tuple[Any, ...], scalar: Any) -> tuple[Any, ...]:
    """The arrays with the smallest one scaled."""
    place = min(range(len(arrays)), key=lambda number: prod(arrays[number].shape))
    return (*arrays[:place], scalar * arrays[place], *arrays[place + 1 :])


@absorb.dispatch
def _absorb_product(a: Product, scalar: Any):
    factors = first_that_absorbs(a.factors, scalar)
    return None if factors is None else Product(factors)


@absorb.dispatch
def _absorb_sum(a: Sum, scalar: Any):
    terms = []
    for term in a.terms:
        terms.append(absorbed(term, scalar))
        if terms[-1] is None:
            return None
    return Sum(tuple(terms))


def first_that_absorbs(factors: tuple[LinearOperator, ...], scalar: Any) -> tuple[LinearOperator, ...] | None:
    """The factors with the smallest that takes in a scalar multiplied by it, or None if none does.

    Args:
        factors: Operators.
        scalar: A number or 0-d array.

    Returns:
        The factors, or None.
    """
    for place in sorted(range(len(factors)), key=lambda number: factors[number].num_params):
        taken_in = absorbed(factors[place], scalar)
        if taken_in is not None:
            return (*factors[:place], taken_in, *factors[place + 1 :])
    return None
