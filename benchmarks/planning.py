"""Planning: what choosing how to multiply wins, and what it takes to choose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import linops as lo
from linops import backends
from linops.lab.measure import side_by_side
from linops.operators.planned import network_of
from linops.plan import machine_of, natural_order
from linops.plan.plan import Plans, choose

#: no matrix of more numbers is made, and none that is much dearer than the expression
LARGEST = 1 << 23


def cases() -> dict[str, tuple[lo.LinearOperator, tuple[int, ...]]]:
    """Expressions with the numbers of vectors: name → (symbolic operator, batches)."""
    permute, block = lo.Permute.axes((8, 8), (1, 0)), lo.BlockDiag(lo.spec(8, 8, 8))
    middle = (lo.BlockDiag(lo.spec(128, 8, 8)), lo.BlockDiag(lo.spec(128, 8, 8)))
    diagonal = lo.Diagonal(lo.spec(1024))
    return {
        "A B X, A 64×4096": (lo.dense(64, 4096) @ lo.Dense(lo.spec(4096, 4096)), (1, 1024)),
        "U V B x": (lo.low_rank(4096, 4096, rank=16) @ lo.Dense(lo.spec(4096, 4096)), (1, 256)),
        "Kronecker 256×16, 16×256": (lo.kron(lo.spec(256, 16), lo.spec(16, 256)), (1, 64)),
        "6 (Permute BlockDiag), d = 64": (lo.Product((permute, block) * 6), (1, 16, 256)),
        "Kronecker of 12 2×2": (lo.kron(*[lo.spec(2, 2)] * 12), (1, 16, 256)),
        "Diagonal BlockDiag BlockDiag Diagonal": (lo.Product((diagonal, *middle, diagonal)), (1, 256, 2048)),
        "Butterfly 1024": (lo.butterfly(1024, 1024), (1, 16, 256, 2048)),
        "TensorTrain of 4, d = 256": (lo.tensor_train(256, 256, rank=2, cores=4), (1, 256, 2048)),
        "BlockTensorTrain, d = 1024": (lo.btt(1024, 1024), (1, 256)),
        "Monarch, d = 1024": (lo.monarch(1024, 1024), (1, 256)),
        "Monarch Monarch, d = 256": (lo.monarch(256, 256) @ lo.monarch(256, 256), (1, 16, 2048)),
        "LowRank of full rank, d = 256": (lo.low_rank(256, 256, rank=256, allow_dearer=True), (1, 256, 2048)),
    }


def _from_the_left(operator: Any, x: Any) -> Callable[[], Any] | None:
    """The product that multiplies the factors with each other, from the left, and then with x."""
    m, n = operator.shape
    transpose = operator.T
    like = next(leaf for _, leaf in operator.named_leaves())
    with natural_order():
        dearer = operator.T.flops(m) > 100 * operator.flops(x.shape[-1])
    if m * n > LARGEST or dearer:
        return None

    def left() -> Any:
        with natural_order():
            return (transpose @ backends.eye(like, m, like.dtype)).T @ x

    return left


def row(name: str, symbolic: lo.LinearOperator, batch: int, backend: str, seconds: float) -> dict[str, Any]:
    """One case: planned and frozen products beside the naive orders and dense, checked against each other.

    Args:
        name: Its name.
        symbolic: The expression.
        batch: Number of vectors.
        backend: The backend.
        seconds: About how long to measure.

    Returns:
        Microseconds, and how many times as long as the best of the others planned and frozen products take.
    """
    operator = symbolic.init(seed=0, backend=backend)
    frozen, (m, n) = lo.freeze(operator, batch), operator.shape
    x = backends.asarray(np.random.default_rng(0).standard_normal((n, batch)), backend, "float32")

    def natural() -> Any:
        with natural_order():
            return operator @ x

    functions: dict[str, Any] = {"right first": natural, "plan": lambda: operator @ x, "frozen": lambda: frozen @ x}
    left = _from_the_left(operator, x)
    if left:
        functions["left first"] = left
    if m * n <= LARGEST:
        dense = operator.to_dense()
        functions["dense"] = lambda: dense @ x
    expected = backends.to_numpy(natural())
    scale = float(np.abs(expected).max())
    for which, function in functions.items():
        np.testing.assert_allclose(backends.to_numpy(function()), expected, rtol=0, atol=1e-4 * scale, err_msg=f"{name}: {which}")
    times = side_by_side(functions, seconds=seconds, rounds=11)
    naive = [times[which] for which in ("right first", "left first") if which in times]
    ready = [*naive, *[times[which] for which in ("dense",) if which in times]]
    best, best_ready = (min(found, key=lambda timing: timing.median) for found in (naive, ready))
    return {
        "case": name,
        "batch": batch,
        "backend": backend,
        **{f"{which}_us".replace(" ", "_"): 1e6 * timing.median for which, timing in times.items()},
        "plan_over_best_order": times["plan"].ratio(best),
        "frozen_over_best": times["frozen"].ratio(best_ready),
        "gain": best.ratio(times["plan"]) if best is not times["right first"] else times["right first"].ratio(times["plan"]),
        "frozen_gain": times["right first"].ratio(times["frozen"]),
        "planned": operator._plan(batch) is not None if hasattr(operator, "_plan") else False,
    }


def planning_time() -> dict[str, Any]:
    """Milliseconds to plan ten block-diagonal factors and permutations, and microseconds to find a plan that is there."""
    permute, block = lo.Permute.axes((8, 8), (1, 0)), lo.BlockDiag(lo.spec(8, 8, 8))
    operator: Any = lo.Product((permute, block) * 10)

    def plan() -> Any:
        network = network_of(operator)
        assert network is not None
        return Plans(1).get(0, lambda: choose(network, 64, machine_of("torch"), 4, operator._natural_steps))

    operator.cost(64)
    times = side_by_side({"plan": plan, "hit": lambda: operator._plan(64)}, seconds=1.0, rounds=21)
    return {
        "case": "planning ten factors (ms), a plan that is there (µs)",
        "planning_ms": 1e3 * times["plan"].median,
        "hit_us": 1e6 * times["hit"].median,
    }


def measure(seconds: float = 1.0, backends_: tuple[str, ...] = ("numpy", "torch")) -> list[dict[str, Any]]:
    """All rows.

    Args:
        seconds: About how long to measure each case.
        backends_: The backends.

    Returns:
        Rows of `row`, and that of `planning_time`.
    """
    rows = [planning_time()]
    for backend in backends_:
        backends.load(backend)
        for name, (operator, batches) in cases().items():
            rows += [row(name, operator, batch, backend, seconds) for batch in batches]
    return rows
