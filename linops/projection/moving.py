"""Matrices whose entries are parameters, each in its places, as others: diagonals, bands, patterns, circulants."""

from __future__ import annotations

from typing import Any

import numpy as np

from linops import backends
from linops.operator import LinearOperator
from linops.projection.placements import placement_of, whole


def moved(target: LinearOperator, A: LinearOperator) -> LinearOperator | None:
    """A as a member of a structure that has a place for each of its entries.

    Args:
        target: A structure of specs.
        A: A concrete operator.

    Returns:
        The member; None where entries of A stand where the target has none, or differ where its are equal.
    """
    leaves = [leaf for _, leaf in A.named_leaves()]
    if not leaves:
        return None
    ours, theirs = placement_of(A.structure.operator), placement_of(target)
    if ours is None or theirs is None:
        return None
    source = np.full(theirs.count + 1, ours.count)
    source[theirs.ids.ravel()[::-1]] = ours.ids.ravel()[::-1]
    source[-1] = ours.count
    if (source[theirs.ids] != ours.ids).any():
        return None
    space: Any = backends.namespace(backends.backend_of(leaves[0]))
    flat = [space.reshape(leaf, (-1,)) for leaf in leaves]
    values = space.concat([*flat, backends.zeros(flat[0], (1,), flat[0].dtype)])
    values = backends.gather(values, backends.indices_beside(values, source[:-1]))
    found, start = [], 0
    for _, spec in target.named_leaves():
        size = int(np.prod(spec.shape))
        found.append(values[start : start + size].reshape(tuple(spec.shape)))
        start += size
    return whole(target.with_leaves(found))
