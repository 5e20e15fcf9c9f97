"""What families share: checks of sizes and cost, and how sizes that do not divide are spread over blocks."""

from __future__ import annotations

from typing import Any

from linops.backends import is_array, stands_for_array
from linops.checks import require_size
from linops.operator import LinearOperator
from linops.operators import BlockDiag, Identity, Kronecker, Pad
from linops.plan import natural_order

#: what makes operators of arrays that a family makes of sizes
_OF_ARRAYS = {
    family: f", {call} one of arrays"
    for family, call in {
        "dense": "lo.Dense(A)",
        "low_rank": "lo.LowRank(U, V)",
        "block_diag": "lo.BlockDiag([A, B])",
        "kronecker": "lo.kron(A, B)",
        "butterfly": "lo.Butterfly(factors)",
        "circulant": "lo.Circulant(c)",
        "toeplitz": "lo.Toeplitz(c, r)",
        "einsum": "lo.Einsum(expression, *tensors)",
        "tensor_train": "lo.TensorTrain(cores)",
        "btt": "lo.BlockTensorTrain(cores)",
    }.items()
}


def check_sizes(family: str, m: int, n: int, **options: int) -> None:
    """Raise unless sizes and options are integers of at least 1."""
    for name, value in {"out_features": m, "in_features": n, **options}.items():
        if is_array(value) or stands_for_array(value) or isinstance(value, LinearOperator):
            raise TypeError(
                f"{family}: {name} must be an integer, got {type(value).__name__}; "
                f"a family makes a symbolic operator of sizes{_OF_ARRAYS.get(family, '')}"
            )
        require_size(family, name, value)
        if value < 1:
            raise ValueError(f"{family}: {name} must be at least 1, got {value}")


def checked(operator: LinearOperator, family: str, m: int, n: int, allow_dearer: bool, advice: str) -> Any:
    """The operator, unless a further vector costs more FLOPs than dense; the error counts MACs where only those are."""
    with natural_order():
        one, two = operator.cost(), operator.cost(2)
    flops = two.flops - one.flops  # what is done once a product, such as the transform of a parameter, is no vector's
    if flops > 2 * m * n and not allow_dearer:
        ours, dense, unit = (one.macs, m * n, "MACs") if flops == 2 * one.macs else (flops, 2 * m * n, "FLOPs")
        raise ValueError(
            f"{family}({m}, {n}): {ours:,} {unit} a vector are more than dense's {dense:,}; {advice}, use lo.dense, "
            "or pass allow_dearer=True"
        )
    return operator


def check_blocks(family: str, m: int, n: int, blocks: int) -> None:
    """Raise unless every one of the blocks has a row and a column."""
    check_sizes(family, m, n, blocks=blocks)
    if blocks > min(m, n):
        raise ValueError(
            f"{family}({m}, {n}): {blocks} blocks are more than the smaller side, {min(m, n)}; some would be empty"
        )


def spread(size: int, blocks: int) -> LinearOperator:
    """Embeds `size` numbers into `blocks` equal parts, each short of at most one, as `numpy.array_split` divides."""
    part = -(-size // blocks)
    short = part * blocks - size  # the last `short` parts hold one number less
    if not short:
        return Identity(size)
    full = part * (blocks - short)
    tail = Kronecker(Identity(short), Pad(part, part - 1))
    return BlockDiag((Identity(full), tail)) if full else tail
