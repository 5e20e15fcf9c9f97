"""Muon's groups as they are by default: which steps keep their size, and which layers keep static rates."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.nn.utils import prune

import linops as lo
from linops.nn.torch.muon import Muon

STRUCTURED = {
    "btt": lambda: lo.btt(16, 16).to_layer(),
    "low rank": lambda: lo.low_rank(16, 16, rank=4).to_layer(),
    "butterfly": lambda: lo.butterfly(16, 16).to_layer(),
    "sum": lambda: (lo.low_rank(16, 16, rank=2) + lo.dense(16, 16)).to_layer(),
}


def grown(layer):
    """The layer, with larger factors than are drawn."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(3)
    return layer


def after(make, steps=3, **options):
    """The parameters of a model after some steps, and its optimiser."""
    model = make() if not isinstance(make, nn.Module) else copy.deepcopy(make)
    optimizer = Muon(lo.nn.param_groups(model, 0.05, optimizer="muon", **options))
    dtype = next(model.parameters()).dtype
    x = torch.randn(8, 16, dtype=dtype, generator=torch.Generator().manual_seed(0))
    for _ in range(steps):
        optimizer.zero_grad()
        model(x).abs().square().mean().backward()
        optimizer.step()
    return [parameter.detach() for parameter in model.parameters()], optimizer


def are_equal(one, other):
    return all(map(torch.equal, one[0], other[0]))


@pytest.mark.parametrize("name", STRUCTURED)
@pytest.mark.parametrize("freeze", [False, True])
def test_layers_that_muon_steps_are_renormalised_with_frozen_leaves_too(name, freeze):
    torch.manual_seed(0)
    model = nn.Sequential(grown(STRUCTURED[name]()), nn.Tanh(), nn.Linear(16, 4))
    if freeze:
        next(model.parameters()).requires_grad_(False)
    assert are_equal(after(model), after(model, renormalize=True))
    assert not are_equal(after(model), after(model, renormalize=False))


def test_layers_left_to_adamw_have_static_rates_unless_it_is_asked_for():
    torch.manual_seed(0)
    for model, options in ((grown(lo.btt(16, 16).to_layer()), {"adamw": ""}), (lo.circulant(16, 16).to_layer(), {})):
        assert are_equal(after(model, **options), after(model, renormalize=False, **options))
        groups = lo.nn.param_groups(model, 0.05, optimizer="muon", **options)
        assert not any("partners" in group for group in groups)
    model = grown(lo.btt(16, 16).to_layer())
    assert not are_equal(after(model, adamw=""), after(model, adamw="", renormalize=True))


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "lion", "sgd"])
def test_it_is_for_muon_alone(optimizer):
    layer = lo.btt(16, 16).to_layer()
    groups = lo.nn.param_groups(layer, 0.05, optimizer=optimizer)
    assert groups == lo.nn.param_groups(layer, 0.05, optimizer=optimizer, renormalize=False)


def swapped(target):
    model = nn.Sequential(nn.Linear(16, 16))
    lo.nn.replace_linear_(model, target)
    return model


def pruned():
    layer = grown(lo.btt(16, 16).to_layer())
    prune.random_unstructured(layer, "cores_0", 0.5)
    return layer


UNMEASURED = {
    "dense": lambda: nn.Linear(16, 4),
    "one leaf": lambda: lo.block_diag(16, 16, blocks=2).to_layer(),
    "weight normalisation": lambda: lo.nn.torch.Linear(lo.btt(16, 16), weight_norm=True),
    "pruned": pruned,
    "chain": lambda: swapped("chain"),
    "mixture": lambda: swapped("btt_mixture:allow_dearer=1"),
    "rank zero": lambda: (lo.Dense(lo.spec(16, 0)) @ lo.Dense(lo.spec(0, 16))).to_layer(),
}


