"""Lanczos' iteration from several vectors at once, with full reorthogonalisation: A V = V T on each one's own space."""

from __future__ import annotations

from typing import Any

import numpy as np

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.parts import norms
from linops.linalg.probes import applied
from linops.operator import LinearOperator


def tridiagonals(A: LinearOperator, z: Any, steps: int) -> tuple[Any, Any, Any]:
    """Orthonormal bases of the Krylov spaces of vectors, and A in them.

    A space that A keeps ends early: the vectors after it are zero, and T has ones on its diagonal there.

    Args:
        A: A Hermitian operator.
        z: Vectors (n, k), in the dtype of the products.
        steps: The dimension m of each space.

    Returns:
        V (m, n, k), T (k, m, m) real, and the lengths (k,) of the vectors.

    Example:
        >>> import linops as lo
        >>> V, T, lengths = tridiagonals(lo.Diagonal(np.array([1., 2.])), np.array([[3.], [4.]]), 2)
        >>> lengths, np.linalg.eigvalsh(T[0]).round(12)
        (array([5.]), array([1., 2.]))
    """
    space: Any = backends.namespace(backends.backend_of(z))
    eps = space.finfo(z.dtype).eps

    lengths = norms(z)
    vector = z / space.where(lengths == 0, space.ones_like(lengths), lengths)
    basis, diagonal, beside, size = [vector], [], [], None
    for step in range(steps):
        image = applied(A, vector)
        middle = space.sum(backends.conj(vector) * image, axis=0)
        middle = space.real(middle) if backends.is_complex(middle.dtype) else middle
        size = space.abs(middle) if size is None else space.maximum(size, space.abs(middle))
        found = space.stack(basis)
        for _ in range(2):
            image = image - space.sum(found * space.sum(backends.conj(found) * image, axis=1)[:, None], axis=0)
        off = norms(image)
        size = space.maximum(size, off)
        ended = off <= 10 * eps * size * len(basis)
        alive = space.sum(space.abs(vector), axis=0) > 0
        diagonal.append(space.where(alive, middle, space.ones_like(middle)))
        if step < steps - 1:
            off = space.where(ended, space.zeros_like(off), off)
            vector = space.where(ended, space.zeros_like(image), image / space.where(ended, space.ones_like(off), off))
            beside.append(off)
            basis.append(vector)
    zero = space.zeros_like(diagonal[0])
    rows = [backends.permute(space.stack(one), (1, 0))[:, :, None] for one in (diagonal, [*beside, zero])]
    unit, shift = [backends.constant(zero, np.eye(steps, k=k), zero.dtype) for k in (0, 1)]
    upper = rows[1] * shift
    return space.stack(basis), rows[0] * unit + upper + backends.permute(upper, (0, 2, 1)), lengths


def krylov_solve(A: LinearOperator, b: Any, steps: int) -> Any:
    """A⁻¹ b of a positive definite operator, as well as the Krylov spaces of so many steps have it.

    Args:
        A: The operator.
        b: Right-hand sides (n, k).
        steps: The dimension of the spaces.

    Returns:
        (n, k).
    """
    bases, inside, lengths = tridiagonals(A, b, steps)
    space: Any = backends.namespace(backends.backend_of(b))
    first = backends.constant(lengths, np.eye(steps, 1), lengths.dtype)
    coordinates = lapack.solve(inside, first[None] + 0 * inside[:, :, :1])[:, :, 0]  # (k, m)
    return space.sum(bases * backends.permute(coordinates, (1, 0))[:, None, :], axis=0) * lengths
