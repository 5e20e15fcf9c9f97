"""What torch's optimisers are given: numbers in their range, and groups that say how they are stepped."""

import importlib
import warnings
from collections import UserList

import numpy as np
import pytest
import torch
from torch import nn

import linops as lo
from linops.nn.torch.muon import Muon

NAN = float("nan")
#: of arguments, what none may be
NOT_POSITIVE = [-1, -1e-9, NAN, float("inf"), "0.02", None, 1j, True, torch.ones(2), torch.tensor(-1.0), [0.1]]
BAD = {
    "lr": NOT_POSITIVE,
    "weight_decay": NOT_POSITIVE,
    "eps": NOT_POSITIVE,
    "momentum": [-0.1, 1, 1.5, NAN, "0.9", None],
    "betas": [(1.0, 0.9), (0.9, 1.0), (-0.1, 0.9), (0.9, NAN), (0.9,), 0.9, None, ("0.9", "0.9"), (0.9, 0.9, 0.9)],
}
CASES = [(name, value) for name, values in BAD.items() for value in values]


def grown():
    """A layer whose static steps are three times as large as those that are measured."""
    torch.manual_seed(0)
    layer = lo.low_rank(16, 16, rank=4).to_layer()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(3)
    return layer


def groups_of(layer, **options):
    return lo.nn.param_groups(layer, 0.02, optimizer="muon", **options)


def moved(make):
    """How far a step of an optimiser moves a layer, and what is warned of."""
    layer = grown()
    before, optimizer = layer.operator.to_dense().detach(), make(layer)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        layer(torch.randn(8, 16, generator=torch.Generator().manual_seed(1))).square().mean().backward()
        optimizer.step()
    change = torch.linalg.matrix_norm(layer.operator.to_dense().detach() - before, 2).item() / 0.02
    return change, [str(one.message) for one in caught]


@pytest.mark.parametrize(("name", "value"), CASES, ids=str)
def test_muon_refuses_numbers_out_of_their_range_in_arguments_and_groups(name, value):
    layer = lo.low_rank(4, 4, rank=2).to_layer()
    if name not in ("lr", "weight_decay", "betas") or value is not None:  # None is their default
        with pytest.raises(ValueError, match=rf"^Muon\({name}=.*: expected (a|two) .*at least 0"):
            Muon(groups_of(layer), **{name: value})
    if (name, value) == ("betas", None):
        return
    with pytest.raises(ValueError, match=rf"^Muon.add_param_group\({name}="):
        Muon([{**group, name: value} for group in groups_of(layer)])
    optimizer = Muon(groups_of(layer))
    before = len(optimizer.param_groups)
    with pytest.raises(ValueError, match=rf"^Muon.add_param_group\({name}="):
        optimizer.add_param_group({"params": [nn.Parameter(torch.eye(2))], name: value})
    assert len(optimizer.param_groups) == before


@pytest.mark.parametrize("betas", [[0.5, 0.9], np.array([0.5, 0.9]), torch.tensor([0.5, 0.9]), UserList([0.5, 0.9])])
def test_muon_takes_betas_of_any_sequence(betas):  # such as lists of OmegaConf
    layers = lo.low_rank(4, 4, rank=2).to_layer(), lo.low_rank(4, 4, rank=2).to_layer()
    layers[1].load_state_dict(layers[0].state_dict())
    for layer, given in zip(layers, (betas, (0.5, 0.9))):
        optimizer = Muon(groups_of(layer), betas=given)
        for x in torch.eye(4).split(2):
            layer(x).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(layers[0].state_dict(), layers[1].state_dict())
    for wrong in ({0.5: 1, 0.9: 1}, "12", torch.tensor(0.9), torch.ones(2)):
        with pytest.raises(ValueError, match="expected two numbers"):
            Muon(groups_of(layers[0]), betas=wrong)


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "sgd"])
@pytest.mark.parametrize("name", ["lr", "weight_decay", "eps", "adamw_lr"])
def test_groups_are_not_made_of_numbers_out_of_their_range(optimizer, name):
    layer = lo.low_rank(4, 4, rank=2).to_layer()
    for value in NOT_POSITIVE:
        if (value is None and name in ("eps", "adamw_lr")) or (name, optimizer) == ("eps", "sgd"):
            continue  # which leave it open; SGD has no ε
        with pytest.raises(ValueError, match=rf"^param_groups\({name}="):
            lo.nn.param_groups(layer, **{"lr": 0.1, "optimizer": optimizer, name: value})


@pytest.mark.parametrize("base", [0, -64, NAN, float("inf"), "64", True, {"*": 0}, {"*": "64"}])
def test_base_widths_are_positive(base):
    layer = lo.low_rank(4, 4, rank=2).to_layer()
    with pytest.raises(ValueError, match=r"^param_groups\(base="):
        lo.nn.param_groups(layer, 0.1, base=base)


@pytest.mark.parametrize("depth", [{"*": "2"}, {"*": NAN}, {"*": 0}, {"*": None}, 2.0])
def test_depths_are_positive(depth):
    with pytest.raises(ValueError, match=r"^param_groups\(depth="):
        lo.nn.param_groups(lo.low_rank(4, 4, rank=2).to_layer(), 0.1, depth=depth)


