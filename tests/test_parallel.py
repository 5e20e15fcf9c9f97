"""Layers divided among gloo processes compute, train and are saved as one process has them."""

import copy
import warnings

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

import linops as lo

FAMILIES = {
    "dense": lambda m, n: lo.dense(m, n),
    "low_rank": lambda m, n: lo.low_rank(m, n, rank=8),
    "block_diag": lambda m, n: lo.block_diag(m, n, blocks=8),
    "kronecker": lambda m, n: lo.kronecker(m, n),
    "monarch": lambda m, n: lo.monarch(m, n, blocks=4),
    "butterfly": lambda m, n: lo.butterfly(m, n),
    "tensor_train": lambda m, n: lo.tensor_train(m, n, rank=2),
    "btt": lambda m, n: lo.btt(m, n),
    "btt-4": lambda m, n: lo.btt(m, n, rank=4, allow_dearer=True),
    "btt-3-cores": lambda m, n: lo.btt(m, n, cores=3),
    "blast": lambda m, n: lo.blast(m, n),
    "low_rank_block": lambda m, n: lo.low_rank_block(m, n, rank=8),
    "low_rank_sparse": lambda m, n: lo.low_rank_sparse(m, n, rank=8, density=0.1),
    "low_rank_semi_structured": lambda m, n: lo.low_rank_semi_structured(m, n, rank=4, kept=1),
    "sum": lambda m, n: lo.block_diag(m, n, blocks=4) + lo.low_rank(m, n, rank=4),
    "toeplitz": lambda m, n: lo.toeplitz(m, n),
    "permuted": lambda m, n: lo.Permute.random(m, seed=0) @ lo.btt(m, n),
}
#: what goes in and what comes out of each style, by whether features are divided
STYLES = {"whole": (False, False), "colwise": (False, True), "rowwise": (True, False), "sharded": (True, True)}


def share(x, divided):
    """This rank's share of the features."""
    mesh = torch.distributed.get_world_size(), torch.distributed.get_rank()
    return x.chunk(mesh[0], -1)[mesh[1]].clone() if divided else x.clone()


def quietly(model, mesh, **options):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "parallelize_: .* stay whole")
        return lo.nn.parallelize_(model, mesh, **options)


def layer_of(family, m, n, seed=0, **options):
    torch.manual_seed(seed)
    return lo.nn.torch.Linear(FAMILIES[family](m, n), dtype=torch.float64, **options)


def full(tensor):
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def same_as_one(family, style, m, n, options):
    """Forward, gradients and three steps of AdamW against the layer undivided; predicted bytes against counted."""
    into, out = STYLES[style]
    mesh = init_device_mesh("cpu", (torch.distributed.get_world_size(),))
    one = layer_of(family, m, n, **options)
    layer = copy.deepcopy(one)
    divided = quietly(layer, mesh, style=style)
    torch.manual_seed(1)
    optimizers = [torch.optim.AdamW(lo.nn.param_groups(model, lr=0.01), foreach=False) for model in (one, layer)]
    for _ in range(3):
        x, target = torch.randn(2, 3, n, dtype=torch.float64), torch.randn(2, 3, m, dtype=torch.float64)
        whole = x.clone().requires_grad_()
        y = one(whole)
        (y * target).sum().backward()
        own = share(x, into).requires_grad_()
        with lo.nn.torch.CommunicationMode() as mode:
            z = layer(own)
            (z * share(target, out)).sum().backward()
        torch.testing.assert_close(z, share(y, out))
        torch.testing.assert_close(own.grad, share(whole.grad, into))
        for name, parameter in one.named_parameters():
            torch.testing.assert_close(full(layer.get_parameter(name).grad), parameter.grad)
        if not options.get("weight_norm"):
            assert dict(mode.counted) == dict(divided.communication(6)), (family, style)
            assert divided.communication(6) == lo.nn.communication(one.structure.operator, mesh, 6, style=style)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    for name, parameter in one.named_parameters():
        torch.testing.assert_close(full(layer.get_parameter(name)), parameter)
    return divided[0].division.is_split


def all_are_as_one(cases):
    return [same_as_one(*case) for case in cases]


#: every family, with each style at least once
SAMPLE = [(family, list(STYLES)[number % 4], 32, 64, {}) for number, family in enumerate(FAMILIES)]
SAMPLE += [("btt", style, 64, 32, {}) for style in STYLES] + [("btt", "sharded", 64, 64, {"weight_norm": True})]


@pytest.mark.parametrize("ranks", [2, pytest.param(4, marks=pytest.mark.full)])
def test_divided_layers_are_as_one(processes, ranks):
    for split in processes(ranks, all_are_as_one, SAMPLE):
        assert sum(split) >= 12


