"""The best approximation of given rank of a matrix, or of each of a stack."""

from __future__ import annotations

from typing import Any

import numpy as np

from linops import backends
from linops.backends import factorizations as lapack
from linops.projection.goal import adjoint

#: the smaller side from which a few singular vectors are looked for in a Krylov space
LARGE = 512
#: blocks of that space, or so many that it has a dimension; how often it is begun anew, and for which share of energy
DEPTH, DIMENSION, ROUNDS, GAIN = 8, 320, 20, 1e-6
#: the share of energy that the first space may still lack where it is left early
SETTLED = 1e-8


def truncated(M: Any, rank: int) -> tuple[Any, Any, Any]:
    """The factors of the best approximation U B of rank r of a matrix (…, p, q), Uᴴ U = I (Eckart and Young, 1936).

    Where M is a constant, the singular vectors are eigenvectors of the smaller of M Mᴴ and Mᴴ M, made exact by a
    product with M and an orthogonalisation; of a large matrix they are looked for in a block Krylov space (Musco and
    Musco, 2015). Otherwise they are LAPACK's, which have derivatives.

    Args:
        M: An array (…, p, q).
        rank: r; where the smaller side is less, B has rows of zeros.

    Returns:
        U (…, p, r), B (…, r, q), whose rows are orthogonal and descend, and the squared norm of the rows of B (…, r).
    """
    space: Any = backends.namespace(backends.backend_of(M))
    if len(M.shape) == 3 and M.shape[0] == 1:
        U, B, squares = truncated(M[0], rank)
        return U[None], B[None], squares[None]
    p, q = M.shape[-2:]
    kept = min(rank, p, q)
    if p == 1 or kept == 0:
        U = space.zeros_like(M[..., :1]) + 1 if kept else M[..., :0]
    elif not lapack.is_constant(M) or 2 * kept > min(p, q):
        U = lapack.svd(M)[0][..., :kept]
    elif len(M.shape) == 2 and min(p, q) >= LARGE and 2 * DEPTH * (kept + 8) <= min(p, q):
        U = krylov(lambda x: M @ x, lambda y: adjoint(adjoint(y) @ M), M, kept)
    else:
        U = _of_gram(space, M, kept)
    B = adjoint(U) @ M
    if kept > 1 and lapack.is_constant(M):  # rotated, so that rows are orthogonal and descend
        _, R = lapack.eigh(B @ adjoint(B))
        R = space.flip(R, axis=-1)
        U, B = U @ R, adjoint(R) @ B
    if kept < rank:
        U, B = _padded(space, U, rank - kept, -1), _padded(space, B, rank - kept, -2)
    return U, B, space.sum(space.abs(B) ** 2, axis=-1)


def _of_gram(space: Any, M: Any, rank: int) -> Any:
    """An orthonormal basis (…, p, r) of the leading left singular vectors, by the eigenvectors of a Gram matrix."""
    if M.shape[-2] <= M.shape[-1]:
        U = _leading(space, M, rank)
        if M.shape[-2] == 2:
            return U
        Y = M @ (adjoint(M) @ U)
    else:
        Y = M @ _leading(space, adjoint(M), rank)
    # in units of each column, for small ones would be lost beside large ones
    size = space.sqrt(space.sum(space.abs(Y) ** 2, axis=-2, keepdims=True))
    Y = Y / space.where(size == 0, space.ones_like(size), size)
    if rank > 1:
        return space.linalg.qr(Y)[0]
    return space.where(size == 0, Y + M.shape[-2] ** -0.5, Y)


def _leading(space: Any, M: Any, rank: int) -> Any:
    """The leading eigenvectors (…, p, r) of M Mᴴ."""
    if M.shape[-2] == 2 and rank == 1:
        return _of_two(space, M)
    return lapack.eigh(M @ adjoint(M))[1][..., -rank:]


