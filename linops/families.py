"""Families: functions (out_features, in_features, **options) → symbolic operator.

Each takes any sizes. Where dims do not divide, the operator pads its input with zeros and crops its output, in such a way that every input
counts and no output is frozen. A member that costs more than dense is refused unless asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, isqrt, prod
from typing import Any

from linops.dims import choose_dims, padded
from linops.operator import LinearOperator
from linops.operators import (
    BlockDiag,
    BlockTensorTrain,
    Circulant,
    Dense,
    Identity,
    Kronecker,
    LowRank,
    Pad,
    Permute,
    TensorTrain,
    Toeplitz,
)
from linops.operators.zero import require_size
from linops.spec import spec


def _check_sizes(family: str, m: int, n: int, **options: int) -> None:
    for name, value in {"out_features": m, "in_features": n, **options}.items():
        require_size(family, name, value)
        if value < 1:
            raise ValueError(f"{family}: {name} must be at least 1, got {value}")


def _checked(operator: LinearOperator, family: str, m: int, n: int, allow_dearer: bool, advice: str) -> Any:
    """The operator, unless one vector more costs more FLOPs than dense's; the error counts in MACs where there is nothing else."""
    one, two = operator.cost(), operator.cost(2)
    flops = two.flops - one.flops  # what is done once a product, such as the transform of a parameter, is no vector's
    if flops > 2 * m * n and not allow_dearer:
        ours, dense, unit = (one.macs, m * n, "MACs") if flops == 2 * one.macs else (flops, 2 * m * n, "FLOPs")
        raise ValueError(
            f"{family}({m}, {n}): {ours:,} {unit} a vector are more than dense's {dense:,}; {advice}, use lo.dense, "
            "or pass allow_dearer=True"
        )
    return operator


# ---------------------------------------------------------------- the families


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
    _check_sizes("dense", out_features, in_features)
    return Dense(spec(out_features, in_features, dtype=dtype))


def low_rank(
    out_features: int, in_features: int, rank: int | None = None, *, dtype: Any = "float32", allow_dearer: bool = False
) -> LowRank:
    """A product of a tall and a wide matrix: r (m + n) parameters and MACs.

    Args:
        out_features: m.
        in_features: n.
        rank: r; by default ⌈√min(m, n)⌉.
        dtype: The dtype of the specs.
        allow_dearer: Whether more MACs than dense are fine.

    Returns:
        A symbolic operator of shape (m, n).

    Raises:
        ValueError: If a size is less than 1, or the member costs more than dense.

    Example:
        >>> import linops as lo
        >>> lo.low_rank(768, 3072).num_params
        107520
    """
    m, n = out_features, in_features
    _check_sizes("low_rank", m, n)
    if rank is None:
        rank = isqrt(min(m, n) - 1) + 1
    _check_sizes("low_rank", m, n, rank=rank)
    operator = LowRank(spec(m, rank, dtype=dtype), spec(rank, n, dtype=dtype))
    return _checked(operator, "low_rank", m, n, allow_dearer, "lower the rank")


def _spread(size: int, blocks: int) -> LinearOperator:
    """Embeds `size` numbers into `blocks` equal parts so that each part lacks at most one: part sizes are those of `numpy.array_split`."""
    part = ceil(size / blocks)
    short = part * blocks - size  # the last `short` parts hold one number less
    if not short:
        return Identity(size)
    full = part * (blocks - short)
    tail = Kronecker(Identity(short), Pad(part, part - 1))
    return BlockDiag((Identity(full), tail)) if full else tail


