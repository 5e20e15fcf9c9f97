"""Blocks of given rank under a second moment that couples them: block tensor trains, Monarch matrices.

‖(W − Ŵ) C^½‖² is a sum over block rows; in each, blocks are coupled by C. With E = W − Ŵ, the optimum over one block
given the others is

    Ŵ_ij ← [Z L]_r L⁺,   Z = Ŵ_ij + E_i: C_:j C_jj⁺,   C_jj = L Lᴴ,

for all i at once: one small SVD a block. After a sweep over j, all left factors of a block row are solved for at once,
which is a linear system. Both steps only lower the error.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.spectra import real_part
from linops.projection.effort import Effort
from linops.projection.goal import adjoint, root
from linops.projection.truncation import truncated


@dataclass(frozen=True)
class Blocks:
    """W in blocks, and its norm.

    Attributes:
        W: (I, p, J, q).
        C: (J, q, J, q).
        weights: (I, p) roots of the rows' weights, or None.
        ranks: (I, J) integers, where blocks have ranks of their own.
    """

    W: Any
    C: Any
    weights: Any = None
    ranks: Any = None


def swept(blocks: Blocks, rank: int, effort: Effort) -> tuple[Any, Any, int, bool]:
    """The factors of blocks of a rank.

    Args:
        blocks: The blocks.
        rank: The largest rank of a block.
        effort: When to stop.

    Returns:
        Left (I, J, p, r), right (I, J, r, q), sweeps, and whether the last one changed less than the tolerance.
    """
    space: Any = backends.namespace(backends.backend_of(blocks.W))
    W, C = blocks.W, blocks.C
    count, p, J, q = W.shape
    weights = blocks.weights
    if weights is not None:
        W = W * weights[:, :, None, None]
    flat = C.reshape(J * q, J * q)
    L, back = root(space.stack([C[j, :, j, :] for j in range(J)]))
    kept = _kept(W, blocks.ranks, rank)
    U, B, _ = truncated(backends.permute(W, (0, 2, 1, 3)), rank)
    left, right = U, B if kept is None else B * kept
    wc = (W.reshape(count * p, J * q) @ flat).reshape(count, p, J * q)
    E = W - backends.permute(left @ right, (0, 2, 1, 3))

    def loss(E: Any) -> float:
        e = E.reshape(count * p, J * q)
        return sqrt(max(float(space.sum(real_part(backends.conj(e) * (e @ flat)))), 0.0))

    before, converged, sweeps = loss(E), False, 0
    floor = float(space.finfo(W.dtype).eps) * loss(W)
    while not converged and sweeps < effort.max_iterations:
        sweeps += 1
        lefts, rights = [], []
        for j in range(J):
            pull = (E.reshape(count * p, J * q) @ flat[:, j * q : (j + 1) * q]).reshape(count, p, q)
            U, B, _ = truncated(left[:, j] @ right[:, j] @ L[j] + pull @ adjoint(back[j]), rank)
            B = (B if kept is None else B * kept[:, j]) @ back[j]
            E = lapack.put(E, 2, j, W[:, :, j] - U @ B)
            lefts.append(U)
            rights.append(B)
        found = space.stack(rights, axis=1)
        found = _lefts(space, wc, flat, space.stack(lefts, axis=1), found), found
        E = W - backends.permute(found[0] @ found[1], (0, 2, 1, 3))
        after = loss(E)
        if after <= before:  # else by rounding
            left, right = found
        converged = before - after <= effort.tol * before or after <= floor
        before = after
    if weights is not None:
        safe = space.where(weights == 0, space.ones_like(weights), weights)
        left = left / safe[:, None, :, None]
    return left, right, sweeps, converged


def _kept(W: Any, ranks: Any, rank: int) -> Any:
    """(I, J, r, 1) ones for the singular values that blocks of ranks of their own keep."""
    if ranks is None:
        return None
    return backends.constant(W, (ranks[:, :, None] > np.arange(rank))[..., None], W.dtype)


def _lefts(space: Any, wc: Any, C: Any, left: Any, right: Any) -> Any:
    """All left factors of each block row, given the right ones."""
    count, J, p, r = left.shape
    q = right.shape[-1]
    apart = backends.eye(right, J, right.dtype)[:, None, :, None]
    R = (apart * right[:, :, :, None, :]).reshape(count, J * r, J * q)
    G = (R @ C) @ adjoint(R)
    h = wc @ adjoint(R)  # (I, p, J r)
    x = backends.permute(left, (0, 2, 1, 3)).reshape(count, p, J * r)
    size = space.max(space.abs(space.linalg.diagonal(G)), axis=-1)[:, None, None]
    damping = 10 * J * r * float(space.finfo(x.dtype).eps) * space.where(size > 0, size, space.ones_like(size))
    damped = adjoint(G + damping * backends.eye(G, J * r, G.dtype))
    for _ in range(2):
        x = x + adjoint(space.linalg.solve(damped, adjoint(h - x @ G)))
    return backends.permute(x.reshape(count, p, J, r), (0, 2, 1, 3))
