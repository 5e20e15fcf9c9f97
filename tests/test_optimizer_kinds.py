"""Groups of `param_groups` in an optimiser that they are not for: a warning at the first step, once."""

import warnings

import pytest
import torch
from torch import nn

import linops as lo

Ours = lo.nn.torch.Muon
KINDS = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "nadam": torch.optim.NAdam,
    "muon": Ours,
}


class AdamW8bit(torch.optim.Optimizer):
    """As bitsandbytes names it; what it does is of no matter."""

    def __init__(self, params):
        super().__init__(params, {})

    def step(self, closure=None):
        pass


class Muon(AdamW8bit):
    """One of other libraries, which multiplies by a factor of the shape itself."""


class Shampoo(torch.optim.Optimizer):
    """An optimiser of which nothing is known."""

    def __init__(self, params):
        super().__init__(params, {})

    def step(self, closure=None):
        pass


def messages(made, kind, steps=2, **options):
    model = nn.Sequential(lo.btt(16, 16).to_layer(bias=False), nn.Linear(16, 4, bias=False))
    optimizer = kind(lo.nn.param_groups(model, 1e-3, optimizer=made, **options))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(steps):
            optimizer.step()
    assert all(one.filename == __file__ for one in caught)
    return [str(one.message) for one in caught]


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        *[(name, KINDS[name]) for name in ("sgd", "adam", "adamw", "muon")],
        *[("adam", torch.optim.AdamW), ("adamw", torch.optim.Adam), ("adamw", torch.optim.NAdam)],
        *[("lion", torch.optim.AdamW), ("adamw", AdamW8bit), ("adamw", Shampoo), ("sgd", Shampoo)],
    ],
)
def test_groups_that_fit(made, kind):
    assert messages(made, kind) == []


@pytest.mark.parametrize(
    ("made", "kind", "wanted"),
    [
        ("muon", torch.optim.AdamW, "adamw"),
        ("muon", torch.optim.SGD, "sgd"),
        ("muon", Shampoo, "adamw"),
        ("sgd", torch.optim.AdamW, "adamw"),
        ("sgd", AdamW8bit, "adamw"),
        ("muon", Muon, "muon"),
        ("adamw", Muon, "muon"),
        ("adamw", torch.optim.SGD, "sgd"),
        ("adamw", Ours, "muon"),
        ("sgd", Ours, "muon"),
        ("lion", torch.optim.SGD, "sgd"),
    ],
)
def test_groups_for_another_kind_are_warned_of_once(made, kind, wanted):
    (message,) = messages(made, kind)
    assert f"param_groups(optimizer={made!r}) are stepped by {kind.__name__}" in message
    assert f"optimizer={wanted!r}" in message


def test_decay_through_the_gradient():
    (message,) = messages("adamw", torch.optim.Adam, weight_decay=0.1)
    assert "decays through the gradient" in message
    assert messages("adam", torch.optim.Adam, weight_decay=0.1) == []
    assert (
        messages("adamw", lambda groups: torch.optim.Adam(groups, decoupled_weight_decay=True), weight_decay=0.1) == []
    )


def test_muons_groups_may_be_split_between_two_optimisers():
    model = nn.Sequential(lo.btt(16, 16).to_layer(), nn.Linear(16, 4))
    groups = lo.nn.param_groups(model, 0.02, optimizer="muon", adamw="1")
    parts = {kind: [group for group in groups if group["algorithm"] == kind] for kind in ("muon", "adamw")}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Ours(parts["muon"]).step()
        torch.optim.AdamW(parts["adamw"]).step()


def test_an_optimiser_of_the_trainers_own_making_is_told():
    """By whose code calls the step: a loop of one's own may mean one rate."""
    import types

    trainer = types.ModuleType("transformers.trainer")
    exec("def step(optimizer): optimizer.step()", trainer.__dict__)
    model = nn.Sequential(nn.Linear(8, 16))
    lo.nn.replace_linear_(model, "btt")
    plain = nn.Linear(4, 4)
    for one in (model, plain):
        for parameter in one.parameters():
            parameter.grad = torch.ones_like(parameter)
    made = torch.optim.AdamW(model.parameters())
    with pytest.warns(UserWarning, match=r"Trainer has made AdamW itself.*'0'.*optimizers=\(optimizer, None\)"):
        trainer.step(made)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.optim.AdamW(model.parameters()).step()
        trainer.step(torch.optim.AdamW(lo.nn.param_groups(model, 0.1)))
        trainer.step(torch.optim.AdamW(plain.parameters()))
        trainer.step(made)  # once
