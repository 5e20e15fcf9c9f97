"""The table of `docs/scale.md`: bytes predicted, and counted on gloo processes and in programs that JAX compiles.

``python tests/communication_page.py --write`` makes it; without --write it says whether the table is fresh.
"""

import json
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

from made_page import with_table, write_or_check

import linops as lo
from linops.sharding import division

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
    "BTT, 3 cores of 8 × 8, 8 × 8, 4 × 4": "lo.btt(256, 256, cores=3, out_dims=(8, 8, 4), in_dims=(8, 8, 4))",
    "BLAST": "lo.blast(256, 256)",
    "Kronecker": "lo.kronecker(256, 256)",
    "tensor train, r = 4": "lo.tensor_train(256, 256, rank=4)",
    "butterfly": "lo.butterfly(256, 256)",
    "block diagonal + low rank": "lo.block_diag(256, 256, blocks=8) + lo.low_rank(256, 256, rank=16)",
}
SHORT = {"all_gather": "gather", "all_reduce": "reduce", "all_to_all": "all-to-all", "reduce_scatter": "scatter"}


def made(words):
    return eval(words, {"lo": lo})


def counted_by_torch():
    """Of each operator, the bytes by collective, on this rank of four."""
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


def counted_in_jax():
    """Of each operator, the bytes by collective in the compiled programs, on four of eight devices."""
    import jax
    from sharded_meshes import collectives  # which takes eight devices: in a process of its own

    mesh = jax.make_mesh((RANKS,), ("model",), (jax.sharding.AxisType.Auto,), devices=jax.devices()[:RANKS])
    where, found = jax.NamedSharding(mesh, jax.P(None, "model")), []
    for words in OPERATORS.values():
        with warnings.catch_warnings(action="ignore"):
            product = lo.nn.sharded(made(words).init(seed=0, backend="jax"), mesh, style="sharded")
        x = jax.device_put(jax.numpy.zeros((VECTORS, SIZE), "float32"), where)

        def pulled(product, x, slope):
            y, pull = jax.vjp(lambda product, x: product(x), product, x)
            return y, pull(slope)

        found.append(collectives(jax.jit(pulled).lower(product, x, x).compile()))
    return found


def told(sent):
    """Bytes by collective, in words."""
    return ", ".join(f"{SHORT[name]} {count:,}" for name, count in sorted(sent.items())) or "nothing"


def table():
    """The table in Markdown."""
    from processes import Processes

    with tempfile.TemporaryDirectory() as folder:
        pools = Processes(Path(folder))
        by_torch, *others = pools(RANKS, counted_by_torch, seconds=120)
        pools.close()
    assert all(other == by_torch for other in others)
    code = "import json, communication_page; print(json.dumps(communication_page.counted_in_jax()))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, check=True, capture_output=True, text=True
    )
    by_jax = json.loads(done.stdout.splitlines()[-1])
    lines = [["operator", "leaves split", "predicted bytes", "torch", "JAX", "of dense"], ["---"] * 5 + ["---:"]]
    dense = lo.nn.communication(lo.dense(SIZE, SIZE), RANKS, VECTORS, style="sharded").total
    for (title, words), torch, jax in zip(OPERATORS.items(), by_torch, by_jax, strict=True):
        wanted = lo.nn.communication(made(words), RANKS, VECTORS, style="sharded")
        axes = division(made(words), RANKS, "sharded", "sharded").axes.values()
        split = sum(axis is not None for axis in axes)
        how = "all" if split == len(axes) else f"{split} of {len(axes)}" if split else "none"
        marks = ["the same" if one == dict(wanted) else told(one) for one in (torch, jax)]
        lines.append([title, how, told(wanted), *marks, f"{wanted.total / dense:.2f}"])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def page():
    """The page with its table as it is to be."""
    return with_table(PAGE.read_text(encoding="utf-8"), BEGIN, END, table())


if __name__ == "__main__":
    write_or_check(PAGE, page(), "python tests/communication_page.py")
