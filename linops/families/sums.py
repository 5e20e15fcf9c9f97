"""Families of sums: low rank and what it lacks, a block-diagonal or a sparse matrix at fixed positions."""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np

from linops.families.blocks import _root_of_smaller, block_diag
from linops.families.declaration import require_count
from linops.families.knob import Knob
from linops.families.registry import family
from linops.operator import LinearOperator
from linops.operators import LowRank, Sparse
from linops.specs import spec

#: of all sums here
_RANK = Knob("rank", default=_root_of_smaller, advice="lower the rank")
#: the last few patterns are kept, of matrices of at most this many entries
_KEPT = 5_000_000
#: of how many positions some are drawn at most: they are an array, even of a symbolic member
_MOST = 2**40
#: the largest group of entries, whose subsets are listed
_GROUP = 16


def _low_rank(m: int, n: int, rank: int | None, dtype: Any) -> LowRank:
    assert rank is not None  # the declaration sees to it
    return LowRank(spec(m, rank, dtype=dtype), spec(rank, n, dtype=dtype))


@family(_RANK, or_dense=True, arrays="lo.LowRank(U, V) + lo.BlockDiag([A, B])")
def low_rank_block(
    out_features: int,
    in_features: int,
    rank: int | None = None,
    blocks: int | None = None,
    *,
    dtype: Any = "float32",
    allow_dearer: bool = False,
) -> LinearOperator:
    """Low rank plus block-diagonal: U V + D, with r (m + n) and about m n / b parameters and MACs.

    Args:
        out_features: m.
        in_features: n.
        rank: r; by default ⌈√min(m, n)⌉, or at small sizes the next number below that costs no more than dense.
        blocks: b, of `block_diag`; by default 4, or as many as there are features on the smaller side.
        dtype: The dtype of the specs.
        allow_dearer: Whether a member that you ask for may cost more than dense.

    Returns:
        A symbolic operator of shape (m, n). At sizes where no member is as cheap and nothing is asked for: `Dense`.

    Raises:
        ValueError: If a size is less than 1, there are more blocks than features, or the member costs more than dense.

    Example:
        >>> import linops as lo
        >>> lo.low_rank_block(64, 64, rank=4, blocks=8).num_params == 4 * (64 + 64) + 64 * 64 // 8
        True
    """
    m, n = out_features, in_features
    count = min(4, m, n) if blocks is None else blocks
    return _low_rank(m, n, rank, dtype) + block_diag(m, n, count, dtype=dtype, allow_dearer=True)


@family(_RANK, or_dense=True, arrays="lo.LowRank(U, V) + lo.Sparse(values, rows, columns, size)")
def low_rank_sparse(
    out_features: int,
    in_features: int,
    rank: int | None = None,
    density: float = 0.03,
    seed: int = 0,
    *,
    dtype: Any = "float32",
    allow_dearer: bool = False,
) -> LinearOperator:
    """Low rank plus sparse at fixed random positions (SLTrain): U V + S, r (m + n) + δ m n parameters.

    The positions are drawn once, evenly among all sets of so many, and are structure: members of one shape, density and
    seed have the same. The same numbers are multiplied and added as parameters are counted, but those of S in no matrix
    product: sparse kernels are far from the speed of dense ones, and positions take 12 bytes an entry.

    Source: Han et al., "SLTrain: a sparse plus low-rank approach for parameter and memory efficient pretraining"
    (NeurIPS 2024), which starts from U = 0 and the values of a dense layer; here each leaf has its own fans.

    Args:
        out_features: m.
        in_features: n.
        rank: r; by default ⌈√min(m, n)⌉, or at small sizes the next number below that costs no more than dense.
        density: δ, above 0 and at most 1; S has the nearest number of entries, but at least one.
        seed: Of the positions, from 0.
        dtype: The dtype of the specs.
        allow_dearer: Whether a member that you ask for may cost more than dense.

    Returns:
        A symbolic operator of shape (m, n). At sizes where no member is as cheap and nothing is asked for: `Dense`.

    Raises:
        ValueError: If a size is less than 1, the density is out of range, the matrix has more than 2^40 entries, or the
            member costs more than dense.
        TypeError: If the density is no number.

    Example:
        >>> import linops as lo
        >>> lo.low_rank_sparse(100, 50, rank=2, density=0.1).num_params == 2 * (100 + 50) + 500
        True
    """
    m, n = out_features, in_features
    where = f"low_rank_sparse({m}, {n})"
    require_count(where, "seed", seed, 0)
    if isinstance(density, bool) or not isinstance(density, (int, float, np.integer, np.floating)):
        raise TypeError(f"{where}: density must be a number, got {type(density).__name__}")
    if not 0 < density <= 1:
        raise ValueError(f"{where}: density must be above 0 and at most 1, got {density}")
    count = max(1, round(density * m * n))
    return _low_rank(m, n, rank, dtype) + _sparse(_scattered, dtype, m, n, count, int(seed))


