"""The leading eigenvectors of what multiplies, by a block Krylov space."""

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
#: how many vectors there is room for at first
ROOM = 48


def krylov(
    product: Any,
    like: Any,
    rank: int,
    shape: tuple[int, int],
    width: int | None = None,
    most: int = MOST,
    whole: float = 0.0,
) -> tuple[Any, bool]:
    """An orthonormal basis of the leading eigenvectors of G = M Mᴴ, the left singular vectors of M.

    They are looked for in a block Krylov space.

    Blocks have fewer vectors than are looked for: a space of the same dimension is then of higher degree (Meyer, Musco
    and Musco, "On the Unreasonable Effectiveness of Single Vector Krylov Methods", 2024). Where it has grown large, the
    best of it stays and it goes on from there (thick restarts, Wu and Simon, 2000); where it is exhausted, it goes on
    from random vectors. It is settled when what is to come is a share of 1e-8 of the energy Σ σ², or of rounding. Then
    it may lack some of singular values that coincide, more of them than a block has vectors: where more are looked for,
    it goes on from one random vector, and is left where that adds no more.

    Args:
        product: X ↦ G X of columns.
        like: An array of the backend and dtype of the results.
        rank: r.
        shape: (p, q) of M.
        width: Vectors of a block, where a product takes as long with many as with one, or much less with one.
        most: After how many blocks it is left at the latest.
        whole: ‖M‖², where it is known: what is to come may be a share of 1e-9 of what is not kept, too.

    Returns:
        The basis (p, r), the leading one last, and whether the space was left because it was settled.

    Cost: a product a block, and 8 p d of its d dimensions in FLOPs for each vector.
    """
    space: Any = backends.namespace(backends.backend_of(like))
    p, full = shape[0], min(shape)
    if rank == 0:
        return backends.zeros(like, (p, 0), like.dtype), True
    random, count = np.random.default_rng(0), min(width or (BLOCK if 2 * rank > BLOCK else BLOCK // 2), full)

    def drawn(count: int) -> Any:
        return backends.constant(like, random.standard_normal((count, p)), like.dtype)

    rounding = 2 * float(space.finfo(like.dtype).eps)
    room = backends.zeros(like, (max(ROOM, 2 * rank), p), like.dtype)
    found = _Space(space, room, backends.zeros(like, (0, 0), like.dtype))
    energies, next_look, is_settled, is_check = [0.0], rank, False, False
    block, before = product(drawn(count).T).T, None
    for _ in range(most):
        block = _beside(space, found.basis, block, before)
        wanted = min(1 if is_check else count, p - found.size)
        while block.shape[0] < wanted:  # the space is exhausted
            both = space.concat([found.basis, block], axis=0)
            block = space.concat([block, _beside(space, both, drawn(wanted - block.shape[0]))], axis=0)
        image = product(block.T).T
        found, beyond = found.with_more(block, image)
        if found.size >= min(next_look, full):
            energies.append(found.energy(rank))
            lacking = max(SETTLED, rounding) * energies[-1]
            lacking = max(lacking, max(SETTLED_REST, rounding) * (whole - energies[-1]))
            was_check, is_check = is_check, _is_settled(energies, lacking)
            is_settled = (is_check and rank <= count) or (was_check and energies[-1] - energies[-2] <= lacking)
            if is_settled or found.size >= full:
                is_settled = True
                break
            if is_check:
                energies, next_look, block = energies[-1:], found.size + CHECK, drawn(1)
                before = None
                continue
            if found.size + count > max(DIMENSION, 4 * rank):
                found, energies = found.best((max(DIMENSION, 4 * rank) + rank) // 2), energies[-1:]
            next_look = found.size + max(found.size // 8, LOOK)  # a look costs more than a block
        block, before = beyond, _squares(space, image)
    return found.best(rank).basis.T, is_settled


@dataclass(frozen=True)
class _Space:
    """Orthonormal vectors b as rows.

    Attributes:
        space: The array namespace.
        room: (≥ d, p), the first d of whose rows are these.
        gram: (d, d), of bᵢᴴ G bⱼ.
    """

    space: Any
    room: Any
    gram: Any

    @property
    def size(self) -> int:
        """The dimension d."""
        return self.gram.shape[0]

    @property
    def basis(self) -> Any:
        """(d, p)."""
        return self.room[: self.size]

    def with_more(self, block: Any, image: Any) -> tuple[_Space, Any]:
        """The space with more vectors b, and what their images G b have beside it."""
        concat, size = self.space.concat, self.size
        room, end = self.room, size + block.shape[0]
        if end > room.shape[0]:
            room = concat([room, backends.zeros(room, (end, room.shape[1]), room.dtype)], axis=0)
        room = lapack.put(room, 0, slice(size, end), block)
        basis = room[:end]
        beside = backends.conj(basis) @ image.T  # the first of two steps to what is orthogonal, too
        above, corner = beside[:size], beside[size:]
        gram = concat([self.gram, above], axis=1)
        gram = concat([gram, concat([adjoint(above), (corner + adjoint(corner)) / 2], axis=1)], axis=0)
        return _Space(self.space, room, gram), image - beside.T @ basis

    def energy(self, rank: int) -> float:
        """The sum of the largest eigenvalues in it."""
        return float(self.space.sum(lapack.eigvalsh(self.gram)[-rank:]))

    def best(self, count: int) -> _Space:
        """The best part of it."""
        w, V = lapack.eigh(self.gram)
        kept = V[:, -count:].T
        gram = self.space.eye(kept.shape[0], dtype=kept.dtype) * w[-count:]
        return _Space(self.space, kept @ self.basis, gram)


def _beside(space: Any, basis: Any, block: Any, before: Any = None) -> Any:
    """Orthonormal rows of a block without its part along a basis's rows; what is rounding alone is left out.

    By eigenvectors of Gram matrices (Stathopoulos and Wu, 2002), which are products where Householder's are not. A
    block that has been made orthogonal to the basis once comes with the squares of its rows from before that.
    """
    noise, along = 4 * float(space.finfo(block.dtype).eps), adjoint(basis)
    for passes in (2 if before is None else 1, 1):  # twice is enough of what is far from orthogonal, once of the rest
        before = _squares(space, block) if before is None else before
        for _ in range(passes if basis.shape[0] else 0):
            block = block - (block @ along) @ basis
        squares = _squares(space, block)
        block = block[squares > noise**2 * block.shape[1] * before]
        if block.shape[0] == 0:
            return block
        block = block / space.sqrt(_squares(space, block))[:, None]
        if block.shape[0] == 1:
            return block
        w, V = lapack.eigh(block @ adjoint(block))
        lost = int(space.sum(space.astype(w <= noise * block.shape[0] * w[-1], w.dtype)))
        block, before = adjoint(V[:, lost:] / space.sqrt(w[lost:])) @ block, None
    return block


def _squares(space: Any, block: Any) -> Any:
    """The squared norms of rows."""
    squares = lapack.dots(block, block)
    return space.real(squares) if backends.is_complex(squares.dtype) else squares


def _is_settled(energies: list[float], lacking: float) -> bool:
    """Whether the last gain is little, and what is to come too, if gains go on in geometric progression."""
    if len(energies) < 4:
        return False
    before, gain = energies[-2] - energies[-3], energies[-1] - energies[-2]
    return gain <= 0 or gain * max(gain, before) <= lacking * max(before - gain, 0.0)
