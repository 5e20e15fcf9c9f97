"""Mistakes with optimisers that would train wrongly in silence: each is an error or a warning."""

import copy
import gc
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import linops as lo
from linops.nn.torch import wrong_rates
from linops.nn.torch.muon import Muon

KINDS = {
    "adamw": torch.optim.AdamW,
    "sgd": lambda groups: torch.optim.SGD(groups, lr=0.1),
    "muon": Muon,
}


def made(kind, **options):
    torch.manual_seed(0)
    layer = lo.btt(16, 16).to_layer()
    optimizer = KINDS[kind](lo.nn.param_groups(layer, lr=0.1, optimizer=kind, **options))
    layer(torch.randn(8, 16)).square().mean().backward()
    return layer, optimizer


def said_by(act):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        act()
    return [str(one.message) for one in caught]


ONE = [np.array([0.5]), np.array(0.5), np.float32(0.5), np.float64(0.5), torch.tensor([0.5]), torch.tensor(0.5)]


@pytest.mark.parametrize("value", ONE, ids=repr)
def test_numbers_of_other_libraries_are_numbers(value):
    layer = lo.btt(16, 16).to_layer()
    for given in ({"weight_decay": value}, {"eps": value}, {"optimizer": "muon", "adamw_lr": value}):
        found = lo.nn.param_groups(layer, lr=0.1, **given)
        expected = lo.nn.param_groups(
            layer, lr=0.1, **{key: 0.5 if one is value else one for key, one in given.items()}
        )
        for one, other in zip(found, expected, strict=True):
            for key in ("lr", "weight_decay", "eps", "lr_multiplier"):
                assert one.get(key) == other.get(key)
                assert type(one.get(key)) is type(other.get(key))
    groups = lo.nn.param_groups(layer, lr=value)
    optimizer = torch.optim.AdamW(groups)
    assert [float(group["lr"]) for group in groups] == [0.5 * group["lr_multiplier"] for group in groups]
    lo.nn.set_lr(optimizer, value)
    kinds = {type(group["lr"]) for group in optimizer.param_groups}
    assert kinds == ({torch.Tensor} if isinstance(value, torch.Tensor) else {float})
    muon = Muon([nn.Parameter(torch.eye(2))], lr=value, weight_decay=value, momentum=value, eps=value)
    assert [float(muon.param_groups[0][key]) for key in ("lr", "weight_decay", "momentum", "eps")] == [0.5] * 4
    assert type(muon.param_groups[0]["weight_decay"]) is float


@pytest.mark.parametrize("base", [np.array(8), np.array([8]), np.int64(8), torch.tensor(8), {"*": np.array(8)}])
def test_base_widths_of_other_libraries_are_numbers(base):
    model = nn.Sequential(lo.btt(16, 16).to_layer(), nn.Linear(16, 4))
    found, expected = (lo.nn.param_groups(model, lr=0.1, base=one) for one in (base, 8))
    assert [group["lr"] for group in found] == [group["lr"] for group in expected]
    with pytest.raises(ValueError, match="width that is a positive number"):
        lo.nn.param_groups(model, lr=0.1, base=np.array(-8))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", [float("nan"), float("inf"), -0.1, -1, np.float32(-1)])
def test_a_rate_that_a_loop_has_set_is_checked_at_the_step(kind, rate):
    layer, optimizer = made(kind)
    for steps in (0, 2):
        for _ in range(steps):
            optimizer.step()
        before, kept = copy.deepcopy(layer.state_dict()), optimizer.param_groups[0]["lr"]
        optimizer.param_groups[0]["lr"] = rate
        with pytest.raises(ValueError, match=r"the group of 'cores_0'.* has the rate .*expected a finite number"):
            optimizer.step()
        torch.testing.assert_close(layer.state_dict(), before, rtol=0, atol=0)
        optimizer.param_groups[0]["lr"] = kept
    optimizer.step()


def test_so_is_one_of_muon_without_groups_and_no_one_of_others():
    weight = nn.Parameter(torch.eye(2))
    weight.grad = torch.eye(2)
    optimizer = Muon([weight])
    optimizer.param_groups[0]["lr"] = float("nan")
    with pytest.raises(ValueError, match="the group of number 0 has the rate nan"):
        optimizer.step()
    other = torch.optim.SGD([weight], lr=0.1)
    other.param_groups[0]["lr"] = -1.0
    other.step()


