"""One dense layer by itself, from its trained weight: what `from_linear` does in every framework. Needs none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from linops.nn.members import build, named
from linops.nn.projected import Fit, fit, warn_of
from linops.nn.spreads import spread_of
from linops.nn.swap import Found, Swap
from linops.operator import LinearOperator
from linops.projection import Moments
from linops.projection.moments import moments_of

#: how errors call the layer
NAME = "linear"


def swap_of(
    linear: Any, shape: tuple[int, int], family: Any, options: Mapping[str, Any], is_zero: Callable[[], bool]
) -> Swap:
    """A layer, and the symbolic operator that it gets.

    Args:
        linear: The layer.
        shape: (m, n).
        family: A family, its name, or a symbolic operator.
        options: The family's options.
        is_zero: Says whether its weight is all zero.

    Returns:
        The swap.

    Raises:
        TypeError: If the family is none.
        ValueError: If it refuses the sizes, or the operator has another shape or options.
    """
    m, n = shape
    if isinstance(family, LinearOperator):
        if options or family.shape != (m, n):
            what = f"takes no options {sorted(options)}" if options else f"has another shape than the layer, {m}×{n}"
            raise ValueError(f"from_linear: the operator {family._short()} {what}")
        target = family
    else:
        target = build(named(family), m, n, options, NAME)
    return Swap(Found(NAME, linear, shape, linear.bias is not None, is_zero), (target,), is_zero())


def fitted(swap: Swap, weight: Any, inputs: Any, second_moment: Any, stacklevel: int = 3) -> Fit | None:
    """The layer's weight in its structure.

    Args:
        swap: The layer.
        weight: W, (m, n).
        inputs: Rows, batches of them, moments, or None.
        second_moment: Instead of inputs, or None.
        stacklevel: As in `warnings.warn`, of the caller.

    Returns:
        The fit; None of zeros.

    Raises:
        TypeError: If an argument is none of the above.
        ValueError: If shapes do not fit, numbers are not finite, or both are given.
    """
    if inputs is not None and second_moment is not None:
        raise ValueError("from_linear: inputs and second_moment both say how inputs are spread; give one of them")
    if swap.zero_init:
        return None
    given = second_moment
    if inputs is not None:
        given = inputs if isinstance(inputs, Moments) else moments_of(inputs, swap.found.shape[1])
    spreads = {} if given is None else {NAME: spread_of(swap.found, given, swap.found.bias)}
    one = fit([swap], weight, spreads)
    warn_of({NAME: replace(one, few=())}, stacklevel=stacklevel + 1)
    return one
