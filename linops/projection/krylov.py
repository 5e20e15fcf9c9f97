"""The leading singular vectors of what multiplies, by a block Krylov space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from linops import backends
from linops.backends import factorizations as lapack
from linops.projection.goal import adjoint

#: vectors of a block where more than half as many are looked for; otherwise half as many
BLOCK = 16
#: the least dimension at which the space is begun anew from the best of it, and after how many blocks it is left
DIMENSION, MOST = 512, 400
#: the shares that it may still lack where it is left: of energy, and of what is not kept
SETTLED, SETTLED_REST = 1e-8, 1e-9
#: how many dimensions it grows between looks at least, and from a random vector before it is left
LOOK, CHECK = 2, 6


def krylov(
    product: Any,
    adjoint_product: Any,
    like: Any,
    rank: int,
    shape: Any = None,
    width: int | None = None,
    most: int = MOST,
    whole: float = 0.0,
) -> tuple[Any, Any, bool]:
    """An orthonormal basis U (p, r) of the leading left singular vectors of what multiplies, and Uᴴ M.

    They are looked for in a block Krylov space.

    Blocks have fewer vectors than are looked for: a space of the same dimension is then of higher degree (Meyer, Musco
    and Musco, "On the Unreasonable Effectiveness of Single Vector Krylov Methods", 2024). Where it has grown large, the
    best of it stays and it goes on from there (thick restarts, Wu and Simon, 2000); where it is exhausted, it goes on
    from random vectors. It is settled when what is to come is a share of 1e-8 of the energy Σ σ², or of rounding. Then
    it may lack some of singular values that coincide, more of them than a block has vectors: it goes on from one random
    vector, and is left where that adds no more.

    Args:
        product: X ↦ M X.
        adjoint_product: Y ↦ Mᴴ Y.
        like: An array of the backend and dtype of the results.
        rank: r.
        shape: (p, q); by default that of `like`.
        width: Vectors of a block, where a product takes as long with many as with one, or much less with one.
        most: After how many blocks it is left at the latest.
        whole: ‖M‖², where it is known: what is to come may be a share of 1e-9 of what is not kept, too.

    Returns:
        The basis, Uᴴ M (r, q), and whether the space was left because it was settled.

    Cost: a product and an adjoint product a block, and 4 p d of its d dimensions in FLOPs for each vector.
    """
    space: Any = backends.namespace(backends.backend_of(like))
    p, q = shape or like.shape
    if rank == 0:
        return backends.zeros(like, (p, 0), like.dtype), backends.zeros(like, (0, q), like.dtype), True
    random, count = np.random.default_rng(0), min(width or (BLOCK if 2 * rank > BLOCK else BLOCK // 2), p, q)

    def drawn(rows: int, columns: int) -> Any:
        return backends.constant(like, random.standard_normal((rows, columns)), like.dtype)

    rounding = 2 * float(space.finfo(like.dtype).eps)
    found = _Space(space, *(backends.zeros(like, (0, k), like.dtype) for k in (p, q, 0)))
    energies, next_look, is_settled, is_check = [0.0], rank, False, False
    block = product(drawn(q, count)).T
    for _ in range(most):
        block = _beside(space, found.basis, block)
        wanted = min(1 if is_check else count, p - found.size)
        while block.shape[0] < wanted:  # the space is exhausted
            both = space.concat([found.basis, block], axis=0)
            block = space.concat([block, _beside(space, both, drawn(wanted - block.shape[0], p))], axis=0)
        beyond = adjoint_product(block.T).T
        found = found.with_more(block, beyond)
        if found.size >= min(next_look, p, q):
            energies.append(found.energy(rank))
            rest = max(SETTLED_REST, rounding) * (whole - energies[-1])
            lacking = max(max(SETTLED, rounding) * energies[-1], rest)
            was_check, is_check = is_check, _is_settled(energies, lacking)
            is_settled = (is_check and rank == 1) or (was_check and energies[-1] - energies[-2] <= lacking)
            if is_settled or found.size >= min(p, q):
                is_settled = True
                break
            if is_check:
                energies, next_look, block = energies[-1:], found.size + CHECK, drawn(1, p)
                continue
            if found.size + count > max(DIMENSION, 4 * rank):
                found, energies = found.best((max(DIMENSION, 4 * rank) + rank) // 2), energies[-1:]
            next_look = found.size + max(found.size // 8, LOOK)  # a look costs more than a block
        block = product(beyond.T).T
    best = found.best(rank)
    return best.basis.T, backends.conj(best.image), is_settled


@dataclass(frozen=True)
class _Space:
    """Orthonormal vectors b as rows, which are contiguous as the space grows.

    Attributes:
        space: The array namespace.
        basis: (d, p).
        image: (d, q), rows Mᴴ b.
        gram: (d, d), of bᵢᴴ M Mᴴ bⱼ.
    """

    space: Any
    basis: Any
    image: Any
    gram: Any

    @property
    def size(self) -> int:
        """The dimension d."""
        return self.basis.shape[0]

    def with_more(self, block: Any, beyond: Any) -> _Space:
        """The space with more vectors, and their images."""
        concat, conj = self.space.concat, backends.conj
        beside, corner = conj(self.image) @ beyond.T, conj(beyond) @ beyond.T
        above = concat([self.gram, beside], axis=1)
        gram = concat([above, concat([adjoint(beside), corner], axis=1)], axis=0)
        basis, image = concat([self.basis, block], axis=0), concat([self.image, beyond], axis=0)
        return _Space(self.space, basis, image, gram)

    def energy(self, rank: int) -> float:
        """Σ σ² of the best of it."""
        return float(self.space.sum(lapack.eigvalsh(self.gram)[-rank:]))

    def best(self, count: int) -> _Space:
        """The best part of it."""
        w, V = lapack.eigh(self.gram)
        kept = V[:, -count:].T
        gram = self.space.eye(kept.shape[0], dtype=kept.dtype) * w[-count:]
        return _Space(self.space, kept @ self.basis, kept @ self.image, gram)


def _beside(space: Any, basis: Any, block: Any) -> Any:
    """Orthonormal rows of a block without its part along a basis's rows; what is rounding alone is left out.

    By eigenvectors of Gram matrices (Stathopoulos and Wu, 2002), which are products where Householder's are not.
    """
    noise, along = 4 * float(space.finfo(block.dtype).eps), adjoint(basis)
    for passes in (2, 1):  # twice is enough of what is far from orthogonal, once of what is near
        before = space.sum(space.abs(block) ** 2, axis=1)
        for _ in range(passes if basis.shape[0] else 0):
            block = block - (block @ along) @ basis
        squares = space.sum(space.abs(block) ** 2, axis=1)
        block = block[squares > noise**2 * block.shape[1] * before]
        if block.shape[0] == 0:
            return block
        block = block / space.sqrt(space.sum(space.abs(block) ** 2, axis=1))[:, None]
        if block.shape[0] > 1:
            w, V = lapack.eigh(block @ adjoint(block))
            lost = int(space.sum(space.astype(w <= noise * block.shape[0] * w[-1], w.dtype)))
            block = adjoint(V[:, lost:] / space.sqrt(w[lost:])) @ block
    return block


def _is_settled(energies: list[float], lacking: float) -> bool:
    """Whether the last gain is little, and what is to come too, if gains go on in geometric progression."""
    if len(energies) < 4:
        return False
    before, gain = energies[-2] - energies[-3], energies[-1] - energies[-2]
    return gain <= 0 or gain * max(gain, before) <= lacking * max(before - gain, 0.0)
