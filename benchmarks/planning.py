"""Planning: what choosing how to multiply wins, forward and in training, and what it takes to choose."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import linops as lo
from linops import backends
from linops.backends import load
from linops.lab.measure import compiler, side_by_side
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


#: of an operator, its product as a function of the operand
Way = Callable[[Any], Callable[[Any], Any]]


def _natural(operator: Any) -> Callable[[Any], Any]:
    def product(x: Any) -> Any:
        with natural_order():
            return operator @ x

    return product


def _from_the_left(symbolic: Any, batch: int) -> Way | None:
    """The product that multiplies the factors from the left, and the result with x; None where it takes too long."""
    m, n = symbolic.shape
    with natural_order():
        dearer = symbolic.T.flops(m) > 300 * symbolic.flops(batch)
    if m * n > LARGEST or dearer:
        return None

    def left(operator: Any) -> Callable[[Any], Any]:
        transpose, like = operator.T, next(leaf for _, leaf in operator.named_leaves())

        def product(x: Any) -> Any:
            with natural_order():
                return (transpose @ backends.eye(like, m, like.dtype)).T @ x

        return product

    return left


def _backwards(symbolic: Any) -> Way | None:
    """The product whose Kronecker factors act in the other order."""
    network = network_of(symbolic)
    if not isinstance(symbolic, lo.Kronecker) or network is None:
        return None
    plan = plan_along(network, one_by_one(reversed(range(len(network.tensors)))))

    def other(operator: Any) -> Callable[[Any], Any]:
        leaves = [leaf for _, leaf in operator.named_leaves()]
        return lambda x: multiply(plan, leaves, x)

    return other


def _planned(operator: Any) -> Callable[[Any], Any]:
    return lambda x: operator @ x


def _forward(way: Way, operator: Any, x: Any, compiled: Callable[[Any], Any]) -> Callable[[], Any]:
    if backends.backend_of(x) == "jax":
        run = compiled(lambda operator, x: way(operator)(x))
        return lambda: run(operator, x)
    product = way(operator)
    return lambda: product(x)


def _training(way: Way, operator: Any, x: Any, compiled: Callable[[Any], Any]) -> Callable[[], Any]:
    """A way, and the gradients of x and of all leaves for a gradient of ones: the results, flat."""
    if backends.backend_of(x) == "jax":
        import jax
        import jax.numpy as jnp

        @compiled
        def both(operator: Any, x: Any) -> Any:
            y, pull = jax.vjp(lambda operator, x: way(operator)(x), operator, x)
            return jax.tree.leaves(pull(jnp.ones_like(y)))

        return lambda: both(operator, x)
    import torch

    leaves = [leaf.detach().requires_grad_() for _, leaf in operator.named_leaves()]
    operator, x = operator.with_leaves(leaves), x.detach().requires_grad_()
    product = way(operator)
    ones = torch.ones_like(product(x))
    return lambda: torch.autograd.grad(product(x), [x, *leaves], ones)


def row(
    name: str, symbolic: lo.LinearOperator, batch: int, backend: str, seconds: float, training: bool = False
) -> dict[str, Any]:
    """One case: planned and frozen products beside the naive orders and dense, checked against each other.

    Args:
        name: Its name.
        symbolic: The expression.
        batch: Number of vectors.
        backend: The backend.
        seconds: About how long to measure.
        training: Whether gradients are computed, too; then nothing is frozen.

    Returns:
        Microseconds; the planned product's time over that of the best naive order, the frozen one's over that of the
        best of those and of the dense matrix, both made beforehand; and the time of the worst order over the planned
        product's.
    """
    operator = symbolic.init(seed=0, backend=backend)
    m, n = operator.shape
    x = backends.asarray(np.random.default_rng(0).standard_normal((n, batch)), backend, "float32")
    compiled, wait = compiler(backend)
    ways = {
        "right first": _natural,
        "left first": _from_the_left(symbolic, batch),
        "other order": _backwards(symbolic),
        "plan": _planned,
    }
    timed = _training if training else _forward
    functions: dict[str, Any] = {which: timed(way, operator, x, compiled) for which, way in ways.items() if way}
    naive = [which for which in functions if which != "plan"]
    expected = [backends.to_numpy(one) for one in _results(functions["right first"]())]
    for which, function in functions.items():
        for one, other in zip(_results(function()), expected):
            np.testing.assert_allclose(
                backends.to_numpy(one).reshape(other.shape),
                other,
                rtol=0,
                atol=1e-4 * float(np.abs(other).max()),
                err_msg=f"{name}: {which}",
            )
    if m * n <= LARGEST:
        functions["dense"] = timed(_planned, lo.Dense(operator.to_dense()), x, compiled)
    if not training:
        functions["frozen"] = _forward(_planned, lo.freeze(operator, batch), x, compiled)
    times = side_by_side(functions, seconds=seconds, rounds=11, wait=wait)
    ranked = sorted(naive, key=lambda which: times[which].median)
    made: list[str] = [*naive, *[which for which in ("dense",) if which in times]]
    ready = min(made, key=lambda which: times[which].median)
    columns = ("right first", "left first", "other order", "dense", "plan", "frozen")
    return {
        "backend": backend,
        "case": name,
        "pass": "training" if training else "forward",
        "batch": batch,
        **{f"{which.replace(' ', '_')}_us": 1e6 * times[which].median if which in times else None for which in columns},
        "ratio": times["plan"].ratio(times[ranked[0]]),
        **({} if training else {"frozen_ratio": times["frozen"].ratio(times[ready])}),
        "worst_order_ratio": times[ranked[-1]].ratio(times["plan"]),
    }


def _results(found: Any) -> list[Any]:
    return list(found) if isinstance(found, (list, tuple)) else [found]


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
                "pass": each.get("pass", "forward"),
                **{key: each[key] for key in ("backend", "case", "batch")},
                "best order, µs": min(orders),
                "dense, µs": each["dense_us"] or "",
                "plan, µs": each["plan_us"],
                "frozen, µs": each["frozen_us"] or "",
                "plan / best order": each["ratio"],
                "worst order / plan": each["worst_order_ratio"],
                "frozen / best": each.get("frozen_ratio", ""),
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


def measure(
    seconds: float = 1.0,
    backends: tuple[str, ...] = ("numpy", "torch"),
    passes: tuple[str, ...] = ("forward", "training"),
) -> Iterator[dict[str, Any]]:
    """Planned and frozen products beside the naive orders and dense, forward and in training, and what planning takes.

    Args:
        seconds: About how long to measure each case.
        backends: Of numpy, torch and jax (compiled, with operators as arguments).
        passes: Of forward and training, which NumPy has not.

    Yields:
        The row of `planning_time`, and those of `row`.
    """
    yield planning_time()
    for backend in backends:
        load(backend)
        for which in passes:
            if which == "training" and backend == "numpy":
                continue
            for name, (operator, batches) in cases().items():
                for batch in batches:
                    yield row(name, operator, batch, backend, seconds, which == "training")
