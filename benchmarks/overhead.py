"""Python overhead: products of tiny operators over the bare kernels, and the time to build and compose operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import linops as lo
from benchmarks import kernels
from linops.lab.measure import side_by_side

#: samples of each, short enough that the system interrupts few
ROUNDS = 301

Pair = tuple[Callable[[], Any], Callable[[], Any]]


def products(backend: str) -> dict[str, tuple[int, Pair]]:
    """Products of tiny operators with the bare kernels that they run: name → (kernels, (linops, bare)).

    Args:
        backend: ``"numpy"`` or ``"torch"``.

    Returns:
        The pairs.
    """
    bmm: Callable[..., Any] = np.matmul if backend == "numpy" else torch.bmm

    def array(*shape: int) -> Any:
        return lo.Dense(lo.spec(*shape)).init(seed=0, backend=backend).matrix

    def swap(x: Any) -> Any:
        return x.transpose(1, 0, 2) if backend == "numpy" else x.transpose(0, 1)

    vectors = array(64, 4)
    vector = vectors[:, 0] + 0
    dense = lo.dense(64, 64).init(0, backend)
    low_rank = lo.low_rank(64, 64).init(0, backend)
    blocks: Any = lo.block_diag(64, 64, blocks=8).init(0, backend)
    btt: Any = lo.btt(64, 64).init(0, backend)
    monarch: Any = lo.monarch(64, 64, blocks=8).init(0, backend)
    first, second = btt.cores
    left, right = (factor.blocks for factor in monarch.factors[1::2])
    butterfly = lo.Butterfly([lo.spec(1, 8, 8, 8), lo.spec(8, 1, 8, 8)]).init(0, backend)
    one, two = (factor.reshape(8, 8, 8) for factor in butterfly.factors)
    kronecker: Any = lo.kron(array(8, 8), array(8, 8))
    kronecker_sum = lo.KroneckerSum(array(8, 8), array(8, 8))
    slow, fast = (factor.matrix for factor in kronecker.factors)
    diagonal = lo.Diagonal(array(64, 1)[:, 0] + 0)
    tridiagonal = lo.Tridiagonal(*(array(size, 1)[:, 0] + 0 for size in (63, 64, 63)))
    lower, middle, upper = tridiagonal.lower[:, None], tridiagonal.diag[:, None], tridiagonal.upper[:, None]
    reflection = lo.Householder(array(64, 1)[:, 0] + 0)

    def expanded(a: Any) -> Any:
        return a if backend == "numpy" else a.expand(8, 8, 8)

    def three_diagonals() -> Any:
        y = middle * vectors
        y[1:] += lower * vectors[:-1]
        y[:-1] += upper * vectors[1:]
        return y

    def reflect() -> Any:
        v = reflection.v
        return vectors - v[:, None] * ((2 / (v @ v)) * (v @ vectors))

    return {
        "Dense @ matrix": (1, (lambda: dense @ vectors, lambda: dense.matrix @ vectors)),
        "Dense @ vector": (1, (lambda: dense @ vector, lambda: dense.matrix @ vector)),
        "BlockDiag @ matrix": (
            1,
            (lambda: blocks @ vectors, lambda: bmm(blocks.blocks, vectors.reshape(8, 8, 4)).reshape(64, 4)),
        ),
        "BlockDiag @ vector": (
            1,
            (lambda: blocks @ vector, lambda: bmm(blocks.blocks, vector.reshape(8, 8, 1)).reshape(64)),
        ),
        "LowRank @ matrix": (2, (lambda: low_rank @ vectors, lambda: low_rank.U @ (low_rank.V @ vectors))),
        "BlockTensorTrain @ matrix": (
            2,
            (
                lambda: btt @ vectors,
                lambda: bmm(second, swap(bmm(first, vectors.reshape(8, 8, 4)))).reshape(64, 4),
            ),
        ),
        "Permute @ BlockDiag @ Permute @ BlockDiag": (
            2,
            (
                lambda: monarch @ vectors,
                lambda: swap(bmm(left, swap(bmm(right, vectors.reshape(8, 8, 4)).reshape(8, 8, 4)))).reshape(64, 4),
            ),
        ),
        "BlockTensorTrain @ vector": (
            2,
            (lambda: btt @ vector, lambda: bmm(second, swap(bmm(first, vector.reshape(8, 8, 1)))).reshape(64)),
        ),
        "Butterfly @ matrix": (
            2,
            (
                lambda: butterfly @ vectors,
                lambda: bmm(one, swap(bmm(two, swap(vectors.reshape(8, 8, 4))))).reshape(64, 4),
            ),
        ),
        "Kronecker @ matrix": (
            2,
            (
                lambda: kronecker @ vectors,
                lambda: bmm(expanded(fast), (slow @ vectors.reshape(8, 32)).reshape(8, 8, 4)).reshape(64, 4),
            ),
        ),
        "KroneckerSum @ matrix": (
            2,
            (
                lambda: kronecker_sum @ vectors,
                lambda: (
                    (slow @ vectors.reshape(8, 32)).reshape(64, 4)
                    + bmm(expanded(fast), vectors.reshape(8, 8, 4)).reshape(64, 4)
                ),
            ),
        ),
        "Diagonal @ matrix": (1, (lambda: diagonal @ vectors, lambda: diagonal.diagonal[:, None] * vectors)),
        "Tridiagonal @ matrix": (1, (lambda: tridiagonal @ vectors, three_diagonals)),
        "Householder @ matrix": (2, (lambda: reflection @ vectors, reflect)),
    }


def constructions(backend: str) -> dict[str, Callable[[], Any]]:
    """Building and composing operators.

    Args:
        backend: ``"numpy"`` or ``"torch"``.

    Returns:
        Functions by name.
    """
    dense = lo.dense(64, 64).init(0, backend)
    low_rank = lo.low_rank(64, 64).init(0, backend)
    btt: Any = lo.btt(64, 64).init(0, backend)
    blocks: Any = lo.block_diag(64, 64, blocks=8).init(0, backend)
    permute = lo.Permute.axes((8, 8), (1, 0))
    return {
        "Dense(a)": lambda: lo.Dense(dense.matrix),
        "LowRank(U, V)": lambda: lo.LowRank(low_rank.U, low_rank.V),
        "BlockDiag(blocks)": lambda: lo.BlockDiag(blocks.blocks),
        "BlockTensorTrain(cores)": lambda: lo.BlockTensorTrain(btt.cores),
        "Kronecker(A, B)": lambda: lo.Kronecker(dense, low_rank),
        "Permute.axes(dims, order)": lambda: lo.Permute.axes((8, 8), (1, 0)),
        "A @ B": lambda: dense @ low_rank,
        "Permute @ BlockDiag": lambda: permute @ blocks,
        "A + B": lambda: dense + low_rank,
        "2 * A": lambda: 2 * dense,
        "A.T": lambda: dense.T,
    }


def measure(seconds: float = 1.0) -> list[dict[str, Any]]:
    """Microseconds of Python over the bare kernels, and of building operators.

    Args:
        seconds: About how long to measure each.

    Returns:
        Rows with microseconds: the least of many short samples, for what else runs on the machine can only add to them.
        Those of torch have them with the compiled kernels too, where there are any.
    """
    rows = []
    for backend in ("numpy", "torch"):
        within = {"compiled": kernels.with_kernels} if backend == "torch" and kernels.are_there() else {}
        for name, (count, (ours, bare)) in products(backend).items():
            candidates = {"linops": ours, "bare": bare, **dict.fromkeys(within, ours)}
            times = side_by_side(candidates, seconds=seconds, rounds=ROUNDS, within=within)
            taken = {which: 1e6 * min(timing.seconds) for which, timing in times.items()}
            least, bare_least = taken["linops"], taken["bare"]
            compiled = {which: taken[which] for which in within}
            compiled |= {f"{which}_overhead": taken[which] - bare_least for which in within}
            rows.append(
                {
                    "backend": backend,
                    "what": name,
                    "kernels": count,
                    "microseconds": least,
                    "bare": bare_least,
                    "overhead": least - bare_least,
                    "ratio": least / bare_least,
                    "goal": 2 if count == 1 else 3,
                    **compiled,
                }
            )
        for name, build in constructions(backend).items():
            took = 1e6 * min(side_by_side({"linops": build}, seconds=seconds / 2, rounds=ROUNDS)["linops"].seconds)
            rows.append(
                {"backend": backend, "what": name, "kernels": 0, "microseconds": took, "overhead": took, "goal": 10}
            )
    return rows
