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
        V (k, m, n), T (k, m, m) real, and the lengths (k,) of the vectors.

    Example:
        >>> import linops as lo
        >>> V, T, lengths = tridiagonals(lo.Diagonal(np.array([1., 2.])), np.array([[3.], [4.]]), 2)
        >>> lengths, np.linalg.eigvalsh(T[0]).round(12)
        (array([5.]), array([1., 2.]))
    """
    space: Any = backends.namespace(backends.backend_of(z))
    eps, (n, k) = space.finfo(z.dtype).eps, z.shape
    lengths = norms(z)
    vector = backends.permute(z / space.where(lengths == 0, space.ones_like(lengths), lengths), (1, 0))  # (k, n)
    known, diagonal, beside, size = lapack.is_known(vector), [], [], None
    basis: Any = backends.zeros(z, (k, steps, n), z.dtype) if known else None
    rows: list[Any] = []
    for step in range(steps):
        rows.append(vector)
        basis = lapack.put(basis, 1, step, vector) if known else space.stack(rows, axis=1)
        image = backends.permute(applied(A, backends.permute(vector, (1, 0))), (1, 0))
        middle = space.sum(backends.conj(vector) * image, axis=1)
        middle = space.real(middle) if backends.is_complex(middle.dtype) else middle
        size = space.abs(middle) if size is None else space.maximum(size, space.abs(middle))
        image = _orthogonal(image, basis[:, : step + 1])
        off = space.sqrt(space.sum(space.abs(image) ** 2, axis=1))
        size = space.maximum(size, off)
        ended = off <= 10 * eps * size * (step + 1)
        alive = space.sum(space.abs(vector), axis=1) > 0
        diagonal.append(space.where(alive, middle, space.ones_like(middle)))
        if step < steps - 1:
            divisor = space.where(ended, space.ones_like(off), off)[:, None]
            vector = space.where(ended[:, None], space.zeros_like(image), image / divisor)
            beside.append(space.where(ended, space.zeros_like(off), off))
    zero = space.zeros_like(diagonal[0])
    middles, offs = [space.stack(one, axis=1)[:, :, None] for one in (diagonal, [*beside, zero])]
    unit, shift = [backends.constant(zero, np.eye(steps, k=offset), zero.dtype) for offset in (0, 1)]
    upper = offs * shift
    return basis, middles * unit + upper + backends.permute(upper, (0, 2, 1)), lengths


def _orthogonal(x: Any, basis: Any) -> Any:
    """Each x[l] (n,) without what it has of the rows basis[l] (m, n); twice is enough."""
    x = x[:, :, None]
    across = backends.permute(basis, (0, 2, 1))
    for _ in range(2):
        x = x - across @ (backends.conj(basis) @ x)
    return x[:, :, 0]


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
    first = backends.constant(lengths, np.eye(steps, 1), lengths.dtype)
    coordinates = backends.namespace(backends.backend_of(b)).astype(
        lapack.solve(inside, first[None] + 0 * inside[:, :, :1])[:, :, 0], bases.dtype
    )  # (k, m)
    solved = (coordinates[:, None, :] @ bases)[:, 0]  # (k, n)
    return backends.permute(solved, (1, 0)) * lengths
