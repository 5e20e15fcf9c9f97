"""Structures in a frame of pads: L T R with L Lᵀ = I and Rᵀ R = I is A where T is Lᵀ A Rᵀ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from linops.operator import LinearOperator, flat
from linops.operators.dense import Dense
from linops.operators.identity import Identity
from linops.operators.low_rank import LowRank
from linops.operators.planned import network_of
from linops.operators.product import Product
from linops.projection.ends import selects


@dataclass(frozen=True)
class Frame:
    """L T R, with L and R of no leaves.

    Attributes:
        whole: The product.
        left: L.
        core: T.
        right: R.
    """

    whole: LinearOperator
    left: LinearOperator
    core: LinearOperator
    right: LinearOperator

    def around(self, core: LinearOperator) -> LinearOperator:
        """The whole with another core of the same structure.

        Args:
            core: T.

        Returns:
            L T R.
        """
        return self.whole.with_leaves([leaf for _, leaf in core.named_leaves()])

    def fits(self, other: Frame) -> bool:
        """Whether another frame is the same map.

        Args:
            other: The other.

        Returns:
            True or False.
        """
        return _same(self.left.T, other.left.T) and _same(self.right, other.right)


def framed(A: LinearOperator) -> Frame | None:
    """An operator as a core between operators that move, pad and crop.

    Args:
        A: The operator.

    Returns:
        The frame; None where nothing is around the core, or it drops what the core has.
    """
    if not isinstance(A, Product):
        return None
    held = [k for k, factor in enumerate(A.factors) if any(factor.named_leaves())]
    if not held:
        return None
    first, last = held[0], held[-1]
    left = _composed(A.factors[:first], A.shape[0])
    right = _composed(A.factors[last + 1 :], A.shape[1])
    if not selects(left) or not selects(right) or not _embeds(left.T) or not _embeds(right):
        return None
    return Frame(A, left, _composed(A.factors[first : last + 1], 0), right)


def core_of(A: LinearOperator) -> LinearOperator:
    """What is between the pads of an operator; itself where there are none.

    Args:
        A: The operator.

    Returns:
        The core.
    """
    frame = framed(A)
    return A if frame is None else frame.core


def inside(A: LinearOperator, frame: Frame) -> LinearOperator | None:
    """Lᵀ A Rᵀ, of which L (Lᵀ A Rᵀ) R = A.

    Args:
        A: The operator.
        frame: L and R.

    Returns:
        The operator; None where that is known of a matrix alone.
    """
    own = framed(A)
    if own is not None and own.fits(frame):
        return own.core
    left, right, core = frame.left.T, frame.right.T, A
    if own is not None:
        left, core, right = left @ own.left, own.core, own.right @ right
    if isinstance(core, LowRank):
        return LowRank(flat(left @ core.U), _rows(core.V, right))
    if isinstance(core, Dense):
        return Dense(_rows(flat(left @ core.matrix), right))
    whole = left @ core @ right
    return None if network_of(whole) is None else whole


def _rows(x: Any, right: LinearOperator) -> Any:
    return flat(right.T @ x.T).T


def _composed(factors: Any, size: int) -> LinearOperator:
    if not factors:
        return Identity(size)
    return factors[0] if len(factors) == 1 else Product(tuple(factors))


def _numbers(count: int) -> Any:
    return np.random.default_rng(0).integers(1, 2**40, count).astype(float)


def _embeds(A: LinearOperator) -> bool:
    """Whether Aᵀ A = I."""
    x = _numbers(A.shape[1])
    return bool((A.T @ (A @ x) == x).all())


def _same(A: LinearOperator, B: LinearOperator) -> bool:
    x = _numbers(A.shape[1])
    return A.shape == B.shape and bool((A @ x == B @ x).all())
