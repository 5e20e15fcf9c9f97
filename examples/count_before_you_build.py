"""Choose a structure for a layer by its cost, before any array exists."""

import linops as lo

OUT, IN, BATCH = 3072, 768, 256

dense = lo.dense(OUT, IN).cost(BATCH)
candidates = {
    "monarch, 16 blocks": lo.monarch(OUT, IN, blocks=16),
    "btt, rank 1": lo.btt(OUT, IN),
    "btt, rank 4": lo.btt(OUT, IN, rank=4),
    "btt, three cores": lo.btt(OUT, IN, cores=3),
    "low rank 64 + block diagonal": lo.low_rank(OUT, IN, rank=64) + lo.block_diag(OUT, IN, blocks=16),
}
print(f"{'structure':30} {'parameters':>12} {'MACs':>14} {'of dense':>9} {'bytes moved':>12}")
for name, operator in candidates.items():
    cost = operator.cost(BATCH)
    moved = cost.bytes_read + cost.bytes_written
    print(f"{name:30} {cost.num_params:>12,} {cost.macs:>14,} {cost.macs / dense.macs:>9.1%} {moved:>12,}")

chosen = candidates["btt, rank 4"]
print()
print(chosen.explain(BATCH))
