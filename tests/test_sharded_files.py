"""What FSDP2 shards: who holds what, checkpoints of other numbers of processes, `lo.nn.save`, and bytes moved."""

import math
from functools import partial

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from sharded_models import Branch, Model, assert_same, inputs, loss_of, optimizer_of, share, wrapped
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
    set_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Shard
from torch.utils._python_dispatch import TorchDispatchMode

import linops as lo

full = pytest.mark.full
FEW = ("low_rank", "btt_rank", "monarch_padded", "permuted_product")
TRAINED = ("btt_rank", "permuted_product")


# ---------------------------------------------------------------- placement


@pytest.mark.parametrize(
    ("shape", "ranks", "axis"),
    [
        ((8, 3, 5), 4, 0),
        ((2, 8, 5), 4, 1),  # fewer blocks than ranks
        ((2, 3, 12), 4, 2),
        ((6, 3, 4), 4, 2),  # two ranks with two blocks, one with none
        ((2, 3, 5), 4, 0),  # nothing divides
        ((50257, 768), 8, 0),  # a row more for some
        ((16,), 3, 0),
        ((0, 4), 2, 0),
        ((3, 0, 4), 2, 2),
    ],
)
def test_an_axis_that_ranks_divide_is_cut(shape, ranks, axis):
    assert lo.nn.torch.shard_placement(torch.empty(shape, device="meta"), ranks) == Shard(axis)


def test_a_scalar_is_fsdp2s_to_refuse():
    assert lo.nn.torch.shard_placement(torch.ones(()), 2) is None


def held(place):
    """How many numbers of structured factors a rank holds."""
    layer = lo.nn.torch.Linear(lo.monarch(64, 64, blocks=2), bias=False)
    fully_shard(layer, mesh=init_device_mesh("cpu", (dist.get_world_size(),)), shard_placement_fn=place)
    y = layer(torch.ones(3, 64))
    y.sum().backward()
    return sum(parameter.to_local().numel() for parameter in layer.parameters())


def test_ranks_hold_as_much_as_each_other(processes):
    assert processes(4, held, None) == [2048, 2048, 0, 0]
    assert processes(4, held, lo.nn.torch.shard_placement) == [1024] * 4
    assert processes(4, held, partial(lo.nn.torch.shard_placement, ranks=2)) == [2048, 2048, 0, 0]


# ---------------------------------------------------------------- torch.distributed.checkpoint


def trained(kind, way="fsdp_placed"):
    """A model after two steps, and its optimiser."""
    model = wrapped(Model(TRAINED, torch.float32), way)
    optimizer = optimizer_of(model, kind)
    for _ in range(2):
        loss_of(model, share(inputs(model))).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


def fresh(kind, way):
    model = wrapped(Model(TRAINED, torch.float32), way)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    return model, optimizer_of(model, kind)


