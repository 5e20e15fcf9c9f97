"""The leading singular vectors of what multiplies, by a block Krylov space."""

from __future__ import annotations

from typing import Any

import numpy as np

from linops import backends
from linops.backends import factorizations as lapack
from linops.projection.goal import adjoint

#: vectors of a block where more than half as many are looked for; otherwise half as many
BLOCK = 16
#: the least dimension at which the space is begun anew from the best of it, and after how many blocks it is left
DIMENSION, MOST = 512, 400
#: the share of energy that it may still lack where it is left
SETTLED = 1e-8


def krylov(
    product: Any,
    adjoint_product: Any,
    like: Any,
    rank: int,
    shape: Any = None,
    width: int | None = None,
    most: int = MOST,
) -> tuple[Any, bool]:
    """An orthonormal basis (p, r) of the leading left singular vectors of what multiplies, by a block Krylov space.

    Blocks have fewer vectors than are looked for: a space of the same dimension is then of higher degree (Meyer, Musco
    and Musco, "On the Unreasonable Effectiveness of Single Vector Krylov Methods", 2024). Where it has grown large, the
    best of it stays and it goes on from there (thick restarts, Wu and Simon, 2000); where it is exhausted, it goes on
    from random vectors. It is left when what is to come is a share of 1e-8 of the energy Σ σ², or of rounding.

    Args:
        product: X ↦ M X.
        adjoint_product: Y ↦ Mᴴ Y.
        like: An array of the backend and dtype of the results.
        rank: r.
        shape: (p, q); by default that of `like`.
        width: Vectors of a block, where a product takes as long with many as with one.
        most: After how many blocks it is left at the latest.

    Returns:
        The basis, and whether the space was left because it was settled.

    Cost: a product and an adjoint product a block, and 4 p d of its d dimensions in FLOPs for each vector.
    """
    space: Any = backends.namespace(backends.backend_of(like))
    p, q = shape or like.shape
    random, count = np.random.default_rng(0), min(width or (BLOCK if 2 * rank > BLOCK else BLOCK // 2), p, q)

    def drawn(rows: int, columns: int) -> Any:
        return backends.constant(like, random.standard_normal((rows, columns)), like.dtype)

    basis = backends.zeros(like, (p, 0), like.dtype)
    image, block = backends.zeros(like, (q, 0), like.dtype), product(drawn(q, count))
    share = max(SETTLED, 2 * float(space.finfo(like.dtype).eps))
    energies, best, next_look, is_settled = [0.0], basis, rank, False
    for _ in range(most):
        block = _beside(space, basis, block)
        wanted = min(count, p - basis.shape[1])
        while block.shape[1] < wanted:  # the space is exhausted
            both = space.concat([basis, block], axis=1)
            block = space.concat([block, _beside(space, both, drawn(p, wanted - block.shape[1]))], axis=1)
        beyond = adjoint_product(block)
        basis, image = space.concat([basis, block], axis=1), space.concat([image, beyond], axis=1)
        if basis.shape[1] >= min(next_look, p, q):
            next_look = basis.shape[1] + basis.shape[1] // 8  # a look costs more than a block
            w, V = lapack.eigh(adjoint(image) @ image)
            best = V[:, -rank:]
            energies.append(float(space.sum(w[-rank:])))
            is_settled = _is_settled(energies, share) or basis.shape[1] >= min(p, q)
            if is_settled:
                break
            if basis.shape[1] + count > max(DIMENSION, 4 * rank):
                kept = V[:, -(max(DIMENSION, 4 * rank) + rank) // 2 :]
                basis, image = basis @ kept, image @ kept
                best = space.eye(kept.shape[1], dtype=like.dtype)[:, -rank:]
                energies, next_look = energies[-1:], kept.shape[1] + kept.shape[1] // 8
        block = product(beyond)
    U = basis[:, : best.shape[0]] @ best  # of the last look
    return (U[:, :0] if rank == 0 else _beside(space, basis[:, :0], U)), is_settled


def _beside(space: Any, basis: Any, block: Any) -> Any:
    """An orthonormal basis of a block without its part along a basis; what is rounding alone is left out.

    By eigenvectors of Gram matrices (Stathopoulos and Wu, 2002), which are products where Householder's are not.
    """
    noise = 4 * float(space.finfo(block.dtype).eps)
    for _ in range(2):
        before = space.sum(space.abs(block) ** 2, axis=0)
        for _ in range(2):
            block = block - basis @ (adjoint(basis) @ block)
        squares = space.sum(space.abs(block) ** 2, axis=0)
        block = block[:, squares > noise**2 * block.shape[0] * before]
        if block.shape[1] == 0:
            return block
        block = block / space.sqrt(space.sum(space.abs(block) ** 2, axis=0))
        w, V = lapack.eigh(adjoint(block) @ block)
        lost = int(space.sum(space.astype(w <= noise * block.shape[1] * w[-1], w.dtype)))
        block = block @ (V[:, lost:] / space.sqrt(w[lost:]))
    return block


def _is_settled(energies: list[float], share: float) -> bool:
    """Whether the last gain is a small share, and what is to come too, if gains go on in geometric progression."""
    if len(energies) < 4:
        return False
    before, gain = energies[-2] - energies[-3], energies[-1] - energies[-2]
    return gain <= 0 or gain * max(gain, before) <= share * energies[-1] * max(before - gain, 0.0)
