"""Sums and products whose parts merge: sparse terms to one sparse operator, others by `lo.simplify`."""

from __future__ import annotations

from typing import Any

import numpy as np

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.parts import alike
from linops.operator import LinearOperator, assume
from linops.operators.diagonal import Diagonal
from linops.operators.identity import Identity
from linops.operators.scaled import Scaled
from linops.operators.sparse import Sparse
from linops.operators.sum import Sum
from linops.operators.tridiagonal import Tridiagonal
from linops.operators.zero import Zero
from linops.rules.simplification import simplify


def merged(a: Any) -> LinearOperator | None:
    """A sum or product as an operator of another kind, or of simpler parts; None where there is none.

    Args:
        a: The sum or product.

    Returns:
        The operator, whose arrays are made of those of the parts: anew each time, for the parts' may have changed.
    """
    if backends.is_compiling() or a.is_symbolic:
        return None
    is_sparse = isinstance(a, Sum) and any(isinstance(inner(term), Sparse) for term in a.terms)
    found = _sparse(a) if is_sparse else simplify(a)
    if found is None or found is a:
        return None
    tags = a.tags.yes & ~found.tags.yes
    return assume(found, tags) if tags else found


def inner(term: Any) -> Any:
    """What a term is a multiple of."""
    while isinstance(term, Scaled):
        term = term.base
    return term


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


def _entries(term: Any) -> tuple[Any, Any, Any] | None:
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
    if isinstance(term, Sparse) and lapack.is_known(term.rows):
        return term.values, np.asarray(backends.to_numpy(term.rows)), np.asarray(backends.to_numpy(term.columns))
    return None
