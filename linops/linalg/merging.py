"""Sums and products whose parts merge: sparse terms to one sparse operator, others by `lo.simplify`."""

from __future__ import annotations

from typing import Any

import numpy as np

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.parts import alike
from linops.linalg.sparse_products import Entries, times
from linops.operator import LinearOperator, assume
from linops.operators.diagonal import Diagonal
from linops.operators.identity import Identity
from linops.operators.product import Product
from linops.operators.scaled import Scaled
from linops.operators.sparse import Sparse
from linops.operators.sum import Sum
from linops.operators.tridiagonal import Tridiagonal
from linops.operators.zero import Zero
from linops.rules.simplification import simplify

#: the largest share of entries with which a product is sparse
_SPARSE = 0.1


def merged(a: Any) -> LinearOperator | None:
    """A sum or product as an operator of another kind, or of simpler parts; None where there is none.

    Args:
        a: The sum or product.

    Returns:
        The operator, whose arrays are made of those of the parts: anew each time, for the parts' may have changed.
    """
    if backends.is_compiling() or a.is_symbolic:
        return None
    found = _sparse(a) if isinstance(a, Sum) and any(map(_has_sparse, a.terms)) else None
    found = simplify(a) if found is None else found
    if found is None or found is a:
        return None
    tags = a.tags.yes & ~found.tags.yes
    return assume(found, tags) if tags else found


def inner(term: Any) -> Any:
    """What a term is a multiple of."""
    while isinstance(term, Scaled):
        term = term.base
    return term


def _has_sparse(term: Any) -> bool:
    """Whether a term is sparse, or a product with something sparse."""
    term = inner(term)
    return isinstance(term, Sparse) or (isinstance(term, Product) and any(map(_has_sparse, term.factors)))


def _sparse(a: Sum) -> Sparse | None:
    """A sum of operators of few entries as one."""
    parts = [_entries(term) for term in a.terms]
    if any(part is None for part in parts):
        return None
    values = alike(a, [part[0] for part in parts])  # type: ignore[index]
    rows, columns = (np.concatenate([part[axis] for part in parts]) for axis in (1, 2))  # type: ignore[index]
    space: Any = backends.namespace(a.backend)
    values = [space.astype(one, a.dtype) for one in values]
    return Sparse(backends.concatenate(values[0], values[1:]), rows, columns, a.shape)


def _entries(term: Any) -> Entries | None:
    """The entries of an operator that has few, and their rows and columns; None of others."""
    n = min(term.shape)
    every = np.arange(n)
    if isinstance(term, Scaled):
        found = _entries(term.base)
        return None if found is None else (term._scale(found[0]), *found[1:])
    if isinstance(term, Zero):
        return np.zeros(0), every[:0], every[:0]
    if isinstance(term, Identity):
        return np.ones(n), every, every
    if isinstance(term, Diagonal):
        return term.diagonal, every, every
    if isinstance(term, Tridiagonal):
        values = backends.concatenate(term.lower, [term.diag, term.upper])
        return values, np.concatenate([every[1:], every, every[:-1]]), np.concatenate([every[:-1], every, every[1:]])
    if isinstance(term, Product):
        return _entries_of_product(term)
    if isinstance(term, Sparse) and lapack.is_known(term.rows):
        return term.values, np.asarray(backends.to_numpy(term.rows)), np.asarray(backends.to_numpy(term.columns))
    return None


def _entries_of_product(a: Product) -> Entries | None:
    """The entries of a product of operators of few entries; None of others, and where they are not few."""
    found: Entries | None = None
    for factor in a.factors:
        entries = _entries(factor)
        if entries is None:
            return None
        if found is not None:
            values = [backends.namespace(a.backend).astype(one, a.dtype) for one in alike(a, [found[0], entries[0]])]
            entries = times((values[0], *found[1:]), (values[1], *entries[1:]), factor.shape[1])
            if entries is None or entries[1].size > _SPARSE * a.shape[0] * factor.shape[1]:
                return None
        found = entries
    return found
