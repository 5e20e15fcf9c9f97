"""The table of `docs/scale.md`: bytes predicted, and counted on gloo processes and in programs that JAX compiles.

python tests/communication_page.py --write makes it; without --write it says whether the table is fresh.
"""

import sys
import tempfile
import warnings
from pathlib import Path

from processes import Processes

import linops as lo

PAGE = Path(__file__).parents[1] / "docs" / "scale.md"
BEGIN, END = "<!-- table: python tests/communication_page.py --write -->", "<!-- end of the table -->"
RANKS, SIZE, VECTORS = 4, 256, 1024

#: what the table has, by what makes it
OPERATORS = {
    "dense": "lo.dense(256, 256)",
    "low rank, r = 16": "lo.low_rank(256, 256, rank=16)",
    "block diagonal, 8 blocks": "lo.block_diag(256, 256, blocks=8)",
    "Monarch, 8 blocks": "lo.monarch(256, 256, blocks=8)",
    "BTT, r = 1": "lo.btt(256, 256)",
    "BTT, r = 4": "lo.btt(256, 256, rank=4)",
    "BTT, 3 cores": "lo.btt(256, 256, cores=3)",
    "BLAST": "lo.blast(256, 256)",
    "Kronecker": "lo.kronecker(256, 256)",
    "tensor train, r = 4": "lo.tensor_train(256, 256, rank=4)",
    "butterfly": "lo.butterfly(256, 256)",
    "block diagonal + low rank": "lo.block_diag(256, 256, blocks=8) + lo.low_rank(256, 256, rank=16)",
}


def made(words):
    return eval(words, {"lo": lo})


def counted_by_torch():
    """Of each operator, the bytes by collective, on this rank."""
    import torch
    from torch.distributed.device_mesh import init_device_mesh

    mesh, found = init_device_mesh("cpu", (RANKS,)), []
    for words in OPERATORS.values():
        layer = lo.nn.torch.Linear(made(words), bias=False)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "parallelize_: .* stay whole")
            lo.nn.parallelize_(layer, mesh, style="sharded")
        x = torch.zeros(VECTORS, SIZE // RANKS, requires_grad=True)
        with lo.nn.torch.CommunicationMode() as mode:
            layer(x).sum().backward()
        found.append(dict(mode.counted))
    return found


def split(words):
    """Which leaves are split, in words."""
    from linops.sharding import division

    axes = division(made(words), RANKS, "sharded", "sharded").axes
    own = [name for name, axis in axes.items() if axis is not None]
    return "all leaves" if len(own) == len(axes) else ", ".join(f"`{name}`" for name in own) or "none"


def kib(sent):
    """Bytes by collective, in words."""
    return ", ".join(f"{name.replace('_', '-')} {count / 1024:,.6g}" for name, count in sorted(sent.items())) or "nothing"
