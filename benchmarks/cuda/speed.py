"""Structured layers against `torch.nn.Linear` and the paper's formulation: time, memory, share of the roofline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import torch
from torch import nn

from benchmarks.btt import layer_step
from benchmarks.cuda.device import Device
from benchmarks.cuda.running import Case, Row, short
from benchmarks.paper import paper_of
from linops.families.text import parse
from linops.lab.measure import Function, Roofline, Timing
from linops.lab.products import bytes_moved, needed_flops
from linops.specs import dtype_name

DENSE = "linear"
STRUCTURES = ("btt", "btt:rank=4", "monarch", "low_rank", "kronecker", "butterfly")
#: d = in = out, tokens and dtypes, most important first
SIZES, TOKENS, DTYPES = (4096, 1024, 2048, 8192), (4096, 32768), (torch.bfloat16, torch.float32)
QUICK_SIZES, QUICK_TOKENS = (64,), (8,)


@dataclass(frozen=True)
class Cell:
    """A square size, a number of tokens and a dtype.

    Attributes:
        d: in = out.
        tokens: Rows of the input.
        dtype: Of weights and input.
    """

    d: int
    tokens: int
    dtype: torch.dtype

    @property
    def key(self) -> Row:
        """Columns that name it."""
        return {"d": self.d, "tokens": self.tokens, "dtype": dtype_name(self.dtype)}


@dataclass(frozen=True)
class Candidate:
    """A product with rows.

    Attributes:
        forward: It without gradients.
        training: It with the gradients of the input and of all parameters.
        flops: That it needs.
        moved: Bytes that it must move.
        params: Its parameters.
    """

    forward: Function
    training: Function
    flops: int
    moved: int
    params: int


def cells(quick: bool) -> Iterator[Cell]:
    """What is measured, most important first.

    Args:
        quick: Whether sizes are tiny.

    Yields:
        Cells.
    """
    for tokens in QUICK_TOKENS if quick else TOKENS:
        for dtype in DTYPES:
            for d in QUICK_SIZES if quick else SIZES:
                yield Cell(d, tokens, dtype)


def limits(device: Device, quick: bool, found: dict[str, Roofline]) -> Iterator[Case]:
    """The device's best of each dtype.

    Args:
        device: Where.
        quick: Whether sizes are tiny.
        found: Is filled, by the name of the dtype.

    Yields:
        Cases.
    """
    size, numbers = (64, 1 << 12) if quick else (8192, 1 << 28)

    def measured(dtype: torch.dtype) -> list[Row]:
        limit = device.roofline(dtype, size, numbers, 0.05 if quick else 2.0)
        found[dtype_name(dtype)] = limit
        device.free()
        return [{"tflops": limit.flops_per_second / 1e12, "gbytes_per_second": limit.bytes_per_second / 1e9}]

    for dtype in DTYPES:
        yield Case({"dtype": dtype_name(dtype)}, partial(measured, dtype))


def speed(device: Device, quick: bool, limits: dict[str, Roofline], compiled: bool = False) -> Iterator[Case]:
    """Cells of all structures, in eager mode or compiled.

    Args:
        device: Where.
        quick: Whether sizes are tiny.
        limits: The device's best by dtype.
        compiled: Whether by `torch.compile`; beside them runs `nn.Linear` as it is.

    Yields:
        Cases.
    """
    seconds = 0.02 if quick else 1.0
    for cell in cells(quick):
        yield Case({"compiled": compiled, **cell.key}, partial(_cell, device, cell, limits, compiled, seconds))


def _cell(device: Device, cell: Cell, limits: dict[str, Roofline], compiled: bool, seconds: float) -> list[Row]:
    """A row of each structure, and of the paper's formulation where it has one."""
    generator = torch.Generator(device.kind).manual_seed(0)
    x = torch.randn(cell.tokens, cell.d, generator=generator, device=device.kind, dtype=cell.dtype)
    names = [DENSE, *STRUCTURES, *(f"paper: {name}" for name in STRUCTURES if name.startswith(("btt", "monarch")))]
    if compiled:
        torch._dynamo.reset()
        names = [DENSE, *(f"compiled: {name}" for name in (DENSE, *STRUCTURES))]
    candidates: dict[str, Candidate] = {}
    rows: dict[str, Row] = {}
    for name in names:
        try:
            candidate = _candidate(name, cell, x, device)
            start = perf_counter()
            with torch.no_grad():
                candidate.forward()
            candidate.training()
            device.wait()
            rows[name] = {"structure": name, "first_s": perf_counter() - start, "params": candidate.params}
            with torch.no_grad():
                rows[name]["forward_mib"] = _mib(device.peak(candidate.forward))
            rows[name]["training_mib"] = _mib(device.peak(candidate.training))
            candidates[name] = candidate
        except Exception as error:  # as of memory that is not enough
            rows[name] = {"structure": name, "outcome": "failed", "why": short(error)}
            device.free()
    with torch.no_grad():
        forward = device.times({name: each.forward for name, each in candidates.items()}, seconds)
    training = device.times({name: each.training for name, each in candidates.items()}, seconds)
    limit = limits.get(dtype_name(cell.dtype))
    for name, candidate in candidates.items():
        rows[name] |= _numbers(name, candidate, forward, training, limit)
    del candidates
    device.free()
    return list(rows.values())


def _candidate(name: str, cell: Cell, x: torch.Tensor, device: Device) -> Candidate:
    kind, structure = name.split(": ") if ": " in name else ("", name)
    if structure == DENSE:
        layer: Any = nn.Linear(cell.d, cell.d, bias=False, device=device.kind, dtype=cell.dtype)
        symbolic = parse("dense")(cell.d, cell.d, dtype=dtype_name(cell.dtype))
    else:
        symbolic = parse(structure)(cell.d, cell.d, dtype=dtype_name(cell.dtype))
        operator = symbolic.init(seed=0, backend="torch", dtype=cell.dtype, device=device.kind)
        layer = None if kind == "paper" else operator.to_layer(bias=False)
    flops, moved = needed_flops(symbolic, cell.tokens), bytes_moved(symbolic, cell.tokens)
    if kind == "paper":
        paper = paper_of(operator)
        return Candidate(paper.forward(x), paper.training(x), flops, moved, symbolic.num_params)
    if kind == "compiled":
        compiled: Any = torch.compile  # whose overloads lack the option
        layer = compiled(layer, dynamic=False, isolate_recompiles=True)  # layers share their code
    return Candidate(lambda: layer(x), layer_step(layer, x), flops, moved, symbolic.num_params)


def _numbers(
    name: str, candidate: Candidate, forward: dict[str, Timing], training: dict[str, Timing], limit: Roofline | None
) -> Row:
    """The columns of what was timed."""
    row: Row = {
        "forward_ms": 1e3 * forward[name].median,
        "training_ms": 1e3 * training[name].median,
        "backward_ms": 1e3 * (training[name].median - forward[name].median),
    }
    if limit is not None:
        row["roofline"] = limit.seconds(candidate.flops, candidate.moved) / forward[name].median
        row["training_roofline"] = limit.seconds(3 * candidate.flops, 2 * candidate.moved) / training[name].median
    if DENSE in forward:
        row["speedup"] = forward[DENSE].ratio(forward[name])
        row["training_speedup"] = training[DENSE].ratio(training[name])
    if (paper := f"paper: {name}") in forward:
        row["paper_speedup"] = forward[paper].ratio(forward[name])
        row["paper_training_speedup"] = training[paper].ratio(training[name])
    return row


def _mib(size: int | None) -> float | None:
    return None if size is None else size / 2**20
