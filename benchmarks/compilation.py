"""Compile times: what the first call of a compiled product takes more than a later one.

torch.compile (fullgraph, its caches off) and jax.jit. For JAX with the operator as an argument, as it should be, and
captured by closure, where its arrays become constants of the program.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from time import perf_counter
from typing import Any
from warnings import catch_warnings, filterwarnings

import linops as lo
from benchmarks.progress import progress
from linops import backends as lops
from linops.lab.measure import compiler, side_by_side
from linops.lab.parsing import parse_list

STRUCTURES = "dense,kronecker,monarch,btt,tensor_train:rank=4,blast,butterfly,circulant"


def measure(
    size: int = 1024,
    batch: int = 256,
    structures: str = STRUCTURES,
    seconds: float = 0.2,
    known: Iterable[dict[str, Any]] = (),
) -> Iterator[dict[str, Any]]:
    """Seconds that torch.compile and jax.jit take for an operator's product; in JAX as argument and by closure.

    Args:
        size: d = in = out.
        batch: Number of vectors.
        structures: Families with options, with commas between.
        seconds: About how long to measure later calls.
        known: Rows that need not be measured again.

    Yields:
        Rows.
    """
    warm = lo.dense(8, 8)
    for imported in (_torch, _jax):  # the compilers
        imported(warm, 2, 0.0)
    done = {(row["structure"], row["d"], row["batch"]) for row in known}
    wanted = [structure for structure in parse_list(structures) if (structure.text, size, batch) not in done]
    for structure in progress(wanted, "compile"):
        operator = structure(size, size)
        row: dict[str, Any] = {"structure": structure.text, "d": size, "batch": batch}
        yield row | _torch(operator, batch, seconds) | _jax(operator, batch, seconds)


def _first_and_later(function: Callable[[], Any], backend: str, seconds: float) -> tuple[float, float]:
    """Seconds of the first call beyond a later one, and of that."""
    _, wait = compiler(backend)
    start = perf_counter()
    wait(function())
    first = perf_counter() - start
    later = side_by_side({"later": function}, seconds=seconds, wait=wait)["later"].median
    return first - later, later


def _torch(symbolic: lo.LinearOperator, batch: int, seconds: float) -> dict[str, float]:
    import torch
    from torch._functorch import config as functorch
    from torch._inductor import config as inductor

    operator = symbolic.init(seed=0, backend="torch")
    x = torch.randn(symbolic.shape[1], batch)
    torch._dynamo.reset()
    uncached = inductor.patch(fx_graph_cache=False), functorch.patch(enable_autograd_cache=False)
    with uncached[0], uncached[1], torch.no_grad(), catch_warnings():
        filterwarnings("ignore", "Torchinductor does not support code generation for complex", UserWarning)
        product = torch.compile(lambda A, x: A @ x, fullgraph=True)
        took, later = _first_and_later(lambda: product(operator, x), "torch", seconds)
        times = side_by_side({"eager": lambda: operator @ x, "compiled": lambda: product(operator, x)}, seconds=seconds)
    return {
        "torch_s": took,
        "torch_compiled_us": 1e6 * later,
        "torch_speedup": times["eager"].ratio(times["compiled"]),
    }


def _jax(symbolic: lo.LinearOperator, batch: int, seconds: float) -> dict[str, float]:
    import jax
    import numpy as np

    operator = symbolic.init(seed=0, backend="jax")
    x = lops.asarray(np.random.default_rng(0).standard_normal((symbolic.shape[1], batch)), "jax", "float32")
    jax.clear_caches()
    argument = jax.jit(lambda A, x: A @ x)
    took, later = _first_and_later(lambda: argument(operator, x), "jax", seconds)
    jax.clear_caches()
    closure = jax.jit(lambda x: operator @ x)
    closure_took, closure_later = _first_and_later(lambda: closure(x), "jax", seconds)
    return {
        "jax_s": took,
        "jax_compiled_us": 1e6 * later,
        "jax_closure_s": closure_took,
        "jax_closure_us": 1e6 * closure_later,
    }
