"""Layers divided among gloo processes compute, train and are saved as one process has them."""

import copy
import warnings

import pytest
import torch
from torch.distributed.device_mesh import init_device_mesh
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
    for step in range(3):
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
