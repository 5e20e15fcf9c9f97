"""BTT forward against the paper's formulation: two bmm with copies into and out of batch-first layout between them."""

from __future__ import annotations

from typing import Any

import torch

import linops as lo
from linops.lab.measure import side_by_side


def paper_formulation(x: torch.Tensor, first: torch.Tensor, second: torch.Tensor, rank: int) -> torch.Tensor:
    """The product as the paper's code runs it, written anew: rows in, rows out, each bmm writing through a transposed view.

    Args:
        x: (batch, n_2 n_1).
        first: (n_2, n_1, m_1 r): x's blocks to m_1 r numbers each.
        second: (m_1, n_2 r, m_2).
        rank: r.

    Returns:
        (batch, m_1 m_2).
    """
    batch, blocks, rows = x.shape[0], first.shape[0], second.shape[0]
    middle = torch.empty(batch, blocks, first.shape[2], dtype=x.dtype).transpose(0, 1)
    torch.bmm(x.reshape(batch, blocks, -1).transpose(0, 1), first, out=middle)
    middle = middle.transpose(0, 1).reshape(batch, blocks, rows, rank).transpose(1, 2)
    middle = middle.reshape(batch, rows, blocks * rank).transpose(0, 1)  # the copy
    out = torch.empty(batch, rows, second.shape[2], dtype=x.dtype).transpose(0, 1)
    torch.bmm(middle, second, out=out)
    return out.transpose(0, 1).reshape(batch, -1)


def case(d: int, rank: int, batch: int, seconds: float) -> dict[str, Any]:
    """One row: a square BTT of balanced dims, checked against the paper's formulation before it is timed.

    Args:
        d: in = out.
        rank: r.
        batch: Number of vectors.
        seconds: About how long to measure.

    Returns:
        Milliseconds, and how many times faster than the paper's formulation features first, and as a layer (rows in and out).
    """
    operator = lo.btt(d, d, rank=rank).init(seed=0, backend="torch")
    m1, n1 = operator.out_dims[0], operator.in_dims[1]
    first = operator.cores[0].reshape(-1, rank, m1, n1).permute(0, 3, 2, 1).reshape(-1, n1, m1 * rank).contiguous()
    second = operator.cores[1].mT.contiguous()
    layer = operator.to_layer(bias=False)
    x = torch.randn(batch, d, generator=torch.Generator().manual_seed(0))
    columns = x.T.contiguous()
    expected = paper_formulation(x, first, second, rank)
    torch.testing.assert_close(layer(x), expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close((operator @ columns).T, expected, rtol=1e-3, atol=1e-4)
    times = side_by_side(
        {
            "paper": lambda: paper_formulation(x, first, second, rank),
            "operator": lambda: operator @ columns,
            "layer": lambda: layer(x),
            "layer, contiguous": lambda: layer(x).contiguous(),
        },
        seconds=seconds,
        rounds=21,
    )
    paper = times["paper"]
    return {
        "d": d,
        "rank": rank,
        "batch": batch,
        "paper_ms": 1e3 * paper.median,
        "operator_ms": 1e3 * times["operator"].median,
        "operator_gflops": operator.flops(batch) / times["operator"].median / 1e9,
        **{f"{name}_speedup": paper.ratio(times[name]) for name in ("operator", "layer", "layer, contiguous")},
    }


def measure(
    sizes: tuple[int, ...] = (1024, 4096), ranks: tuple[int, ...] = (1, 4), batch: int = 256, seconds: float = 6.0
) -> list[dict[str, Any]]:
    """Rows of ratios to the paper's formulation, float32, forward, without gradients.

    Args:
        sizes: d = in = out.
        ranks: r.
        batch: Number of vectors.
        seconds: About how long to measure each case.

    Returns:
        The rows of `case`.
    """
    with torch.inference_mode():
        return [case(d, rank, batch, seconds) for d in sizes for rank in ranks]
