"""Families of matrices and blocks: dense, low rank, block diagonal, Monarch, BLAST, butterfly."""

from __future__ import annotations

from math import isqrt, prod
from typing import Any

from linops.families.declaration import require_count
from linops.families.dims import padded, spread
from linops.families.knob import Knob
from linops.families.registry import family
from linops.operator import LinearOperator
from linops.operators import BlockDiag, Butterfly, Dense, Einsum, LowRank, Permute
from linops.specs import spec


@family(arrays="lo.Dense(A)")
def dense(out_features: int, in_features: int, *, dtype: Any = "float32") -> Dense:
    """A dense matrix: m n parameters and MACs.

    Args:
        out_features: m.
        in_features: n.
        dtype: The dtype of the spec.

    Returns:
        A symbolic operator of shape (m, n).

    Raises:
        ValueError: If a size is less than 1.

    Example:
        >>> import linops as lo
        >>> lo.dense(10, 4).num_params
        40
    """
    return Dense(spec(out_features, in_features, dtype=dtype))


def _root_of_smaller(m: int, n: int) -> int:
    """⌈√min(m, n)⌉."""
    return isqrt(min(m, n) - 1) + 1


#: of `low_rank` and `blast`
_RANK = Knob("rank", default=_root_of_smaller, advice="lower the rank")


@family(_RANK, or_dense=True, arrays="lo.LowRank(U, V)")
def low_rank(
    out_features: int,
    in_features: int,
    rank: int | None = None,
    *,
    dtype: Any = "float32",
    allow_dearer: bool = False,
) -> LowRank:
    """A product of a tall and a wide matrix: r (m + n) parameters and MACs.

    Args:
        out_features: m.
        in_features: n.
        rank: r; by default ⌈√min(m, n)⌉, or at small sizes the next number below that costs no more than dense.
        dtype: The dtype of the specs.
        allow_dearer: Whether a member that you ask for may cost more than dense.

    Returns:
        A symbolic operator of shape (m, n). If a side is 1 and no rank is asked for, this is `Dense`: the same matrices
        by fewer parameters.

    Raises:
        ValueError: If a size is less than 1, or the member costs more than dense.

    Example:
        >>> import linops as lo
        >>> lo.low_rank(768, 3072).num_params
        107520
    """
    assert rank is not None  # the declaration sees to it
    return LowRank(spec(out_features, rank, dtype=dtype), spec(rank, in_features, dtype=dtype))


#: of `block_diag` and `monarch`: as many blocks as fit, at most 4
_BLOCKS = Knob("blocks", default=lambda m, n: 4, most=min, grows=False, advice="take more blocks")


