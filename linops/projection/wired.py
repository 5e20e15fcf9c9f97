"""A member of a structure by contraction: of the ways to lay leaves along bonds the one of fewest numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from linops.operator import LinearOperator
from linops.projection.growth import Growth
from linops.projection.inside import framed, inside
from linops.projection.uneven import uneven, unevened
from linops.projection.wiring import laid, needs, routes, wiring_of
from linops.scaling import initial_stds


def wired(target: LinearOperator, A: LinearOperator, random: Any) -> LinearOperator | str:
    """An operator as a member of a structure, both being contractions of their leaves, or in pads.

    Args:
        target: The structure.
        A: A concrete operator.
        random: Where numbers in components that a rank has over come from, or None.

    Returns:
        The member, or why there is none.
    """
    found = _as_network(target, A, random)
    if isinstance(found, LinearOperator):
        return found
    frame = framed(target)
    source = None if frame is None else inside(A, frame)
    if frame is None or source is None:
        return found
    core = _as_network(frame.core, source, random)
    return frame.around(core) if isinstance(core, LinearOperator) else core


def _as_network(target: LinearOperator, A: LinearOperator, random: Any) -> LinearOperator | str:
    growth = Growth(tuple(initial_stds(target).values()), random)
    chain = uneven(target)
    if chain is not None:
        return unevened(target, chain, lambda even: _as_network(even, A, random), growth)
    wiring = wiring_of(A, target)
    if isinstance(wiring, str):
        return wiring
    best: Any = None
    for route in routes(wiring):
        needed = needs(wiring, route)
        short = max([needed[bond] / wiring.size(axes) for bond, axes in wiring.bonds.items()], default=1.0)
        key = (max(short, 1.0), route.work)
        if best is None or key < best[0]:
            best = key, route, needed
            if key <= (1.0, wiring.total):
                break
    if best is None:
        return f"{A._short()} depends on what {target._short()} has no leaf for"
    (short, _), route, needed = best
    if short > 1:
        had = [wiring.size(axes) for axes in wiring.bonds.values()]
        return f"it takes ranks {_shown(needed.values())}, the target has {_shown(had)}"
    like = next((array for array in wiring.arrays if array is not None), None)
    like = np.zeros(()) if like is None else like
    tensors = laid(wiring, route, like, growth)
    specs = [leaf for _, leaf in target.named_leaves()]
    return target.with_leaves([tensor.reshape(tuple(spec.shape)) for tensor, spec in zip(tensors, specs)])


def _shown(ranks: Any) -> str:
    return ", ".join(map(str, ranks))