@pytest.mark.full
@pytest.mark.parametrize("ranks", [2, 3, 4])
@pytest.mark.parametrize("family", FAMILIES)
def test_divided_layers_are_as_one_in_every_style(processes, ranks, family):
    sizes = [(48, 96), (96, 48), (48, 48)] if ranks == 3 else [(32, 64), (64, 32), (64, 64)]
    cases = [(family, style, *size, options) for style in STYLES for size in sizes for options in ({}, {"bias": False})]
    processes(ranks, all_are_as_one, cases, seconds=240)


# ---------------------------------------------------------------- models


def mlp(width=32, middle=lambda: lo.btt(64, 64), bias=True):
    torch.manual_seed(0)
    return nn.Sequential(
        lo.nn.torch.Linear(lo.btt(64, width), bias=bias),
        nn.GELU(),
        lo.nn.torch.Linear(middle(), bias=bias),
        nn.ReLU(),
        nn.Linear(64, 16, bias=bias),
        nn.LayerNorm(16),
        lo.nn.torch.Linear(lo.low_rank(8, 16, rank=4), bias=bias),
    ).double()


def chains():
    """A Sequential keeps features divided between its layers, and trains as one process does, norms clipped."""
    mesh = init_device_mesh("cpu", (2,))
    one, model = mlp(), mlp()
    expected = lo.nn.communication(model, 2, batch=5)
    divided = quietly(model, mesh)
    styles = {row.name: row.style for row in divided}
    optimizers = [torch.optim.AdamW(lo.nn.param_groups(m, lr=0.01, weight_decay=0.1)) for m in (one, model)]
    torch.manual_seed(1)
    for _ in range(3):
        x = torch.randn(5, 32, dtype=torch.float64, requires_grad=True)
        with lo.nn.torch.CommunicationMode() as mode:
            loss = model(x).square().mean()
            loss.backward()
        assert dict(mode.counted) == dict(expected) == dict(divided.communication(5))
        assert lo.nn.communication(model, 2, batch=5) == expected
        other = one(x).square().mean()
        other.backward()
        torch.testing.assert_close(loss, other)
        norms = [lo.nn.clip_grad_norm_(m.parameters(), 0.01) for m in (model, one)]
        torch.testing.assert_close(*norms)
        torch.testing.assert_close(full(model[0].cores_0.grad), one[0].cores_0.grad)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    for name, parameter in one.named_parameters():
        torch.testing.assert_close(full(model.get_parameter(name)), parameter)
    torch.testing.assert_close(model[0].to_dense().weight, one[0].to_dense().weight)
    return styles, str(divided)


def test_models_stay_divided_between_layers(processes):
    for styles, text in processes(2, chains):
        assert styles == {"0": "colwise", "2": "sharded", "4": "rowwise", "6": "whole"}
        assert "4 layers, 2 ranks" in text
        assert max(map(len, text.splitlines())) <= 80


def errors():
    mesh, said = init_device_mesh("cpu", (2,)), []
    fused = nn.ModuleDict({"qkv": nn.Linear(32, 96), "odd": lo.nn.torch.Linear(lo.dense(7, 9))})
    lo.nn.replace_linear_(fused, "btt", where="qkv", parts={"qkv": 3})
    two = init_device_mesh("cpu", (2, 1), mesh_dim_names=("data", "model"))
    done = mlp()
    quietly(done, mesh)
    shared = nn.Sequential(*[lo.nn.torch.Linear(lo.dense(8, 8)) for _ in range(2)])
    shared[1].matrix = shared[0].matrix
    for model, arguments in [
        (mlp(), (mesh, None, "columns")),
        (mlp(), ("cpu",)),
        (mlp(), (mesh, "model")),
        (mlp(), (two,)),
        (done, (mesh,)),
        (fused, (mesh, None, {"qkv.*": "colwise"})),
        (fused, (mesh, None, {"odd": "rowwise"})),
        (shared, (mesh, None, {"0": "colwise", "1": "rowwise"})),
        ([mlp()], (mesh,)),
    ]:
        style = {"style": arguments[2]} if len(arguments) > 2 else {}
        try:
            lo.nn.parallelize_(model, *arguments[:2], **style)
        except (TypeError, ValueError) as error:
            said.append(f"{type(error).__name__}: {error}")
        else:
            said.append("nothing")
    return said


def test_errors_come_before_anything_is_changed(processes):
    expected = [
        "ValueError: style 'columns': expected one of whole, colwise, rowwise, sharded",
        "TypeError: parallelize_: expected a torch DeviceMesh, got str; see init_device_mesh",
        "ValueError: parallelize_(axis='model'): the mesh has the axes ()",
        "ValueError: parallelize_: the mesh has the axes ('data', 'model'); name the one to divide over by axis=",
        "ValueError: parallelize_: layer '0' is divided or sharded already; divide it once, and before FSDP",
        "ValueError: parallelize_: layer 'qkv.0', style 'colwise': it is one of the parts of a fused projection",
        "ValueError: layer 'odd', style 'rowwise': Dense(7×9, float32, symbolic): 9 in_features cannot be shared",
        "ValueError: parallelize_: '0' and '1' share the parameter 'matrix', and their styles divide it in two ways",
        "TypeError: lo.nn.parallelize_(list)",
    ]
    for said in processes(2, errors):
        for one, start in zip(said, expected, strict=True):
            assert one.startswith(start), one