@family(_BLOCKS, plain={"blocks": 1}, arrays="lo.BlockDiag([A, B])")
def block_diag(
    out_features: int,
    in_features: int,
    blocks: int | None = None,
    *,
    dtype: Any = "float32",
    allow_dearer: bool = False,
) -> LinearOperator:
    """A block-diagonal matrix of b blocks (p, q) = (⌈m/b⌉, ⌈n/b⌉): b p q parameters and MACs.

    Where b does not divide a size, the parts differ by one as in `numpy.array_split`.

    Args:
        out_features: m.
        in_features: n.
        blocks: b; by default 4, or as many as there are features on the smaller side.
        dtype: The dtype of the spec.
        allow_dearer: Whether a member that you ask for may cost more than dense.

    Returns:
        A symbolic operator of shape (m, n).

    Raises:
        ValueError: If a size is less than 1, there are more blocks than features, or the member costs more than dense.

    Example:
        >>> import linops as lo
        >>> lo.block_diag(12, 8, blocks=4).num_params
        24
    """
    m, n = out_features, in_features
    assert blocks is not None  # the declaration sees to it
    core = BlockDiag(spec(blocks, -(-m // blocks), -(-n // blocks), dtype=dtype))
    return spread(m, blocks).T @ core @ spread(n, blocks)


@family(_BLOCKS, or_dense=True)
def monarch(
    out_features: int,
    in_features: int,
    blocks: int | None = None,
    *,
    dtype: Any = "float32",
    allow_dearer: bool = False,
) -> LinearOperator:
    """A Monarch matrix (Dao et al., ICML 2022): two block-diagonal matrices with stride permutations after each.

    With p = ⌈n/b⌉, s = ⌈m/b⌉ and q = min(p, s):
    Permute.axes((b, s), (1, 0)) @ BlockDiag(b, s, q) @ Permute.axes((q, b), (1, 0)) @ BlockDiag(b, q, p); b q (p + s)
    parameters and MACs. Where b does not divide n, each input block lacks at most one input.

    Args:
        out_features: m.
        in_features: n.
        blocks: b; by default 4, or as many as there are features on the smaller side, or at small sizes the next number
            below that costs no more than dense.
        dtype: The dtype of the specs.
        allow_dearer: Whether a member that you ask for may cost more than dense.

    Returns:
        A symbolic operator of shape (m, n). If a side is 1 and no blocks are asked for, this is `Dense`: the same
        matrices by fewer parameters.

    Raises:
        ValueError: If a size is less than 1, there are more blocks than features, or the member costs more than dense.

    Example:
        >>> import linops as lo
        >>> lo.monarch(3072, 768).num_params
        737280
        >>> lo.monarch(1, 7)
        Dense()  1×7  float32  7 parameters  symbolic
    """
    assert blocks is not None  # the declaration sees to it
    m, n, b = out_features, in_features, blocks
    p, s = -(-n // b), -(-m // b)
    q = min(p, s)
    left, right = BlockDiag(spec(b, s, q, dtype=dtype)), BlockDiag(spec(b, q, p, dtype=dtype))
    core = Permute.axes((b, s), (1, 0)) @ left @ Permute.axes((q, b), (1, 0)) @ right
    return padded(core, m, b * p) @ spread(n, b)


@family(
    _RANK,
    instead=lambda m, n: ({"blocks": (min(b, m), min(b, n))} for b in (3, 2, 1)),
    or_dense=True,
)
def blast(
    out_features: int,
    in_features: int,
    blocks: int | tuple[int, int] | None = None,
    rank: int | None = None,
    *,
    dtype: Any = "float32",
    allow_dearer: bool = False,
) -> LinearOperator:
    """A BLAST matrix (Lee et al., NeurIPS 2024): blocks W_ij = U_i diag(s_ij) V_j, as an `Einsum`.

    With b1×b2 blocks of p×q: U (b1, p, r), s (r, b1, b2), V (b2, r, q); r (m + n + b1 b2) parameters and MACs, in three
    batched products over the input's blocks, the rank and the output's blocks. It is low rank where s is constant.

    Args:
        out_features: m.
        in_features: n.
        blocks: b1 and b2, or one number for both; by default 4, or as many as there are features, or fewer at small
            sizes.
        rank: r; by default ⌈√min(m, n)⌉, which costs about as much as `low_rank` and `btt` do by default, or at small
            sizes the next number below that costs no more than dense.
        dtype: The dtype of the specs.
        allow_dearer: Whether a member that you ask for may cost more than dense.

    Returns:
        A symbolic operator of shape (m, n). If a side is 1, or both are 2, and no size is asked for, this is `Dense`.

    Raises:
        ValueError: If a size is less than 1, there are more blocks than features, or the member costs more than dense.

    Example:
        >>> import linops as lo
        >>> lo.blast(768, 3072).num_params == 28 * (768 + 3072 + 16)
        True
    """
    m, n = out_features, in_features
    assert rank is not None  # the declaration sees to it
    if blocks is None:
        blocks = min(4, m), min(4, n)
    pair = tuple(blocks) if isinstance(blocks, (tuple, list)) else (blocks, blocks)
    if len(pair) != 2:
        raise ValueError(f"blast({m}, {n}): blocks must be a number or a pair (b1, b2), got {blocks}")
    for count, size, side in zip(pair, (m, n), ("out_features", "in_features")):
        require_count(f"blast({m}, {n})", "blocks", count)
        if count > size:
            raise ValueError(f"blast({m}, {n}): {count} blocks are more than the {size} {side}; some would be empty")
    b1, b2 = pair
    p, q = -(-m // b1), -(-n // b2)
    shapes = (b1, p, rank), (rank, b1, b2), (b2, rank, q)
    core = Einsum("ipr,rij,jrq,jq->ip", [spec(*shape, dtype=dtype) for shape in shapes], order=(2, 1, 0))
    return padded(core, m, n)


def _bits(m: int, n: int) -> int:
    """⌈log2 min(m, n)⌉, but at least 1."""
    return max((min(m, n) - 1).bit_length(), 1)


@family(
    Knob("factors", default=_bits, most=_bits, grows=False, advice="take other factors"),
    plain={"factors": 1},
    arrays="lo.Butterfly(factors)",
)
def butterfly(
    out_features: int,
    in_features: int,
    factors: int | None = None,
    *,
    dtype: Any = "float32",
    allow_dearer: bool = False,
) -> LinearOperator:
    """A butterfly matrix (Dao et al., ICML 2019): for n = 2^k, k factors of n/2 2×2 blocks; 2 n log2 n parameters.

    Where the smaller side is no power of two, it is padded to the next, N. Where the larger side exceeds N, butterflies
    are stacked: the factor that acts first (for tall matrices) or last (for wide ones) has blocks of more rows or
    columns, of half a butterfly each. Fewer factors are butterflies of a smaller N, stacked along both sides.

    Args:
        out_features: m.
        in_features: n.
        factors: How many; by default log2 N, or at small sizes the next number below that costs no more than dense.
        dtype: The dtype of the specs.
        allow_dearer: Whether a member that you ask for may cost more than dense.

    Returns:
        A symbolic operator of shape (m, n).

    Raises:
        ValueError: If a size is less than 1, there are too many factors, or the member costs more than dense.

    Example:
        >>> import linops as lo
        >>> lo.butterfly(64, 64).num_params == 2 * 64 * 6
        True
        >>> lo.butterfly(24, 8).patterns
        ((12, 2, 2, 1), (6, 2, 2, 2), (1, 6, 2, 4))
    """
    m, n = out_features, in_features
    assert factors is not None  # the declaration sees to it
    half = 2 ** (factors - 1)
    # in the order in which factors act
    rows, columns = [-(-m // half), *[2] * (factors - 1)], [*[2] * (factors - 1), -(-n // half)]
    shapes = [(prod(columns[k + 1 :]), prod(rows[:k]), rows[k], columns[k]) for k in reversed(range(factors))]
    core = Butterfly([spec(*shape, dtype=dtype) for shape in shapes])
    return padded(core, m, n)