@pytest.mark.parametrize("name", UNMEASURED)
def test_what_cannot_be_measured_keeps_static_rates(name):
    def model():
        torch.manual_seed(0)
        return UNMEASURED[name]() if name == "pruned" else grown(UNMEASURED[name]())

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*runs again before")  # a mixture's balance loss is of no matter here
        found, static = after(model), after(model, renormalize=False)
    assert are_equal(found, static)
    kept = {key for state in found[1].state.values() for key in state}
    assert not any(key in kept for key in ("layer_vectors", "layer_share"))


def test_complex_layers_move_as_far_as_real_ones():
    torch.manual_seed(0)
    layer = grown(lo.nn.torch.Linear(lo.btt(16, 16), bias=False, dtype=torch.complex128))
    before = layer.operator.to_dense().detach()
    optimizer = Muon(lo.nn.param_groups(layer, 1e-4, optimizer="muon"))
    for parameter in layer.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    change = torch.linalg.matrix_norm(layer.operator.to_dense().detach() - before, 2).item()
    assert change / 1e-4 == pytest.approx(1, rel=0.1)


def test_a_factor_that_starts_at_zero_takes_steps_that_are_bounded_and_then_of_their_size():
    """As LoRA's second factor does: the layer moves by what its leaves alone move it, at most twice as far."""
    torch.manual_seed(0)
    layer = lo.low_rank(32, 32, rank=4).to_layer(bias=False)
    with torch.no_grad():
        layer.U.zero_()
    optimizer = Muon(lo.nn.param_groups(layer, 0.02, optimizer="muon"))
    changes = []
    for _ in range(40):
        optimizer.zero_grad()
        before = layer.operator.to_dense().detach()
        layer(torch.eye(32)).sub(torch.eye(32)).square().sum().backward()
        optimizer.step()
        changes.append(torch.linalg.matrix_norm(layer.operator.to_dense().detach() - before, 2).item() / 0.02)
        assert optimizer.state[layer.U]["layer_share"] <= 2
    assert max(changes) < 2.5
    assert all(0.6 < change < 1.4 for change in changes[20:])


def test_layers_that_share_leaves_step():
    torch.manual_seed(0)
    one, other = lo.btt(16, 16).to_layer(), lo.btt(16, 16).to_layer()
    other.cores_0 = one.cores_0
    model = nn.Sequential(one, other, one)
    found, optimizer = after(model)
    assert all(parameter.isfinite().all() for parameter in found)
    assert sum("layer_share" in state for state in optimizer.state.values()) == 2


