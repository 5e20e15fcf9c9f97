"""The Triton kernels beside torch's products: errors and times. In a process of its own, which they may bring down.

``python -m benchmarks.cuda.kernels --device cuda --seconds 60`` writes a row of JSON a line.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch

import linops as lo
from benchmarks.cuda.device import Device
from benchmarks.cuda.running import Budget, Case, Part, Row, run
from linops.kernels.triton_passes import passes
from linops.specs import dtype_name

NAME = "kernels"
APART = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
#: (d, rank of BTT), and sizes of butterflies
CROSSED, BUTTERFLIES, TOKENS = ((4096, 4), (4096, 1), (1024, 4), (1024, 1)), (4096, 1024), 4096
QUICK = ((16, 2),), (16,), 8


def cases(device: Device, quick: bool) -> Iterator[Case]:
    """Products and gradients of both kernels.

    Args:
        device: Where.
        quick: Whether sizes are tiny.

    Yields:
        Cases.
    """
    crossed, butterflies, tokens = QUICK if quick else (CROSSED, BUTTERFLIES, TOKENS)
    for dtype in (torch.bfloat16, torch.float32):
        for d, rank in crossed:
            for layout in ("rows", "features"):
                key = {"kernel": "crossed_matmul", "d": d, "rank": rank, "dtype": dtype_name(dtype), "layout": layout}
                yield Case(key, partial(_crossed, device, d, rank, dtype, layout, tokens))
        for d in butterflies:
            for layout in ("rows", "features"):
                key = {"kernel": "small_factors", "d": d, "rank": 0, "dtype": dtype_name(dtype), "layout": layout}
                yield Case(key, partial(_butterfly, device, d, dtype, layout, tokens))


def _operand(device: Device, d: int, dtype: torch.dtype, layout: str, tokens: int) -> torch.Tensor:
    generator = torch.Generator(device.kind).manual_seed(1)
    made = partial(torch.randn, generator=generator, device=device.kind, dtype=dtype)
    return made(tokens, d).T if layout == "rows" else made(d, tokens)


def _crossed(device: Device, d: int, rank: int, dtype: torch.dtype, layout: str, tokens: int) -> list[Row]:
    ops: Any = import_module("linops.kernels.triton_ops")
    operator: Any = lo.btt(d, d, rank=rank).init(seed=0, backend="torch", dtype=dtype, device=device.kind)
    first, second = operator.cores
    (b, _, n), (m, p, middle) = first.shape, second.shape
    x = _operand(device, d, dtype, layout, tokens).reshape(b, n, tokens)

    def by_torch(first: Any, second: Any, x: Any) -> Any:
        return torch.bmm(second, torch.bmm(first, x).reshape(middle, m, x.shape[2]).transpose(0, 1))

    def by_kernel(first: Any, second: Any, x: Any, tile: int) -> Any:
        shaped = first.reshape(b, middle // b, m, n), second.reshape(m, p, b, middle // b)
        return ops.crossed_matmul(*shaped, x, tile)

    ways = {f"tile {tile}": partial(by_kernel, tile=tile) for tile in ops.tiles(middle // b)}
    return _beside(device, by_torch, ways, (first, second, x), dtype)


def _butterfly(device: Device, d: int, dtype: torch.dtype, layout: str, tokens: int) -> list[Row]:
    ops: Any = import_module("linops.kernels.triton_ops")
    found: Any = lo.butterfly(d, d).init(seed=0, backend="torch", dtype=dtype, device=device.kind)
    acting, (chain, factors) = passes(found.patterns[::-1]) or (), (found, found.factors[::-1])

    def by_torch(x: Any, *factors: Any) -> Any:
        return (chain.with_leaves(factors[::-1]) @ x).reshape(d, tokens)

    def by_kernel(x: Any, *factors: Any) -> Any:
        for each in acting:
            x = x.reshape(each.outer, each.columns, each.inner, tokens)
            x = ops.small_factors(x, each.views([factors[place] for place in each.places]), each.rising).flatten(0, 2)
        return x

    x = _operand(device, d, dtype, layout, tokens)
    return _beside(device, by_torch, {"passes": by_kernel}, (x, *factors), dtype)


def _beside(device: Device, by_torch: Any, ways: dict[str, Any], operands: tuple[Any, ...], dtype: Any) -> list[Row]:
    """A row of each way: times over torch's, and errors against float64."""
    exact = _step(by_torch, tuple(t.double() for t in operands))()
    forward = {"torch": lambda: by_torch(*operands)}
    training = {"torch": _step(by_torch, operands)}
    rows: dict[str, Row] = {}
    for name, way in ways.items():
        step = _step(way, operands)
        errors = [float((a.double() - b).norm() / b.norm()) for a, b in zip(step(), exact)]
        rows[name] = {"way": name, "outcome": "right", "error": errors[0], "gradients": max(errors[1:])}
        if not max(errors) <= APART[dtype]:
            rows[name] |= {"outcome": "wrong", "why": f"off by {max(errors):.1e}, allowed {APART[dtype]:.0e}"}
        forward[name], training[name] = partial(way, *operands), step
    del exact
    with torch.no_grad():
        of_forward = device.times(forward, 0.5)
    of_training = device.times(training, 0.5)
    for name, row in rows.items():
        row["torch_ms"], row["ms"] = 1e3 * of_forward["torch"].median, 1e3 * of_forward[name].median
        row["speedup"] = of_forward["torch"].ratio(of_forward[name])
        row["training_speedup"] = of_training["torch"].ratio(of_training[name])
    return list(rows.values())


def _step(way: Callable[..., torch.Tensor], operands: tuple[torch.Tensor, ...]) -> Callable[[], list[torch.Tensor]]:
    """The product, and the gradients of everything for a gradient of ones."""
    leaves = [operand.detach().requires_grad_() for operand in operands]

    def step() -> list[torch.Tensor]:
        y = way(*leaves)
        return [y.detach(), *torch.autograd.grad(y, leaves, torch.ones_like(y))]

    return step


def apart(device: str, quick: bool, seconds: float) -> list[Row]:
    """The rows, from a process of its own.

    Args:
        device: Where.
        quick: Whether sizes are tiny.
        seconds: How long it may take; what has been measured then counts.

    Returns:
        The rows; the last says so if the process came down.
    """
    if find_spec("triton") is None:
        return [{"part": NAME, "outcome": "left out", "why": "triton is not installed"}]
    call = [sys.executable, "-m", __name__, "--device", device, "--seconds", f"{seconds:.0f}"]
    with subprocess.Popen(
        call + ["--quick"] * quick, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        try:
            text, errors = child.communicate(timeout=seconds + 60)
            why = f"it ended with {child.returncode}: {errors.strip().splitlines()[-1:]}" if child.returncode else ""
        except subprocess.TimeoutExpired:
            child.kill()
            text, why = child.communicate()[0], "it did not end in time"
    rows = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return [*rows, {"part": NAME, "outcome": "failed", "why": why}] if why else rows


def main() -> None:
    """Measures, and prints rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seconds", type=float, default=60.0)
    given = parser.parse_args()
    device = Device(given.device)
    part = Part(NAME, lambda: cases(device, given.quick))
    for row in run([part], Budget(given.seconds)):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
