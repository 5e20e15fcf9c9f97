"""Planning: what choosing how to multiply wins, and what it takes to choose."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import linops as lo
from linops import backends
from linops.backends import load
from linops.lab.measure import side_by_side
from linops.operators.planned import network_of
from linops.plan import natural_order, target_of
from linops.plan.contraction import one_by_one
from linops.plan.plan import Plans, choose, plan_along
from linops.running import multiply

#: no matrix of more numbers is made, and none that is much dearer than the expression
LARGEST = 1 << 23


def cases() -> dict[str, tuple[lo.LinearOperator, tuple[int, ...]]]:
    """Expressions with the numbers of vectors: name → (symbolic operator, batches)."""
    permute, block = lo.Permute.axes((8, 8), (1, 0)), lo.BlockDiag(lo.spec(8, 8, 8))
    middle = (lo.BlockDiag(lo.spec(128, 8, 8)), lo.BlockDiag(lo.spec(128, 8, 8)))
    diagonal = lo.Diagonal(lo.spec(1024))
    return {
        "A B X, A 64×4096": (lo.dense(64, 4096) @ lo.Dense(lo.spec(4096, 4096)), (1, 1024)),
        "U V B x": (lo.low_rank(1024, 1024, rank=16) @ lo.Dense(lo.spec(1024, 1024)), (1, 256)),
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
    """The product that multiplies the factors from the left, and the result with x; None where it takes too long."""
    m, n = operator.shape
    transpose, like = operator.T, next(leaf for _, leaf in operator.named_leaves())
    with natural_order():
        dearer = transpose.flops(m) > 300 * operator.flops(x.shape[-1])
    if m * n > LARGEST or dearer:
        return None

    def left() -> Any:
        with natural_order():
            return (transpose @ backends.eye(like, m, like.dtype)).T @ x

    return left


def _backwards(operator: Any, x: Any) -> Callable[[], Any] | None:
    """The product whose Kronecker factors act in the other order."""
    network = network_of(operator)
    if not isinstance(operator, lo.Kronecker) or network is None:
        return None
    plan = plan_along(network, one_by_one(reversed(range(len(network.tensors)))))
    leaves = [leaf for _, leaf in operator.named_leaves()]
    return lambda: multiply(plan, leaves, x)


def row(name: str, symbolic: lo.LinearOperator, batch: int, backend: str, seconds: float) -> dict[str, Any]:
    """One case: planned and frozen products beside the naive orders and dense, checked against each other.

    Args:
        name: Its name.
        symbolic: The expression.
        batch: Number of vectors.
        backend: The backend.
        seconds: About how long to measure.

    Returns:
        Microseconds; the planned product's time over that of the best naive order, the frozen one's over that of the
        best of those and of the dense matrix, both made beforehand; and the time of the worst order over the planned
        product's.
    """
    operator = symbolic.init(seed=0, backend=backend)
    frozen, (m, n) = lo.freeze(operator, batch), operator.shape
    x = backends.asarray(np.random.default_rng(0).standard_normal((n, batch)), backend, "float32")

    def natural() -> Any:
        with natural_order():
            return operator @ x

    orders = {"right first": natural, "left first": _from_the_left(operator, x), "other order": _backwards(operator, x)}
    functions: dict[str, Any] = {which: function for which, function in orders.items() if function}
    naive = list(functions)
    if m * n <= LARGEST:
        dense = operator.to_dense()
        functions["dense"] = lambda: dense @ x
    functions |= {"plan": lambda: operator @ x, "frozen": lambda: frozen @ x}
    expected = backends.to_numpy(natural())
    scale = float(np.abs(expected).max())
    for which, function in functions.items():
        np.testing.assert_allclose(
            backends.to_numpy(function()), expected, rtol=0, atol=1e-4 * scale, err_msg=f"{name}: {which}"
        )
    times = side_by_side(functions, seconds=seconds, rounds=11)
    ranked = sorted(naive, key=lambda which: times[which].median)
    made: list[str] = [*naive, *[which for which in ("dense",) if which in times]]
    ready = min(made, key=lambda which: times[which].median)
    columns = ("right first", "left first", "other order", "dense", "plan", "frozen")
    return {
        "backend": backend,
        "case": name,
        "batch": batch,
        **{f"{which.replace(' ', '_')}_us": 1e6 * times[which].median if which in times else None for which in columns},
        "ratio": times["plan"].ratio(times[ranked[0]]),
        "frozen_ratio": times["frozen"].ratio(times[ready]),
        "worst_order_ratio": times[ranked[-1]].ratio(times["plan"]),
    }


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What people read of the rows.

    Args:
        rows: The rows.

    Returns:
        Rows of cases, with the best of the naive orders.
    """
    found = []
    for each in rows:
        if "batch" not in each:
            continue
        orders = [each[key] for key in ("right_first_us", "left_first_us", "other_order_us") if each[key] is not None]
        found.append(
            {
                **{key: each[key] for key in ("backend", "case", "batch")},
                "best order, µs": min(orders),
                "dense, µs": each["dense_us"] or "",
                "plan, µs": each["plan_us"],
                "frozen, µs": each["frozen_us"],
                "plan / best order": each["ratio"],
                "worst order / plan": each["worst_order_ratio"],
                "frozen / best": each["frozen_ratio"],
            }
        )
    return found


def planning_time() -> dict[str, Any]:
    """Milliseconds to plan ten block-diagonal factors and permutations, microseconds to find a plan that is there."""
    permute, block = lo.Permute.axes((8, 8), (1, 0)), lo.BlockDiag(lo.spec(8, 8, 8))
    operator: Any = lo.Product((permute, block) * 10)

    def plan() -> Any:
        network, target = network_of(operator), target_of("torch")
        assert network is not None
        assert target is not None
        return Plans(1).get(0, lambda: choose(network, 64, target.machine, 4, operator._natural_steps))

    operator.cost(64)
    times = side_by_side({"plan": plan, "hit": lambda: operator._plan(64)}, seconds=1.0, rounds=21)
    return {
        "case": "planning ten factors",
        "planning_ms": 1e3 * times["plan"].median,
        "hit_us": 1e6 * times["hit"].median,
    }


def measure(seconds: float = 1.0, backends: tuple[str, ...] = ("numpy", "torch")) -> Iterator[dict[str, Any]]:
    """Planned and frozen products beside the naive orders and dense, and what it takes to plan.

    Args:
        seconds: About how long to measure each case.
        backends: Of numpy, torch and jax (which runs eagerly here).

    Yields:
        The row of `planning_time`, and those of `row`.
    """
    yield planning_time()
    for backend in backends:
        load(backend)
        for name, (operator, batches) in cases().items():
            for batch in batches:
                yield row(name, operator, batch, backend, seconds)