@pytest.mark.parametrize("lr", NOT_POSITIVE, ids=str)
def test_no_rate_is_set_that_is_none(lr):
    optimizer = Muon(groups_of(lo.low_rank(4, 4, rank=2).to_layer()))
    before = [group["lr"] for group in optimizer.param_groups]
    with pytest.raises(ValueError, match=r"^set_lr\(lr="):
        lo.nn.set_lr(optimizer, lr)
    assert [group["lr"] for group in optimizer.param_groups] == before


@pytest.mark.parametrize("lr", [0, 0.02, np.float32(0.02), torch.tensor(0.02), torch.tensor([0.02])], ids=repr)
def test_rates_are_numbers_of_any_library(lr):
    layer = lo.low_rank(4, 4, rank=2).to_layer()
    optimizer = Muon(lo.nn.param_groups(layer, lr, 0.1, optimizer="muon"), lr, 0, 0.0, True, (0, 0.5), 0)
    for parameter in layer.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = layer.U.detach().clone()
    lo.nn.set_lr(optimizer, lr)
    optimizer.step()
    assert torch.equal(layer.U, before) == (lr == 0)


def test_an_epsilon_of_zero_is_zero():
    layer = lo.low_rank(4, 4, rank=2).to_layer()
    assert {group["eps"] for group in lo.nn.param_groups(layer, 0.1, eps=0.0)} == {0.0}


def test_a_model_and_words_are_no_groups_and_no_choice():
    model = nn.Sequential(lo.btt(16, 16).to_layer())
    with pytest.raises(TypeError, match=r"Muon\(Sequential\): expected groups of parameters, as lo.nn.param_groups"):
        lo.nn.muon.Muon(model)
    with pytest.raises(ValueError, match=r"renormalize='yes'\): expected True, False or None"):
        lo.nn.param_groups(model, 0.1, optimizer="muon", renormalize="yes")


def test_groups_that_have_lost_what_they_say_are_refused():
    def made(options, optimizer=None):
        def make(layer):
            groups = groups_of(layer, **options)
            return Muon(groups if optimizer is None else optimizer(groups).param_groups)

        return moved(make)

    static = {"renormalize": False}
    assert made({}) == (pytest.approx(1, rel=0.05), [])
    assert made(static) == (pytest.approx(2.9, rel=0.1), [])
    for options in ({}, static):  # AdamW keeps all that groups say
        assert made(options, torch.optim.AdamW) == made(options)
    layer = grown()
    kept = ("params", "names", "lr", "weight_decay", "lr_multiplier", "algorithm")
    for options in ({}, {"renormalize": True}, static):
        groups = groups_of(layer, **options)
        for lost in (Muon(groups).param_groups, [{key: group[key] for key in kept} for group in groups]):
            with pytest.raises(ValueError, match=r"'U'.*lost its 'leaves'.*param_groups\(model, lr.*renormalize=False"):
                Muon(lost)


def test_groups_of_models_without_structured_layers_lose_nothing():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    groups = Muon(lo.nn.param_groups(model, 0.02, optimizer="muon")).param_groups
    assert [group["names"] for group in Muon(groups).param_groups] == [group["names"] for group in groups]


def test_parameters_of_structured_layers_in_groups_of_ones_own_are_warned_of():
    _, messages = moved(lambda layer: Muon([layer.U, layer.V], lr=0.02))
    (message,) = messages
    assert "structured layers ('Linear') at one rate" in message
    assert "param_groups(model, lr" in message
    plain = nn.Linear(4, 4, bias=False)
    plain.weight.grad = torch.eye(4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Muon(plain.parameters()).step()


def test_a_group_has_partners_of_the_parameters_that_it_has():
    layer = lo.kronecker(16, 16).to_layer()
    groups = lo.nn.param_groups(layer, 0.02, optimizer="muon", adamw="", renormalize=True)
    assert any(len(group["params"]) > 1 for group in groups)
    for group in groups:
        group["params"] = group["params"][:1]
    with pytest.raises(ValueError, match=r"'partners' of \d parameters"):
        Muon(groups)


def by_zero(options):
    """How far two layers are moved by Muon and by Muon in ZeroRedundancyOptimizer; or what the latter raises."""
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own scripts
        wrapper = importlib.import_module("torch.distributed.optim").ZeroRedundancyOptimizer
    for within in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(*[make(16, 16).to_layer() for make in (lo.low_rank, lo.tensor_train, lo.kronecker)])
        groups = lo.nn.param_groups(model, 0.02, optimizer="muon", **options)
        try:
            optimizer = wrapper(groups, Muon, lr=0.02) if within else Muon(groups)
        except ValueError as error:
            return str(error)
        model(torch.randn(8, 16)).square().mean().backward()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's own
            optimizer.step()
        found.append([parameter.detach().numpy() for parameter in model.parameters()])
    return max(float(np.abs(one - other).max()) for one, other in zip(*found, strict=True))


@pytest.mark.full
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_zero_redundancy_optimizer_steps_as_one_or_says_why_not(processes, ranks):
    assert processes(ranks, by_zero, {"renormalize": False}) == [pytest.approx(0, abs=1e-6)] * ranks
    for options in ({}, {"renormalize": True}, {"renormalize": True, "adamw": "*"}):
        for found in processes(ranks, by_zero, options):
            if ranks == 1:
                assert found == pytest.approx(0, abs=1e-6)
            else:
                assert "ZeroRedundancyOptimizer" in found
                assert "renormalize=False" in found
