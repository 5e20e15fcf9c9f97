"""Two block-diagonal factors whose sizes do not divide: in even form, blocks L_ij R_ij of one rank, and back.

Block (i, j) of such a product has as many components as numbers of the middle go from block j of the first factor to
block i of the last (`stride.py`), which differ by one. Of a source the missing ones are zero; of a target those that
not all blocks have are over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from linops import backends
from linops.operator import LinearOperator
from linops.operators.einsum import Einsum
from linops.operators.planned import network_of
from linops.operators.product import Product
from linops.projection.growth import Growth
from linops.projection.stride import Strided, strided_of
from linops.specs import spec

#: y_i = Σ_j L_ij R_ij x_j, with the columns of L as rows
_EVEN = "ijup,ijuq,jq->ip"


def uneven(A: LinearOperator) -> Strided | None:
    """An operator, if it is two block-diagonal factors with a permutation between whose axes do not meet.

    Args:
        A: The operator.

    Returns:
        The structure, or None.
    """
    return strided_of(A.structure.operator) if isinstance(A, Product) and network_of(A) is None else None


def evened(A: LinearOperator, chain: Strided) -> LinearOperator:
    """A product in even form.

    Args:
        A: The product.
        chain: Its structure.

    Returns:
        An `Einsum`.
    """
    count, p, k, J, inner, q = chain.sizes
    _, places, width = chain.places
    left, right = [leaf for _, leaf in A.named_leaves()]
    columns = backends.permute(left, (0, 2, 1)).reshape(count * k, p)
    rows = backends.gather(right.reshape(J * inner, q), backends.indices_beside(right, chain.middle))
    at, total = backends.indices_beside(left, places), count * J * int(width)
    tensors = [
        backends.scatter(part, at, total).reshape(count, J, int(width), size)
        for part, size in ((columns, p), (rows, q))
    ]
    return Einsum(_EVEN, tensors)


def unevened(
    target: LinearOperator, chain: Strided, into: Callable[[LinearOperator], LinearOperator | str], growth: Growth
) -> LinearOperator | str:
    """A member of an uneven structure, of as many components as all blocks have.

    Args:
        target: The structure.
        chain: The same.
        into: What converts to a structure.
        growth: What stands in components that are over.

    Returns:
        The member, or why there is none.
    """
    count, p, k, J, inner, q = chain.sizes
    ranks, places, width = chain.places
    rank = int(ranks.min())
    if not rank:
        return "some blocks of the target are zero"
    found = into(Einsum(_EVEN, [spec(count, J, rank, size) for size in (p, q)]))
    if isinstance(found, str):
        return found
    left, right = [leaf for _, leaf in found.named_leaves()]
    block, u = places // int(width), places % int(width)
    at = np.where(u < rank, block * rank + u, count * J * rank)
    back = np.argsort(chain.middle)
    columns = _picked(left, at).reshape(count, k, p)
    rows = _picked(right, at[back])
    return target.with_leaves(
        [
            backends.permute(columns, (0, 2, 1)),
            growth.filled(rows, (u >= rank)[back][:, None], 1).reshape(J, inner, q),
        ]
    )


def _picked(tensor: Any, at: np.ndarray) -> Any:
    """Vectors along the last axis; zeros where the index is past the end."""
    size = tensor.shape[-1]
    space: Any = backends.namespace(backends.backend_of(tensor))
    flat = space.concat([tensor.reshape(-1, size), backends.zeros(tensor, (1, size), tensor.dtype)], axis=0)
    return backends.gather(flat, backends.indices_beside(flat, at))
