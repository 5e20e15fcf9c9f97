"""Low rank: sums are of low rank too."""

from __future__ import annotations

from linops import backends
from linops.operators.low_rank import LowRank
from linops.rules.functions import join


@join.dispatch
def _join_low_ranks(a: LowRank, b: LowRank):
    # U V + W Z = [U W] [V; Z]: as many MACs, and no addition
    columns = backends.concatenate(backends.permute(a.U, (1, 0)), [backends.permute(b.U, (1, 0))])
    return LowRank(backends.permute(columns, (1, 0)), backends.concatenate(a.V, [b.V]))
