"""Starts for BLAST: blocks W_ij = U_i diag(s_ij) V_j, by eigenvectors, or of low rank.

With Q_i a basis of block row i and P_j one of block column j, C_ij = Q_iᴴ W_ij P_jᴴ = A_i diag(s_ij) B_j are square,
and (C_00 C_10⁻¹)(C_01 C_11⁻¹)⁻¹ = A_0 D A_0⁻¹: its eigenvectors are A_0. From it follow B_j = A_0⁻¹ C_0j (with s_0j =
1), A_i = C_i0 B_0⁻¹ with columns of one norm, and s_ij. It finds what W was made of, where the rank is at most a
block's sides: of more directions a block shows no more than it has sides, and `vanishing.py` finds those. Other
matrices start from their nearest one of low rank, where all s are one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from linops import backends
from linops.projection.contraction import contract
from linops.projection.nets import Net
from linops.projection.truncation import truncated


@dataclass(frozen=True)
class Blast:
    """The axes and leaves of a BLAST net.

    Attributes:
        net: The net.
        leaves: Which leaves are U, s and V.
        axes: The axes i, p, j, q and r, each of which may be several or, of size one, none.
    """

    net: Net
    leaves: tuple[int, int, int]
    axes: tuple[str, str, str, str, str]

    def tensors(self, U: Any, s: Any, V: Any) -> list[Any]:
        """The leaves of U (I, p, r), s (I, J, r) and V (J, r, q)."""
        i, p, j, q, r = self.axes
        found: dict[int, Any] = {}
        for leaf, axes, array in zip(self.leaves, (i + p + r, i + j + r, j + r + q), (U, s, V)):
            found[leaf] = contract([axes], self.net.tensors[leaf], array.reshape(self.net.dims(axes)))
        return [found[k] for k in range(3)]


def blast_of(net: Net) -> Blast | None:
    """A net as BLAST, if it is so.

    Args:
        net: The net.

    Returns:
        Its axes, or None.
    """
    if len(net.tensors) != 3 or not all(net.free) or set(net.out) & set(net.into):
        return None
    last, middle, first = net.acting[::-1]
    U, s, V = (net.tensors[k] for k in (last, middle, first))
    r = "".join([axis for axis in s if axis not in net.open])
    i, j = ("".join([axis for axis in s if axis in side]) for side in (net.out, net.into))
    p, q = ("".join([axis for axis in side if axis not in s]) for side in (net.out, net.into))
    if not r or set(U) != set(i + p + r) or set(V) != set(j + r + q):
        return None
    return Blast(net, (last, middle, first), (i, p, j, q, r))


def is_beyond(blast: Blast) -> bool:
    """Whether eigenvectors do not tell what a matrix was made of: the rank is larger than the sides of a block.

    Args:
        blast: The structure.

    Returns:
        Whether it is so, or there is but one row or column of blocks.
    """
    count, rows, J, columns, rank = map(blast.net.size, blast.axes)
    return min(count, J) < 2 or rank > min(rows, columns)


def starts(blast: Blast, entries: Any) -> list[list[Any]]:
    """Tensors to start from.

    Args:
        blast: The structure.
        entries: W over the net's open axes.

    Returns:
        Of low rank, and by eigenvectors where these are real.
    """
    net, (i, p, j, q, r) = blast.net, blast.axes
    count, rows, J, columns, rank = map(net.size, (i, p, j, q, r))
    space: Any = backends.namespace(backends.backend_of(entries))
    W = contract([net.open], i + p + j + q, entries).reshape(count, rows, J, columns)
    U, V, _ = truncated(W.reshape(count * rows, J * columns), rank)
    ones = space.ones_like(W[:1, :1, :1, :1]).reshape(1, 1, 1)
    s = ones + backends.zeros(W, (count, J, rank), W.dtype)
    V = backends.permute(V.reshape(rank, J, columns), (1, 0, 2))
    found = [blast.tensors(U.reshape(count, rows, rank), s, V)]
    planted = _planted(backends.to_numpy(W), rank)
    if planted is not None:
        found.append(blast.tensors(*[backends.constant(W, array, W.dtype) for array in planted]))
    return found


def _planted(W: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """U, s and V by eigenvectors, in double precision; None where they are complex, or the rank is too large."""
    count, rows, J, columns = W.shape
    if min(count, J) < 2 or rank > min(rows, columns):
        return None
    wide = W.astype(complex if np.iscomplexobj(W) else float)
    Q = np.linalg.svd(wide.reshape(count, rows, J * columns), full_matrices=False)[0][..., :rank]
    by_column = wide.transpose(2, 0, 1, 3).reshape(J, count * rows, columns)
    P = np.linalg.svd(by_column, full_matrices=False)[2][:, :rank]
    C = np.einsum("ipa,ipjq,jbq->ijab", Q.conj(), wide, P.conj(), optimize=True)
    try:
        ratio = C[0, 0] @ np.linalg.solve(C[1, 0], C[1, 1]) @ np.linalg.inv(C[0, 1])
        values, A0 = np.linalg.eig(ratio)
        if not np.iscomplexobj(W) and np.abs(np.imag(values)).max() > 1e-9 * np.abs(values).max():
            return None
        A0 = A0 if np.iscomplexobj(W) else np.real(A0)
        B = np.linalg.solve(A0, C[0])
        A = C[:, 0] @ np.linalg.inv(B[0])
        size = np.linalg.norm(A, axis=1, keepdims=True)
        A = A / np.where(size == 0, 1, size)
        s = np.einsum("iab,ijab->ijb", A.conj(), C @ np.linalg.inv(B)[None])
    except np.linalg.LinAlgError:
        return None
    found = Q @ A, s, B @ P
    return found if all(np.isfinite(array).all() for array in found) else None