@family(_RANK, or_dense=True, arrays="lo.LowRank(U, V) + lo.Sparse(values, rows, columns, size)")
def low_rank_semi_structured(
    out_features: int,
    in_features: int,
    rank: int | None = None,
    kept: int = 2,
    group: int = 4,
    seed: int = 0,
    *,
    dtype: Any = "float32",
    allow_dearer: bool = False,
) -> LinearOperator:
    """Low rank plus semi-structured sparse (2:4, or N:M): of each `group` inputs in a row, an output takes `kept`.

    Which, is drawn once, and is structure, as in `low_rank_sparse`. It runs by sparse kernels, not by those that some
    GPUs have for 2:4, and these are far from the speed of dense ones.

    Source: Mozaffari, Yazdanbakhsh, Mehri Dehnavi, "SLoPe: Double-Pruned Sparse Plus Lazy Low-Rank Adapter Pretraining
    of LLMs" (ICLR 2025), which starts from a random pattern too.

    Args:
        out_features: m.
        in_features: n.
        rank: r; by default ⌈√min(m, n)⌉, or at small sizes the next number below that costs no more than dense.
        kept: N, how many of a group; of a last group that is shorter, the same share, rounded up.
        group: M, how many inputs make a group; at most 16.
        seed: Of the positions, from 0.
        dtype: The dtype of the specs.
        allow_dearer: Whether a member that you ask for may cost more than dense.

    Returns:
        A symbolic operator of shape (m, n). At sizes where no member is as cheap and nothing is asked for: `Dense`.

    Raises:
        ValueError: If a size is less than 1, more are to be kept than a group has, it is too large, the matrix has more
            than 2^40 entries, or the member costs more than dense.

    Example:
        >>> import linops as lo
        >>> lo.low_rank_semi_structured(64, 64, rank=4).num_params == 4 * (64 + 64) + 64 * 64 // 2
        True
    """
    m, n = out_features, in_features
    where = f"low_rank_semi_structured({m}, {n})"
    for name, value, least in (("kept", kept, 1), ("group", group, 1), ("seed", seed, 0)):
        require_count(where, name, value, least)
    if not kept <= group <= _GROUP:
        raise ValueError(f"{where}: kept {kept} of group {group}; expected at most all of a group, which is at most 16")
    return _low_rank(m, n, rank, dtype) + _sparse(_grouped, dtype, m, n, int(kept), int(group), int(seed))


def _sparse(draw: Any, dtype: Any, *sizes: int) -> Sparse:
    """A sparse operator at drawn positions; the last few small ones are kept, for a family tries several ranks."""
    m, n = sizes[:2]
    if m * n > _MOST:
        raise ValueError(
            f"a sparse matrix at drawn positions of {m}×{n}: of more than 2^40 positions none are drawn; take a family "
            "whose structure is a formula, as low_rank_block"
        )
    return _remembered(draw, dtype, *sizes) if m * n <= _KEPT else _drawn(draw, dtype, *sizes)


def _drawn(draw: Any, dtype: Any, *sizes: int) -> Sparse:
    rows, columns = draw(*sizes)
    return Sparse(spec(rows.size, dtype=dtype), rows, columns, sizes[:2])


_remembered = lru_cache(maxsize=4)(_drawn)


def _scattered(m: int, n: int, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """So many of all positions, every set as likely as any other, in order of rows."""
    random, total = np.random.default_rng(seed), m * n
    fewer = min(count, total - count)  # those that are taken, or those that are left out
    taken = np.unique(random.integers(total, size=fewer))
    while taken.size < fewer:
        taken = np.union1d(taken, random.integers(total, size=fewer - taken.size))
    if fewer < count:
        taken = np.delete(np.arange(total), taken)
    return taken // n, taken % n


def _grouped(m: int, n: int, kept: int, group: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """In each row of each group of columns so many, every subset as likely as any other, in order of rows."""
    random, parts = np.random.default_rng(seed), []
    for start, size, count in ((0, group, n // group), (n - n % group, n % group, int(n % group > 0))):
        if count:
            subsets = np.array(list(combinations(range(size), -(-kept * size // group))))
            starts = start + size * np.arange(count)
            chosen = subsets[random.integers(len(subsets), size=(m, count))] + starts[:, None]
            parts.append(chosen.reshape(m, -1))
    columns = np.concatenate(parts, axis=1)
    return np.repeat(np.arange(m), columns.shape[1]), columns.ravel()
