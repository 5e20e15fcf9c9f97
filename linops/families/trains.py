"""Families that split sizes into dims: Kronecker products, (block) tensor trains, einsums of two factors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod
from typing import Any

from linops.families.dims import balanced_splits, choose_dims
from linops.families.knob import Knob
from linops.families.registry import family
from linops.operator import LinearOperator
from linops.operators import BlockTensorTrain, Dense, Einsum, Kronecker, TensorTrain
from linops.specs import spec


@family(
    Knob("factors", grows=False, advice="take other dims"),
    plain={"factors": 1},
    arrays="lo.kron(A, B)",
)
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
        factors: How many; by default 2, or 1 at small sizes where two cost more than dense.
        in_dims: (n_1 …), product at least n; by default balanced and of fewest MACs.
        out_dims: (m_1 …), product at least m; likewise.
        dtype: The dtype of the specs.
        allow_dearer: Whether a member that you ask for may cost more than dense.

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

    def build(out: tuple[int, ...], into: tuple[int, ...]) -> LinearOperator:
        return Kronecker(*(Dense(spec(*pair, dtype=dtype)) for pair in zip(out, into)))

    return choose_dims("kronecker", m, n, factors, out_dims, in_dims, build)


@family(Knob("rank", advice="lower the rank"), plain={"cores": 1}, arrays="lo.TensorTrain(cores)")
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
        cores: How many; by default 2, or 1, a dense matrix, at small sizes where two cost more than dense.
        in_dims: (n_1 …), product at least n; by default balanced and of fewest MACs.
        out_dims: (m_1 …), product at least m; likewise.
        dtype: The dtype of the specs.
        allow_dearer: Whether a member that you ask for may cost more than dense.

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
    ranks = (1, *(rank,) * (cores - 1), 1)

    def build(out: tuple[int, ...], into: tuple[int, ...]) -> LinearOperator:
        return TensorTrain([spec(ranks[k], out[k], into[k], ranks[k + 1], dtype=dtype) for k in range(cores)])

    return choose_dims("tensor_train", m, n, cores, out_dims, in_dims, build)


@family(Knob("rank", advice="lower the rank"), plain={"cores": 1}, arrays="lo.BlockTensorTrain(cores)")
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
        cores: How many; by default 2, or 1, a dense matrix, at small sizes where two cost more than dense.
        in_dims: (n_c … n_1), product at least n; by default balanced and of fewest MACs.
        out_dims: (m_1 … m_c), product at least m; likewise.
        dtype: The dtype of the specs.
        allow_dearer: Whether a member that you ask for may cost more than dense.

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
    ranks = (1, *(rank,) * (cores - 1), 1)

    def build(out: tuple[int, ...], into: tuple[int, ...]) -> LinearOperator:
        shapes = [
            (prod(out[:k]) * prod(into[: cores - 1 - k]), ranks[k + 1] * out[k], into[-1 - k] * ranks[k])
            for k in range(cores)
        ]
        return BlockTensorTrain([spec(*shape, dtype=dtype) for shape in shapes], out, into)

    return choose_dims("btt", m, n, cores, out_dims, in_dims, build)


def _fewer_dims(m: int, n: int) -> Iterator[dict[str, tuple[int, ...]]]:
    """The dims of `einsum` that make it a block tensor train of two cores, and of low rank."""
    outs, ins = ([order for split in balanced_splits(size, 2) for order in (split, split[::-1])] for size in (m, n))
    (φ, ε), (γ, α) = min(product(outs, ins), key=lambda dims: dims[0][0] * dims[1][0] * (dims[0][1] + dims[1][1]))
    yield {"out_dims": (φ, ε, 1), "in_dims": (γ, 1, α)}
    yield {"out_dims": (1, m, 1), "in_dims": (1, 1, n)}


@family(
    Knob("rank", advice="lower the rank"), instead=_fewer_dims, or_dense=True, arrays="lo.Einsum(expression, *tensors)"
)
def einsum(
    out_features: int,
    in_features: int,
    rank: int = 1,
    *,
    in_dims: Sequence[int] | None = None,
    out_dims: Sequence[int] | None = None,
    dtype: Any = "float32",
    allow_dearer: bool = False,
) -> LinearOperator:
    """The two-factor family over seven sizes (Potapczynski et al., NeurIPS 2024), as an `Einsum`.

    y[φεδ] = Σ B[φ,ε,ρ,γ,β] A[φ,δ,ρ,γ,α] x[γβα], with φδργα + φεργβ parameters and φδργαβ + φεργδβ MACs. By its sizes it
    is

    * low rank for γ = β = φ = δ = 1;
    * a Kronecker product for γ = φ = ρ = 1, a two-core tensor train for γ = φ = 1;
    * a two-core block tensor train, and so Monarch, for β = δ = 1.

    B is stored as (φ, ε, β, γ, ρ) and A as (γ, ρ, φ, δ, α), as the products read them; axes of size 1 but ε, ρ, α are
    left out.

    Args:
        out_features: m.
        in_features: n.
        rank: ρ.
        in_dims: (γ, β, α), product at least n; by default balanced and of fewest MACs. Where that costs more than dense
            and nothing is asked for, dims are those of a block tensor train of two cores, or of low rank.
        out_dims: (φ, ε, δ), product at least m; likewise.
        dtype: The dtype of the specs.
        allow_dearer: Whether a member that you ask for may cost more than dense.

    Returns:
        A symbolic operator of shape (m, n). If a side is 1 and nothing is asked for, this is `Dense`.

    Raises:
        ValueError: If sizes or dims do not fit, or the member costs more than dense.

    Example:
        >>> import linops as lo
        >>> A = lo.einsum(512, 512)
        >>> A.num_params, A.cost().macs
        (8192, 65536)
        >>> lo.einsum(512, 512, out_dims=(16, 32, 1), in_dims=(16, 1, 32)).num_params == lo.btt(512, 512).num_params
        True
    """
    m, n = out_features, in_features

    def build(out: tuple[int, ...], into: tuple[int, ...]) -> LinearOperator:
        sizes = {"ρ": rank, **dict(zip("φεδ", out)), **dict(zip("γβα", into))}
        B, A, x, y = (
            "".join([axis for axis in term if sizes[axis] > 1 or axis in "ερα"])
            for term in ("φεβγρ", "γρφδα", "γβα", "φεδ")
        )
        tensors = [spec(*[sizes[axis] for axis in term], dtype=dtype) for term in (B, A)]
        return Einsum(f"{B},{A},{x}->{y}", tensors, order=(1, 0))

    return choose_dims("einsum", m, n, 3, out_dims, in_dims, build)