@pytest.mark.parametrize("flat", [None, False, True])
def test_a_run_of_static_steps_goes_on(flat):
    """By a state dict of torch, or one for distributed checkpoints."""
    torch.manual_seed(0)
    model = nn.Sequential(grown(lo.btt(16, 16).to_layer()), nn.Linear(16, 4))

    def made(renormalize):
        return Muon(lo.nn.param_groups(model, 0.05, optimizer="muon", renormalize=renormalize))

    def step(optimizer):
        optimizer.zero_grad()
        model(torch.ones(2, 16)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    static, optimizer = made(False), made(None)
    step(static)
    if flat is None:
        optimizer.load_state_dict(static.state_dict())
    else:
        options = StateDictOptions(flatten_optimizer_state_dict=flat)
        state = get_optimizer_state_dict(model, static, options=options)
        set_optimizer_state_dict(model, optimizer, state, options=options)
    first = model[0].cores_0
    assert torch.equal(optimizer.state[first]["momentum"], static.state[first]["momentum"])
    step(optimizer)
    assert optimizer.state[first]["layer_share"] < 1


def test_groups_name_no_more_than_static_ones_in_an_optimiser():
    """So that checkpoints by names of keys are the same."""
    layer = lo.btt(16, 16).to_layer()
    found = [Muon(lo.nn.param_groups(layer, 0.05, optimizer="muon", renormalize=one)) for one in (None, False)]
    assert [[*group] for group in found[0].param_groups] == [[*group] for group in found[1].param_groups]
    copied = copy.deepcopy(found[0])
    copied.add_param_group({"params": [nn.Parameter(torch.eye(2))]})


@pytest.mark.full
def test_a_compiled_step_is_the_same():
    torch.manual_seed(0)
    model = nn.Sequential(grown(lo.btt(16, 16).to_layer()))
    expected, _ = after(model)
    optimizer = Muon(lo.nn.param_groups(model, 0.05, optimizer="muon"))
    x = torch.randn(8, 16, generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own code
        step = torch.compile(optimizer.step, backend="eager")
        for _ in range(3):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            step()
    for one, other in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(one.detach(), other, rtol=1e-4, atol=1e-6)


def test_groups_that_are_split_filtered_or_added_to_keep_each_layers_steps():
    def moves(change):
        torch.manual_seed(0)
        net = torch.nn.Sequential(lo.btt(64, 16).to_layer(), torch.nn.GELU(), lo.low_rank(16, 64).to_layer())
        added = torch.nn.Parameter(torch.eye(4))
        optimizer = lo.nn.torch.Muon(change(lo.nn.param_groups(net, 0.02, optimizer="muon"), added))
        (net(torch.randn(8, 16)).square().sum() + added.square().sum()).backward()
        before = [parameter.detach().clone() for parameter in [*net.parameters(), added]]
        optimizer.step()
        return [after.detach() - old for after, old in zip([*net.parameters(), added], before)]

    def as_made(groups, added):
        return [*groups, {**groups[0], "params": [added], "names": ["added"]}]

    def split(groups, added):
        one = [{**group, "params": [each], "axes": [None]} for group in groups for each in group["params"]]
        return [*reversed(one), {**groups[0], "params": [added], "names": ["added"]}]

    def added_to(groups, added):
        groups[0]["params"].insert(0, added)
        return groups

    expected = moves(as_made)
    for change in (split, added_to):
        for found, right in zip(moves(change), expected):
            torch.testing.assert_close(found, right)
            assert found.abs().max() > 0


def test_what_is_known_of_measured_steps_does_not_outlive_static_ones():
    torch.manual_seed(0)
    net = lo.btt(16, 16).to_layer(bias=False)
    makers = [
        lambda: lo.nn.torch.Muon(lo.nn.param_groups(net, 0.02, optimizer="muon")),
        lambda: lo.nn.torch.Muon(lo.nn.param_groups(net, 0.02, optimizer="muon", renormalize=False)),
    ]
    optimizer = makers[0]()
    for parameter in net.parameters():
        parameter.grad = torch.randn_like(parameter)
    for _ in range(30):
        optimizer.step()
    assert any("layer_share" in state for state in optimizer.state.values())
    static = makers[1]()
    static.load_state_dict(optimizer.state_dict())
    assert all({*state} == {"momentum"} for state in static.state.values())
    again = makers[0]()
    again.load_state_dict(static.state_dict())
    again.step()
    assert any(state.get("layer_steps") == 1 for state in again.state.values())


def test_a_step_of_fake_tensors():
    with FakeTensorMode():
        net = lo.btt(16, 16).to_layer()
        optimizer = lo.nn.torch.Muon(lo.nn.param_groups(net, 0.02, optimizer="muon"))
        for parameter in net.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()


@pytest.mark.parametrize("make", [lambda A: A**4, lambda A: 3 * A, lambda A: A**2 @ A.T])
def test_a_single_leaf_that_is_multiplied_moves_its_layer_as_far_as_a_dense_one(make):
    torch.manual_seed(0)
    net = make(lo.Dense(lo.spec(32, 32))).to_layer(bias=False)
    optimizer = Muon(lo.nn.param_groups(net, 0.02, optimizer="muon"), every=1)
    for _ in range(6):
        optimizer.zero_grad()
        net(torch.randn(64, 32)).sub(1).square().mean().backward()
        before = net.to_dense().weight.detach().clone()
        optimizer.step()
    assert torch.linalg.matrix_norm(net.to_dense().weight - before, 2) < 1.4 * 0.02
