"""The table of ``linops compare``."""

from __future__ import annotations

from linops.lab import tables as t
from linops.lab.comparison import Comparison
from linops.lab.folding import Folding


def comparison_table(found: Comparison, threads: int | str, cpus: int) -> Folding:
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
    vectors = f"{found.batch} vector{'' if found.batch == 1 else 's'}"
    title = f"{found.out_features}×{found.in_features}, {vectors}, {found.backend}, {found.dtype}, "
    title += f"{cpus} CPUs, threads: {threads}"
    roof = f"{t.rate(found.roofline.flops_per_second, 'FLOP')}, {t.rate(found.roofline.bytes_per_second, 'B')}"
    rounds = f"{found.rounds} round{'' if found.rounds == 1 else 's'} in {t.duration(found.seconds)}"
    caption = (
        f"MACs and FLOPs of one vector, share of dense's FLOPs; median times of the batch, ratio to dense; {rounds}.\n"
        f"Roofline: share of what this machine allows, measured at {roof}."
    )
    if any(row.roofline_share > 1 for row in found.rows):
        caption += "\nShares over 100 %: other work slowed that measurement down; measure again, or for more --seconds."
    return t.table(title, columns, rows, caption)