def warned():
    mesh = init_device_mesh("cpu", (2,))
    model = nn.Sequential(lo.nn.torch.Linear(lo.toeplitz(8, 8)), nn.ReLU(), lo.nn.torch.Linear(lo.dense(8, 8)))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        lo.nn.parallelize_(model, mesh, style={"0": "whole", "nothing.*": "colwise"})
    return [str(one.message) for one in caught]


def test_what_stays_whole_is_said(processes):
    for said in processes(2, warned):
        assert said[0].startswith("parallelize_: the pattern 'nothing.*' matches no layer for 'colwise'")
        assert said[1].startswith("parallelize_: '0' stay whole on each of 2 ranks")


# ---------------------------------------------------------------- on top of it


def steps(model, optimizer, data=None, count=3):
    """The losses of a few steps; with a mesh axis of data, on this rank's share of the batch, averaged."""
    torch.manual_seed(1)
    losses = []
    for _ in range(count):
        x = torch.randn(8, 32, dtype=torch.float64)
        loss = model(x if data is None else x.chunk(data.size())[data.get_local_rank()]).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        loss = loss.detach()
        if data is not None:
            torch.distributed.all_reduce(loss, group=data.get_group())
            loss /= data.size()
        losses.append(loss.item())
    return losses


def data_and_structure():
    """FSDP2 over one axis of a mesh, structure over the other; saved, and loaded on one process."""
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "model"))
    one, model = mlp(), mlp()
    quietly(model, mesh, axis="model")
    for layer in (model[0], model[2], model):
        fully_shard(layer, mesh=mesh["data"])
    optimizers = [torch.optim.AdamW(lo.nn.param_groups(m, lr=0.01)) for m in (one, model)]
    alone, together = steps(one, optimizers[0]), steps(model, optimizers[1], mesh["data"])
    np.testing.assert_allclose(together, alone, rtol=1e-12)
    whole = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
    assert list(whole) == list(one.state_dict())
    for name, value in one.state_dict().items():
        torch.testing.assert_close(whole[name], value)


@pytest.mark.full
def test_data_times_structure(processes):
    processes(4, data_and_structure)


def compiled():
    mesh = init_device_mesh("cpu", (2,))
    one, model = mlp(), mlp()
    quietly(model, mesh)
    x = torch.randn(5, 32, dtype=torch.float64)
    torch.testing.assert_close(torch.compile(model, backend="aot_eager", fullgraph=True)(x), one(x))
    wrapped = checkpoint_wrapper(model)
    wrapped(x).sum().backward()
    one(x).sum().backward()
    torch.testing.assert_close(full(model[0].cores_0.grad), one[0].cores_0.grad)
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(model.float()(x.float()), one.float()(x.float()), rtol=0.05, atol=0.05)


@pytest.mark.full
def test_compiled_recomputed_and_in_bfloat16(processes):
    processes(2, compiled, seconds=240)


def saved(folder):
    mesh = init_device_mesh("cpu", (torch.distributed.get_world_size(),))
    model = mlp()
    quietly(model, mesh)
    optimizer = torch.optim.AdamW(lo.nn.param_groups(model, lr=0.01))
    steps(model, optimizer)
    state = dict(zip(("model", "optimizer"), get_state_dict(model, optimizer)))
    dcp.save(state, checkpoint_id=folder)
    return {name: full(value).clone().numpy() for name, value in model.state_dict().items()}, steps(model, optimizer)


def loaded(folder):
    mesh = init_device_mesh("cpu", (torch.distributed.get_world_size(),))
    model = mlp()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.1)
    quietly(model, mesh, style="whole")
    optimizer = torch.optim.AdamW(lo.nn.param_groups(model, lr=0.01))
    model_state, optimizer_state = get_state_dict(model, optimizer)
    state = {"model": model_state, "optimizer": optimizer_state}
    dcp.load(state, checkpoint_id=folder)
    set_state_dict(model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])
    return {name: full(value).clone().numpy() for name, value in model.state_dict().items()}, steps(model, optimizer)


@pytest.mark.full
def test_saved_on_two_loaded_on_others(processes, tmp_path):
    """What two ranks saved is what one, three and four load, bit for bit, and trains on as it did."""
    (values, losses), _ = processes(2, saved, tmp_path / "checkpoint")
    for ranks in (1, 3, 4):
        for others, later in processes(ranks, loaded, tmp_path / "checkpoint"):
            for name, value in values.items():
                np.testing.assert_array_equal(others[name], value)
            np.testing.assert_allclose(later, losses, rtol=1e-12)
