"""The table of ``linops compare``."""

from __future__ import annotations

from linops.lab import tables as t
from linops.lab.comparison import Comparison
from linops.lab.folding import Folding


def comparison_table(found: Comparison, threads: int, cpus: int) -> Folding:
    """A row a structure.

    Args:
        found: The comparison.
        threads: That products might use.
        cpus: That the process might use.

    Returns:
        A table for rich.
    """
    columns = ["structure", "params", "MACs", "FLOPs", "share", "forward", "ratio", "fwd+bwd", "ratio", "roofline"]
    rows = [
        (
            row.structure,
            t.short(row.num_params),
            t.short(row.macs),
            t.short(row.flops),
            t.percent(row.share),
            t.duration(row.forward),
            t.times(row.forward_ratio),
            t.duration(row.forward_backward),
            t.times(row.forward_backward_ratio),
            t.percent(row.roofline_share),
        )
        for row in found.rows
    ]
    title = f"{found.out_features}×{found.in_features}, {_of(found.batch, 'vector')}, {found.backend}, {found.dtype}, "
    title += f"{_of(threads, 'thread')} on {_of(cpus, 'CPU')}"
    roof = f"{t.rate(found.roofline.flops_per_second, 'FLOP')}, {t.rate(found.roofline.bytes_per_second, 'B')}"
    caption = (
        "MACs and FLOPs of one vector, share of dense's FLOPs; median times of the batch, ratio to dense; "
        f"{_of(found.rounds, 'round')} in {t.duration(found.seconds)}.\n"
        f"Roofline: share of what this machine allows, measured at {roof}."
    )
    if any(row.roofline_share > 1 for row in found.rows):
        caption += "\nShares over 100 %: other work slowed that measurement down; measure again, or for more --seconds."
    return t.table(title, columns, rows, caption)


def _of(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