def digest(model, optimizer):
    """All numbers of model and optimiser, whole, as bytes by name."""
    states = get_state_dict(model, optimizer, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if dist.get_rank():
        return None
    tensors = {name: tensor.numpy().tobytes() for name, tensor in states[0].items()}
    for name, state in states[1]["state"].items():
        tensors |= {f"{name} {key}": np.asarray(value).tobytes() for key, value in state.items()}
    groups = states[1]["param_groups"]
    rates = sorted((name, group["lr"], group["weight_decay"]) for group in groups for name in group["params"])
    return tensors, rates


def write(folder, kind):
    model, optimizer = trained(kind)
    states = dict(zip(("model", "optimizer"), get_state_dict(model, optimizer)))
    dcp.save(states, checkpoint_id=folder)
    return digest(model, optimizer)


def read(folder, kind, way):
    model, optimizer = fresh(kind, way)
    states = dict(zip(("model", "optimizer"), get_state_dict(model, optimizer)))
    dcp.load(states, checkpoint_id=folder)
    set_state_dict(model, optimizer, model_state_dict=states["model"], optim_state_dict=states["optimizer"])
    return digest(model, optimizer)


EACH = ((1, "fsdp"), (3, "fsdp"), (4, "fsdp_placed"))


@pytest.mark.parametrize(
    ("kind", "readers"),
    [
        pytest.param("adamw", EACH[1:2], marks=full),
        pytest.param("adamw", EACH, marks=full),
        pytest.param("muon", EACH, marks=full),
    ],
    ids=("adamw on 3", "adamw on each", "muon on each"),
)
def test_a_checkpoint_of_two_is_one_of_any_number(processes, tmp_path, kind, readers):
    saved, _ = processes(2, write, tmp_path, kind)
    assert len(saved[0]) > 30
    for ranks, way in readers:
        assert processes(ranks, read, tmp_path, kind, way)[0] == saved


def handed_over(kind):
    """Full state dicts, which the first rank has, into a model that is cut otherwise."""
    model, optimizer = trained(kind)
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    states = get_state_dict(model, optimizer, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    other, another = fresh(kind, "fsdp_kept")
    # both at once hang in torch 2.13, as the other ranks have no state
    set_model_state_dict(other, states[0], options=options)
    set_optimizer_state_dict(other, another, states[1], options=options)
    return digest(model, optimizer) == digest(other, another)


@full
@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_full_state_dicts_go_from_model_to_model(processes, kind):
    assert processes(2, handed_over, kind) == [True, True]


# ---------------------------------------------------------------- lo.nn.save and lo.nn.load


def save(path, way):
    model = wrapped(Model(FEW), way)
    model.branches["low_rank"][0].U.data.mul_(2)
    lo.nn.save(model, path)
    return path.exists()  # on every rank, once any has returned


def load(path, way):
    model = wrapped(Model(FEW), way)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    lo.nn.load(model, path)
    wanted = Model(FEW)
    wanted.branches["low_rank"][0].U.data.mul_(2)
    assert_same(model.named_parameters(), wanted.named_parameters(), rtol=0, atol=0)


@pytest.mark.parametrize("way", ["fsdp_placed", pytest.param("hybrid", marks=full), pytest.param("fsdp", marks=full)])
def test_the_first_rank_writes_what_one_process_does(processes, tmp_path, way):
    ranks = 4 if way == "hybrid" else 2
    assert processes(ranks, save, tmp_path / "cut.safetensors", way) == [True] * ranks
    model = Model(FEW)
    model.branches["low_rank"][0].U.data.mul_(2)
    lo.nn.save(model, tmp_path / "whole.safetensors")
    assert (tmp_path / "cut.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    processes(ranks, load, tmp_path / "cut.safetensors", way)


def save_on_both(path):
    model = wrapped(Model(FEW), "fsdp")
    try:
        lo.nn.save(model, path)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def test_where_the_first_rank_cannot_write_all_raise(processes, tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("mine")
    first, second = processes(2, save_on_both, path)
    assert first.startswith("FileExistsError")
    assert second.startswith("RuntimeError: lo.nn.save(")
    assert "another rank could not" in second
    assert path.read_text() == "mine"


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.one, self.other = (lo.nn.torch.Linear(lo.btt(16, 16, rank=2), bias=False) for _ in range(2))
        for name in self.one._names:
            self.other.register_parameter(name, getattr(self.one, name))

    def forward(self, x):
        return self.other(torch.tanh(self.one(x)))


def save_tied(path):
    lo.nn.save(fully_shard(Tied(), mesh=init_device_mesh("cpu", (dist.get_world_size(),))), path)


def test_what_is_tied_is_written_once(processes, tmp_path):
    processes(2, save_tied, tmp_path / "cut.safetensors")
    lo.nn.save(Tied(), tmp_path / "whole.safetensors")
    assert (tmp_path / "cut.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()


def from_meta(path):
    """A model built without numbers, sharded, and drawn or loaded where it lies."""
    drawn = []
    for build in (lambda model: None, lambda model: lo.nn.load(model, path)):
        with torch.device("meta"):
            model = nn.Sequential(*(lo.nn.torch.Linear(lo.Permute.random(16, 0) @ lo.btt(16, 16)) for _ in range(2)))
        mesh = init_device_mesh("cpu", (dist.get_world_size(),))
        for layer in model:
            fully_shard(layer, mesh=mesh, shard_placement_fn=lo.nn.torch.shard_placement)
        fully_shard(model, mesh=mesh)
        model.to_empty(device="cpu")
        build(model)
        if not drawn:
            torch.manual_seed(3)
            for layer in model:
                layer.reset_parameters()
        drawn.append(model(torch.linspace(-1, 1, 32).reshape(2, 16)).detach().numpy())
    return drawn


def test_models_without_numbers_are_drawn_as_one_process_draws_and_loaded(processes, tmp_path):
    torch.manual_seed(3)
    model = nn.Sequential(*(lo.nn.torch.Linear(lo.Permute.random(16, 0) @ lo.btt(16, 16)) for _ in range(2)))
    torch.manual_seed(3)
    for layer in model:
        layer.reset_parameters()
    lo.nn.save(model, tmp_path / "model.safetensors")
    y = model(torch.linspace(-1, 1, 32).reshape(2, 16)).detach().numpy()
    for drawn, loaded in processes(2, from_meta, tmp_path / "model.safetensors"):
        np.testing.assert_allclose(drawn, y, rtol=1e-6)
        np.testing.assert_allclose(loaded, y, rtol=1e-6)


def refused():
    """What is said where a sharded layer is to be another."""
    model = wrapped(Model(["btt_rank"]), "fsdp")
    said = []
    for change in (lo.nn.freeze_, lo.nn.to_dense_, lambda model: model.branches["btt_rank"][3].fold_()):
        with pytest.raises(ValueError, match="is sharded") as error:
            change(model)
        said.append(str(error.value))
    return said


def test_sharded_layers_stay_what_they_are(processes):
    said = processes(2, refused)[0]
    assert said[0].startswith("layer 'branches.btt_rank.0': its 'cores_0' is sharded; do it before, or")
    assert said[2].startswith("fold_: its 'cores_0' is sharded")


# ---------------------------------------------------------------- bytes


class Bytes(TorchDispatchMode):
    """What a rank sends and receives by ring collectives of FSDP2."""

    def __init__(self):
        super().__init__()
        self.moved = dict.fromkeys(("gathered", "scattered"), 0)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        ranks = dist.get_world_size()
        name = str(func)
        if "allgather_base" in name or "all_gather_into_tensor" in name:
            self.moved["gathered"] += args[0].nbytes * (ranks - 1) // ranks
        elif "reduce_scatter_base" in name or "reduce_scatter_tensor" in name:
            self.moved["scattered"] += args[1].nbytes * (ranks - 1) // ranks
        return func(*args, **(kwargs or {}))


def moved(way):
    model = wrapped(Model(["btt_rank"], torch.float32), way)
    x = share(inputs(model))
    with Bytes() as counted:
        loss_of(model, x).backward()
    return counted.moved


@pytest.mark.parametrize("way", ["fsdp_placed", pytest.param("fsdp_kept", marks=full)])
@pytest.mark.parametrize("ranks", [pytest.param(2, marks=full), 4])
def test_fsdp2_moves_the_parameters_three_times(processes, way, ranks):
    size = sum(parameter.numel() for parameter in Branch("btt_rank", torch.float32).parameters())
    counted = processes(ranks, moved, way)[0]
    once = (ranks - 1) / ranks * 4 * size
    gathers = 1 if way == "fsdp_kept" else 2
    assert math.isclose(counted["gathered"], gathers * once, rel_tol=0.01)
    assert math.isclose(counted["scattered"], once, rel_tol=0.01)