def _of_two(space: Any, M: Any) -> Any:
    """The leading left singular vector (…, 2, 1) of two rows.

    Of the Gram matrix [[a, b], [b̄, d]] it is (cos θ, sin θ b̄/|b|) with tan 2θ = 2 |b| / (a − d).
    """
    one, other = M[..., 0, :], M[..., 1, :]
    b = space.sum(one * backends.conj(other), axis=-1)
    if not backends.is_complex(M.dtype):
        angle = space.atan2(2 * b, space.sum((one - other) * (one + other), axis=-1)) / 2
        return space.stack([space.cos(angle), space.sin(angle)], axis=-1)[..., None]
    size = space.abs(b)
    angle = space.atan2(2 * size, space.sum(space.abs(one) ** 2 - space.abs(other) ** 2, axis=-1)) / 2
    phase = space.where(size == 0, space.ones_like(b), backends.conj(b) / space.where(size == 0, size + 1, size))
    return space.stack([space.astype(space.cos(angle), M.dtype), space.sin(angle) * phase], axis=-1)[..., None]


def krylov(product: Any, adjoint_product: Any, like: Any, rank: int, shape: Any = None) -> Any:
    """An orthonormal basis (p, r) of the leading left singular vectors of what multiplies, by a block Krylov space.

    Args:
        product: X ↦ M X.
        adjoint_product: Y ↦ Mᴴ Y.
        like: An array of the backend and dtype of the results.
        rank: r.
        shape: (p, q); by default that of `like`.

    Returns:
        The basis.
    """
    space: Any = backends.namespace(backends.backend_of(like))
    p, q = shape or like.shape
    count = min(rank + min(8, 2 * rank), p, q)
    block = backends.constant(like, np.random.default_rng(0).standard_normal((q, count)), like.dtype)
    block, energy, is_settled = _first(space, product, adjoint_product, block, rank, min(p, q))
    if is_settled:
        return block[:, -rank:]
    for _ in range(ROUNDS):
        Q = _spanned(space, product, adjoint_product, block, min(p, q))
        image = adjoint(adjoint_product(Q))
        w, V = lapack.eigh(image @ adjoint(image))
        block = Q @ V[:, -count:]
        before, energy = energy, float(space.sum(w[-rank:]))
        if energy - before <= GAIN * energy:
            break
    return block[:, -rank:]


def _first(space: Any, product: Any, adjoint_product: Any, block: Any, rank: int, most: int) -> tuple[Any, float, bool]:
    """The best of a first space, its energy, and whether it is settled, which most spectra are that descend."""
    count, energies = block.shape[1], [0.0]
    basis = space.linalg.qr(product(block))[0]
    image = adjoint_product(basis)
    share = max(SETTLED, 2 * float(space.finfo(image.dtype).eps))
    while True:
        w, V = lapack.eigh(adjoint(image) @ image)
        energies.append(float(space.sum(w[-rank:])))
        is_settled = _is_settled(energies, share)
        if is_settled or basis.shape[1] + count > min(most, max(DEPTH * count, DIMENSION)):
            return basis @ V[:, -count:], energies[-1], is_settled
        block = product(image[:, -count:])
        for _ in range(2):
            block = space.linalg.qr(block - basis @ (adjoint(basis) @ block))[0]
        basis = space.linalg.qr(space.concat([basis, block], axis=1))[0]  # where the space is exhausted, it is noise
        image = space.concat([image, adjoint_product(basis[:, -count:])], axis=1)


def _is_settled(energies: list[float], share: float) -> bool:
    """Whether the last gain is a small share, and what is to come too, if gains go on in geometric progression."""
    if len(energies) < 4:
        return False
    before, gain = energies[-2] - energies[-3], energies[-1] - energies[-2]
    return gain <= 0 or gain * max(gain, before) <= share * energies[-1] * max(before - gain, 0.0)


def _spanned(space: Any, product: Any, adjoint_product: Any, block: Any, most: int) -> Any:
    """An orthonormal basis of the Krylov space of an orthonormal block."""
    blocks, depth = [block], max(DEPTH, DIMENSION // block.shape[1])
    while len(blocks) < depth and (len(blocks) + 1) * block.shape[1] <= most:
        block, basis = product(adjoint_product(block)), space.concat(blocks, axis=1)
        block = space.linalg.qr(block - basis @ (adjoint(basis) @ block))[0]
        blocks.append(block)
    return space.linalg.qr(space.concat(blocks, axis=1))[0]  # where the space is exhausted, blocks are noise


def _padded(space: Any, x: Any, count: int, axis: int) -> Any:
    """Zeros after the last row or column."""
    shape = list(x.shape)
    shape[axis] = count
    return space.concat([x, backends.zeros(x, tuple(shape), x.dtype)], axis=axis)
