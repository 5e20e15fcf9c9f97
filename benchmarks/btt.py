"""BTT against the paper's formulation: two bmm, with copies to batch-first layout and back; forward and backward."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product
from typing import Any

import torch

import linops as lo
from benchmarks.paper import paper_of
from benchmarks.progress import progress
from linops.lab.measure import Function, Timing, side_by_side
from linops.lab.products import training_step

ROUNDS = 21


def case(d: int, rank: int, batch: int, seconds: float) -> dict[str, Any]:
    """One row: a square BTT of balanced dims, checked against the paper's formulation before it is timed.

    Args:
        d: in = out.
        rank: r.
        batch: Number of vectors.
        seconds: About how long to measure.

    Returns:
        Milliseconds, and how many times faster than the paper's formulation features first, as a layer (rows in and
        out), and as a layer of contiguous rows by the compiled kernel, if there is one.
    """
    operator = lo.btt(d, d, rank=rank).init(seed=0, backend="torch")
    paper, layer = paper_of(operator), operator.to_layer(bias=False)
    layer.features_first = True
    x = torch.randn(batch, d, generator=torch.Generator().manual_seed(0))
    columns = x.T.contiguous()
    kernel = operator.to_layer(bias=False)
    is_compiled = bool(with_kernel(lambda: kernel(x) is not None and lo.kernels.status().library)())
    with torch.inference_mode():
        expected = paper.forward(x)()
        torch.testing.assert_close(layer(x), expected, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close((operator @ columns).T, expected, rtol=1e-3, atol=1e-4)
        forward = side_by_side(
            {
                "paper": paper.forward(x),
                "operator": lambda: operator @ columns,
                "layer": lambda: layer(x),
                "layer_contiguous": lambda: layer(x).contiguous(),
                **({"compiled": with_kernel(lambda: kernel(x))} if is_compiled else {}),
            },
            seconds=seconds / 2,
            rounds=ROUNDS,
            least_rounds=7,
        )
    steps = {
        "paper": paper.training(x),
        "operator": training_step(operator, columns, "torch", lambda function: function),
        "layer": layer_step(layer, x),
        **({"compiled": with_kernel(layer_step(kernel, x))} if is_compiled else {}),
    }
    training = side_by_side(steps, seconds=seconds / 2, rounds=ROUNDS, least_rounds=7)
    return {
        "d": d,
        "rank": rank,
        "batch": batch,
        "paper_ms": 1e3 * forward["paper"].median,
        "operator_ms": 1e3 * forward["operator"].median,
        "operator_gflops": operator.flops(batch) / forward["operator"].median / 1e9,
        **_speedups("", forward),
        "training_paper_ms": 1e3 * training["paper"].median,
        **_speedups("training_", training),
    }


def layer_step(layer: torch.nn.Module, x: torch.Tensor) -> Function:
    """The product of a layer with in = out, and all its gradients for a gradient of ones.

    Args:
        layer: The layer.
        x: (batch, in) contiguous rows.

    Returns:
        A function of no arguments.
    """
    x = x.detach().requires_grad_()
    leaves, ones = [x, *layer.parameters()], torch.ones_like(x)
    return lambda: torch.autograd.grad(layer(x), leaves, ones)


def with_kernel(function: Function) -> Function:
    """A function that runs with compiled kernels wherever they can be.

    Args:
        function: The function, of no arguments.

    Returns:
        A function of no arguments.
    """

    def run() -> Any:
        with lo.kernels.use("compiled"):
            return function()

    return run


def _speedups(prefix: str, times: dict[str, Timing]) -> dict[str, float]:
    return {
        f"{prefix}{name}_speedup": times["paper"].ratio(timing) for name, timing in times.items() if name != "paper"
    }


def measure(
    sizes: tuple[int, ...] = (1024, 4096),
    ranks: tuple[int, ...] = (1, 4),
    batches: tuple[int, ...] = (256, 2048),
    seconds: float = 6.0,
    known: Iterable[dict[str, Any]] = (),
) -> Iterator[dict[str, Any]]:
    """BTT on torch, times faster than the paper's formulation: forward (goal: 2) and forward + backward (goal: 1.8).

    Args:
        sizes: d = in = out.
        ranks: r.
        batches: Numbers of vectors.
        seconds: About how long to measure each case.
        known: Rows that need not be measured again.

    Yields:
        The rows of `case`.
    """
    done = {(row["d"], row["rank"], row["batch"]) for row in known}
    cells = [cell for cell in product(sizes, ranks, batches) if cell not in done]
    for d, rank, batch in progress(cells, "btt"):
        yield case(d, rank, batch, seconds)
