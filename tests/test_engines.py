"""Structured layers under DistributedDataParallel and FSDP2: what two and four processes compute is what one does."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from sharded_models import NAMES, WAYS, Model, gradients, inputs, loss_of, optimizer_of, same_as_one, share, wrapped
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.distributed.tensor.debug import CommDebugMode
from torch.utils.checkpoint import checkpoint

full = pytest.mark.full
#: what runs by default: weights of one axis, of two and of three, a transform, index arrays
FEW = ("low_rank", "btt_rank", "circulant", "permuted_product", "chain")
BY_DEFAULT = ("ddp", "fsdp_placed", "fsdp_bf16")


@pytest.mark.full
@pytest.mark.parametrize("way", BY_DEFAULT)
def test_steps_of_adamw_are_those_of_one_process(processes, way):
    processes(2, same_as_one, FEW, way, "adamw", 2)


@full
@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["adamw", "muon", "renormalized"])
def test_three_steps_of_every_structure_are_those_of_one_process(processes, kind, way, ranks):
    processes(ranks, same_as_one, NAMES, way, kind, seconds=300)


# ---------------------------------------------------------------- Muon


def muon_of_a_product(axis, other):
    """A matrix cut along two axes of a mesh: Muon's step, and the gathers of it."""
    mesh = init_device_mesh("cpu", (2, dist.get_world_size() // 2), mesh_dim_names=("data", "tensor"))
    torch.manual_seed(0)
    weight, gradient = torch.randn(2, 12, 8, dtype=torch.float64)
    layers = [torch.nn.Linear(8, 12, bias=False, dtype=torch.float64) for _ in range(2)]
    layers[0].weight = torch.nn.Parameter(weight.clone())
    layers[1].weight = torch.nn.Parameter(distribute_tensor(weight, mesh["tensor"], [Shard(axis)]))
    fully_shard(layers[1], mesh=mesh["data"], shard_placement_fn=lambda _: Shard(other))
    cut = layers[1].weight
    layers[0].weight.grad = gradient
    cut.grad = distribute_tensor(gradient, mesh, cut.placements, src_data_rank=None)
    for layer in layers:
        optimizer = optimizer_of(layer, "muon")
        with CommDebugMode() as counted:
            optimizer.step()
    torch.testing.assert_close(cut.full_tensor(), layers[0].weight, rtol=1e-10, atol=1e-12)
    return sum(counted.get_comm_counts().values())


@full
@pytest.mark.parametrize(("axis", "other"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_muon_gathers_a_matrix_that_is_cut_twice(processes, axis, other):
    assert processes(4, muon_of_a_product, axis, other) == [2] * 4  # one over each axis of the mesh


def gathers_of_muon():
    model = wrapped(Model(["btt_rank"]), "fsdp")
    optimizer = optimizer_of(model, "muon")
    loss_of(model, share(inputs(model))).backward()
    with CommDebugMode() as counted:
        optimizer.step()
    return sum(counted.get_comm_counts().values())


def test_muon_gathers_cut_matrices_and_no_blocks(processes):
    assert processes(2, gathers_of_muon) == [2, 2]  # of the two dense layers; cores are cut between blocks


# ---------------------------------------------------------------- recomputation and compilation


class Recomputed(Model):
    """Whose branches are computed again in the backward pass."""

    def forward(self, x):
        parts = x.split([branch[0].in_features for branch in self.branches.values()], dim=-1)
        branches = zip(self.branches.values(), parts)
        return torch.cat([checkpoint(branch, part, use_reentrant=False) for branch, part in branches], dim=-1)


def same_when(change, way):
    """Assert that losses and gradients stay as they are when the model is changed."""
    models = [Model(FEW), (Recomputed if change == "checkpoint" else Model)(FEW)]
    if change == "checkpoint_wrapper":
        for name, branch in models[1].branches.items():
            models[1].branches[name] = checkpoint_wrapper(branch)
    models = [wrapped(model, way) for model in models]
    if "compile" in change or change == "inductor":
        warnings.simplefilter("ignore")  # of torch's own code, which reads grad of FSDP2's parameters
    if change == "compile_layers":
        for branch in getattr(models[1], "module", models[1]).branches.values():
            branch.compile(backend="aot_eager")
    if change in ("compile", "inductor"):
        models[1] = torch.compile(models[1], backend="aot_eager" if change == "compile" else "inductor")
    x = share(inputs(Model(FEW)))
    losses = [loss_of(model, x) for model in models]
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-12, atol=1e-12)
    for loss in losses:
        loss.backward()
    for (_, one), (_, other) in zip(*map(gradients, models), strict=True):
        one, other = (each.to_local() if isinstance(each, DTensor) else each for each in (one, other))
        torch.testing.assert_close(other, one, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("way", ["fsdp_placed", pytest.param("ddp", marks=full), pytest.param("fsdp_kept", marks=full)])
@pytest.mark.parametrize(
    "change",
    [
        "checkpoint",
        "checkpoint_wrapper",
        pytest.param("compile_layers", marks=full),
        pytest.param("compile", marks=full),
        pytest.param("inductor", marks=full),
    ],
)
def test_recomputed_and_compiled_layers_are_the_same(processes, change, way):
    processes(2, same_when, change, way, seconds=300)


@full
def test_the_example_prints_the_same_on_two_processes():
    script = str(Path(__file__).parents[1] / "examples" / "fsdp.py")
    environment = {
        name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    }
    printed = [
        subprocess.run(
            [sys.executable, *launcher, script],
            check=True,
            capture_output=True,
            text=True,
            env=environment | {"OMP_NUM_THREADS": "1"},
            timeout=300,
        ).stdout
        for launcher in ([], ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"])
    ]
    assert printed[0] == printed[1]
    assert "step 60: loss 0." in printed[0]