@pytest.mark.parametrize("name", ["lr", "weight_decay"])
def test_muon_tells_of_an_argument_that_changes_nothing(name):
    layer = lo.btt(16, 16).to_layer()
    groups = lo.nn.param_groups(layer, lr=0.1, optimizer="muon")
    (said,) = said_by(lambda: Muon(groups, **{name: 0.3}))
    assert said.startswith(f"Muon({name}=0.3) changes nothing")
    assert not said_by(lambda: Muon(groups))
    assert not said_by(lambda: Muon(groups, **{name: {"lr": 0.1, "weight_decay": 0.0}[name]}))
    bare = [{key: one for key, one in group.items() if key != name} for group in groups]
    assert not said_by(lambda: Muon([groups[0], *bare[1:]], **{name: 0.3}))
    assert not said_by(lambda: Muon([nn.Parameter(torch.eye(2))], **{name: 0.3}))


def test_muon_tells_of_groups_of_another_optimiser_what_to_make():
    layer = lo.btt(16, 16).to_layer()
    with pytest.raises(ValueError, match=r"param_groups\(optimizer='adamw'\) do not say .* 'bias'.*optimizer='muon'\)"):
        Muon(lo.nn.param_groups(layer, lr=0.1))
    Muon(lo.nn.param_groups(layer, lr=0.1, renormalize=True))  # AdamW's, which Muon steps


@pytest.mark.parametrize("weights", ["init", "project"])
@pytest.mark.parametrize("steps", [0, 3])
def test_an_optimiser_of_layers_that_were_replaced_since_warns_once(weights, steps):
    model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 4))
    optimizer = torch.optim.AdamW(lo.nn.param_groups(model, lr=0.1))

    def step():
        model(torch.ones(2, 16)).sum().backward()
        optimizer.step()

    for _ in range(steps):
        assert not said_by(step)
    lo.nn.replace_linear_(model, "low_rank", where="0", weights=weights, rank=2)
    (said,) = said_by(step)
    assert said.startswith("AdamW holds parameters that replace_linear_ has replaced")
    assert not said_by(step)
    optimizer = torch.optim.AdamW(lo.nn.param_groups(model, lr=0.1))
    assert not said_by(step)


def test_parameters_that_the_model_still_has_or_nobody_has_are_not_replaced():
    model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 8))
    kept = nn.Parameter(torch.ones(16))
    model[0].bias = model.scale = kept
    lo.nn.replace_linear_(model, "low_rank", where="0", rank=2)
    optimizer = torch.optim.AdamW(lo.nn.param_groups(model, lr=0.1, matrices={"scale": None}))
    assert any(one is kept for group in optimizer.param_groups for one in group["params"])
    model(torch.ones(4, 16)).sum().backward()
    assert not said_by(optimizer.step)
    gc.collect()
    before = len(wrong_rates._replaced)
    gone = nn.Sequential(nn.Linear(4, 4))
    lo.nn.replace_linear_(gone, "low_rank", rank=1)
    del gone
    gc.collect()
    assert len(wrong_rates._replaced) <= before


def test_a_watch_with_the_optimiser_of_another_model_is_refused():
    (layer, optimizer), (other, _) = made("muon"), made("muon")
    lo.nn.watch(layer, optimizer)
    with pytest.raises(ValueError, match="the optimiser has none of the model's parameters"):
        lo.nn.watch(other, optimizer)


def test_a_watch_tells_of_leaves_at_one_rate():
    model = nn.Sequential(lo.btt(16, 16).to_layer(), nn.Linear(16, 4))
    (said,) = said_by(lambda: lo.nn.watch(model, torch.optim.AdamW(model.parameters(), lr=0.1)))
    assert "leaves of structured layers ('0') have no rates of their own" in said or "Linear" in said
    assert not said_by(lambda: lo.nn.watch(model, torch.optim.AdamW(lo.nn.param_groups(model, lr=0.1))))
    assert not said_by(lambda: lo.nn.watch(model, torch.optim.AdamW(model[1].parameters(), lr=0.1)))


@pytest.mark.parametrize("rate", [torch.tensor(0.3), 0.3])
def test_rates_are_set_without_a_break_under_a_compiler(rate):
    layer = lo.btt(16, 16).to_layer()
    optimizer = torch.optim.AdamW(lo.nn.param_groups(layer, lr=torch.tensor(0.1) if torch.is_tensor(rate) else 0.1))

    def act(rate):
        lo.nn.set_lr(optimizer, rate)
        return torch.ones(())

    torch.compile(act, fullgraph=True, backend="eager")(rate)
    for group in optimizer.param_groups:
        assert float(group["lr"]) == pytest.approx(0.3 * group["lr_multiplier"])
