"""Structures on eight devices of JAX: what products send is known before, and is what the compiled program sends.

Run: python examples/sharded_jax.py (its eight devices are parts of the CPU)
"""

import os
import re
import warnings
from collections import Counter
from math import prod

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import linops as lo

RANKS, VECTORS, N = 8, 64, 256
# of the bytes that a line of the program shows, the share that a device sends by a ring
SENT = {"all-reduce": 2 * 7 / 8, "all-gather": 7 / 8, "reduce-scatter": 7, "all-to-all": 7 / 8}


def counted(compiled):
    """Bytes that a device sends, by collective, as a compiled program has them."""
    found = Counter()
    for line in compiled.as_text().splitlines():
        match = re.search(r"= (.*?) (all-reduce|all-gather|reduce-scatter|all-to-all)(?:-start)?\(", line)
        if match:
            numbers = sum(prod(map(int, dims.split(","))) for dims in re.findall(r"f32\[([\d,]+)\]", match[1]))
            found[match[2].replace("-", "_")] += round(4 * numbers * SENT[match[2]])
    return dict(found)


def step(product, x, slope):
    """A product, and its gradients."""
    y, pull = jax.vjp(lambda product, x: product(x), product, x)
    return y, pull(slope)


warnings.filterwarnings("ignore", ".* stay whole on each of")  # small factors, as is best for them
mesh = jax.make_mesh((RANKS,), ("model",), axis_types=(AxisType.Auto,))
split = NamedSharding(mesh, PartitionSpec(None, "model"))
x = jax.device_put(np.random.default_rng(0).standard_normal((VECTORS, N)).astype(np.float32), split)

print(f"{'':16}  {'predicted: forward and backward, bytes a device':56}  counted")
for symbolic in (
    lo.dense(N, N),
    lo.low_rank(N, N, rank=8),
    lo.block_diag(N, N, blocks=8),
    lo.monarch(N, N, blocks=8),
    lo.kronecker(N, N),
    lo.btt(N, N),
    lo.btt(N, N, rank=4),
    lo.tensor_train(N, N, rank=4),
):
    A = symbolic.init(seed=0, backend="jax")
    product = lo.nn.sharded(A, mesh, style="sharded")  # each device has its share of the features
    predicted = {name: sent for name, sent in lo.nn.communication(A, RANKS, VECTORS, style="sharded").items() if sent}
    found = counted(jax.jit(step).lower(product, x, x).compile())
    words = ", ".join(f"{name} {sent:,}" for name, sent in predicted.items()) or "nothing"
    print(f"{type(A).__name__:16}  {words:56}  {'the same' if found == predicted else found}")
    assert found == predicted
    assert np.allclose(product(x), np.asarray(x) @ A.to(backend="numpy").T, atol=1e-4)