def block_diag(
    out_features: int, in_features: int, blocks: int = 4, *, dtype: Any = "float32", allow_dearer: bool = False
) -> LinearOperator:
    """A block-diagonal matrix of b blocks (p, q) = (⌈m/b⌉, ⌈n/b⌉): b p q parameters and MACs.

    Where b does not divide a size, the parts differ by one as in `numpy.array_split`.

    Args:
        out_features: m.
        in_features: n.
        blocks: b.
        dtype: The dtype of the spec.
        allow_dearer: Whether more MACs than dense are fine.

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
    _check_blocks("block_diag", m, n, blocks)
    core = BlockDiag(spec(blocks, ceil(m / blocks), ceil(n / blocks), dtype=dtype))
    operator = _spread(m, blocks).T @ core @ _spread(n, blocks)
    return _checked(operator, "block_diag", m, n, allow_dearer, "use other sizes")


def _check_blocks(family: str, m: int, n: int, blocks: int) -> None:
    _check_sizes(family, m, n, blocks=blocks)
    if blocks > min(m, n):
        raise ValueError(f"{family}({m}, {n}): {blocks} blocks are more than the smaller side, {min(m, n)}; some would be empty")


def monarch(out_features: int, in_features: int, blocks: int = 4, *, dtype: Any = "float32", allow_dearer: bool = False) -> LinearOperator:
    """A Monarch matrix (Dao et al., ICML 2022): two block-diagonal matrices with stride permutations after each.

    With p = ⌈n/b⌉, s = ⌈m/b⌉ and q = min(p, s):
    Permute.axes((b, s), (1, 0)) @ BlockDiag(b, s, q) @ Permute.axes((q, b), (1, 0)) @ BlockDiag(b, q, p); b q (p + s) parameters and MACs.
    Where b does not divide n, each input block lacks at most one input.

    Args:
        out_features: m.
        in_features: n.
        blocks: b.
        dtype: The dtype of the specs.
        allow_dearer: Whether more MACs than dense are fine.

    Returns:
        A symbolic operator of shape (m, n).

    Raises:
        ValueError: If a size is less than 1, there are more blocks than features, or the member costs more than dense.

    Example:
        >>> import linops as lo
        >>> lo.monarch(3072, 768).num_params
        737280
    """
    m, n, b = out_features, in_features, blocks
    _check_blocks("monarch", m, n, b)
    p, s = ceil(n / b), ceil(m / b)
    q = min(p, s)
    left, right = BlockDiag(spec(b, s, q, dtype=dtype)), BlockDiag(spec(b, q, p, dtype=dtype))
    core = Permute.axes((b, s), (1, 0)) @ left @ Permute.axes((q, b), (1, 0)) @ right
    operator = padded(core, m, b * p) @ _spread(n, b)
    return _checked(operator, "monarch", m, n, allow_dearer, "take more blocks")


def kronecker(
    out_features: int,
    in_features: int,
    factors: int = 2,
    *,
    in_dims: Sequence[int] | None = None,
    out_dims: Sequence[int] | None = None,
    dtype: Any = "float32",
    allow_dearer: bool = False,
) -> LinearOperator:
    """A Kronecker product of matrices (m_k, n_k): Σ m_k n_k parameters.

    Args:
        out_features: m.
        in_features: n.
        factors: How many.
        in_dims: (n_1 …), product at least n; by default balanced and of fewest MACs.
        out_dims: (m_1 …), product at least m; likewise.
        dtype: The dtype of the specs.
        allow_dearer: Whether more MACs than dense are fine.

    Returns:
        A symbolic operator of shape (m, n).

    Raises:
        ValueError: If sizes or dims do not fit, or the member costs more than dense.

    Example:
        >>> import linops as lo
        >>> lo.kronecker(64, 64).num_params
        128
    """
    m, n = out_features, in_features
    _check_sizes("kronecker", m, n, factors=factors)

    def build(out: tuple[int, ...], into: tuple[int, ...]) -> LinearOperator:
        return Kronecker(*(Dense(spec(*pair, dtype=dtype)) for pair in zip(out, into)))

    operator = choose_dims("kronecker", m, n, factors, out_dims, in_dims, build)
    return _checked(operator, "kronecker", m, n, allow_dearer, "take other dims")


def tensor_train(
    out_features: int,
    in_features: int,
    rank: int = 1,
    cores: int = 2,
    *,
    in_dims: Sequence[int] | None = None,
    out_dims: Sequence[int] | None = None,
    dtype: Any = "float32",
    allow_dearer: bool = False,
) -> LinearOperator:
    """A tensor train (matrix product operator) with cores (r_{k-1}, m_k, n_k, r_k): Σ r_{k-1} m_k n_k r_k parameters.

    Args:
        out_features: m.
        in_features: n.
        rank: The rank between neighbouring cores.
        cores: How many.
        in_dims: (n_1 …), product at least n; by default balanced and of fewest MACs.
        out_dims: (m_1 …), product at least m; likewise.
        dtype: The dtype of the specs.
        allow_dearer: Whether more MACs than dense are fine.

    Returns:
        A symbolic operator of shape (m, n).

    Raises:
        ValueError: If sizes or dims do not fit, or the member costs more than dense.

    Example:
        >>> import linops as lo
        >>> lo.tensor_train(64, 64, rank=2, cores=3).num_params
        128
    """
    m, n = out_features, in_features
    _check_sizes("tensor_train", m, n, rank=rank, cores=cores)
    ranks = (1, *(rank,) * (cores - 1), 1)

    def build(out: tuple[int, ...], into: tuple[int, ...]) -> LinearOperator:
        return TensorTrain([spec(ranks[k], out[k], into[k], ranks[k + 1], dtype=dtype) for k in range(cores)])

    operator = choose_dims("tensor_train", m, n, cores, out_dims, in_dims, build)
    return _checked(operator, "tensor_train", m, n, allow_dearer, "lower the rank")


def btt(
    out_features: int,
    in_features: int,
    rank: int = 1,
    cores: int = 2,
    *,
    in_dims: Sequence[int] | None = None,
    out_dims: Sequence[int] | None = None,
    dtype: Any = "float32",
    allow_dearer: bool = False,
) -> LinearOperator:
    """A block tensor train (Qiu et al., ICML 2024), the generalised Monarch matrix; see `BlockTensorTrain`.

    Σ_k r_{k-1} r_k Π_{j≤k} m_j Π_{j≥k} n_j parameters, and as many MACs.

    Args:
        out_features: m.
        in_features: n.
        rank: The rank between neighbouring cores.
        cores: How many.
        in_dims: (n_c … n_1), product at least n; by default balanced and of fewest MACs.
        out_dims: (m_1 … m_c), product at least m; likewise.
        dtype: The dtype of the specs.
        allow_dearer: Whether more MACs than dense are fine.

    Returns:
        A symbolic operator of shape (m, n).

    Raises:
        ValueError: If sizes or dims do not fit, or the member costs more than dense.

    Example:
        >>> import linops as lo
        >>> A = lo.btt(3072, 768)
        >>> A.out_dims, A.in_dims, A.num_params
        ((48, 64), (24, 32), 110592)
    """
    m, n = out_features, in_features
    _check_sizes("btt", m, n, rank=rank, cores=cores)
    ranks = (1, *(rank,) * (cores - 1), 1)

    def build(out: tuple[int, ...], into: tuple[int, ...]) -> LinearOperator:
        shapes = [(prod(out[:k]) * prod(into[: cores - 1 - k]), ranks[k + 1] * out[k], into[-1 - k] * ranks[k]) for k in range(cores)]
        return BlockTensorTrain([spec(*shape, dtype=dtype) for shape in shapes], out, into)

    operator = choose_dims("btt", m, n, cores, out_dims, in_dims, build)
    return _checked(operator, "btt", m, n, allow_dearer, "lower the rank")


def circulant(out_features: int, in_features: int, *, dtype: Any = "float32", allow_dearer: bool = False) -> Circulant:
    """A circulant matrix, or the leading block of one: max(m, n) parameters, products by fast Fourier transforms.

    Every output sums all inputs. Small members are dearer than dense: square ones up to 10, and up to 41
    where they have a prime factor above 13.

    Args:
        out_features: m.
        in_features: n.
        dtype: The dtype of the spec.
        allow_dearer: Whether more FLOPs than dense are fine.

    Returns:
        A symbolic operator of shape (m, n).

    Raises:
        ValueError: If a size is less than 1, or the member costs more than dense.

    Example:
        >>> import linops as lo
        >>> lo.circulant(768, 3072).num_params
        3072
    """
    m, n = out_features, in_features
    _check_sizes("circulant", m, n)
    operator = Circulant(spec(max(m, n), dtype=dtype), m, n)
    return _checked(operator, "circulant", m, n, allow_dearer, "use other sizes")


def toeplitz(out_features: int, in_features: int, *, dtype: Any = "float32", allow_dearer: bool = False) -> Toeplitz:
    """A Toeplitz matrix, constant along diagonals: m + n parameters, of which r[0] is not read; products by fast Fourier transforms.

    Every output sums all inputs. Small members are dearer than dense: square ones up to about 40.

    Args:
        out_features: m.
        in_features: n.
        dtype: The dtype of the specs.
        allow_dearer: Whether more FLOPs than dense are fine.

    Returns:
        A symbolic operator of shape (m, n).

    Raises:
        ValueError: If a size is less than 1, or the member costs more than dense.

    Example:
        >>> import linops as lo
        >>> lo.toeplitz(768, 3072).num_params
        3840
    """
    m, n = out_features, in_features
    _check_sizes("toeplitz", m, n)
    operator = Toeplitz(spec(m, dtype=dtype), spec(n, dtype=dtype))
    return _checked(operator, "toeplitz", m, n, allow_dearer, "use other sizes")


#: the families by name, for command lines and tables
FAMILIES: dict[str, Callable[..., LinearOperator]] = {
    "dense": dense,
    "low_rank": low_rank,
    "block_diag": block_diag,
    "kronecker": kronecker,
    "monarch": monarch,
    "tensor_train": tensor_train,
    "btt": btt,
    "circulant": circulant,
    "toeplitz": toeplitz,
}
