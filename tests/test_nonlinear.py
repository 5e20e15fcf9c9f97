"""Structures that are no linear maps, in PyTorch: what they are, and swaps, reports, rates and files of them."""

import copy
import json
import warnings

import pytest
import torch
from safetensors import safe_open
from torch import nn

import linops as lo
from linops.lab.parsing import parse as parse_of_layer
from linops.nn.nonlinear import ACTIVATIONS, MAKERS, from_plain
from linops.nn.nonlinear_text import parse
from linops.nn.torch import BTTMixture, Chain

BOTH = ("chain:rank=4", "btt_mixture:experts=4:active=2")


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def dense():
    return nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 64), nn.GELU(), nn.Linear(64, 10))


def swapped(target, where="[02]", **options):
    model = dense()
    lo.nn.replace_linear_(model, target, where=where, **options)
    return model


# ---------------------------------------------------------------- what they are


def test_counts_and_words():
    found = lo.nn.chain(64, 16, rank=4, activation="gelu")
    assert (found.shape, found.num_params, found.macs) == ((64, 16), 4 * 80, 4 * 80)
    assert found.fans == {"U": (4, 64), "V": (16, 4)}
    expert = lo.btt(64, 64)
    found = lo.nn.btt_mixture(64, 64, experts=8, active=2)
    assert found.num_params == 8 * expert.num_params + 8 * 64
    assert found.macs == 2 * expert.cost().macs + 8 * 64
    assert found.fans == lo.fans(expert) | {"gate": (64, 8)}
    assert str(found).startswith("Mixture(2 of 8 experts, each BlockTensorTrain(")


def test_a_name_that_is_none():
    for make in (
        lambda: lo.nn.replace_linear_(torch.nn.Linear(8, 8), "chian"),
        lambda: lo.nn.replace_linear_(torch.nn.Linear(8, 8), where={"*": "chian:rank=1"}),
        lambda: parse_of_layer("chian"),
    ):
        with pytest.raises(ValueError, match=r"no family 'chian'; expected one of dense, .*, chain, btt_mixture$"):
            make()


def test_texts():
    target = parse("btt_mixture:experts=4:active=1:balance=0.5:rank=2")
    assert target(64, 64) == lo.nn.btt_mixture(64, 64, experts=4, active=1, balance=0.5, rank=2)
    assert parse("chain")(64, 16) == lo.nn.chain(64, 16)
    for text, words in [
        ("chain:rank=x", "rank=integer"),
        ("chain:width=2", "chain has no option 'width'; it has rank, activation"),
        ("chain:rank=2:rank=2", "given twice"),
        ("chains", "expected one of chain, btt_mixture"),
    ]:
        with pytest.raises(ValueError, match=words):
            parse(text)
    with pytest.raises(TypeError, match="rank as an option too"):
        parse("chain:rank=2")(64, 16, rank=3)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: lo.nn.chain(8, 8, rank=7),
            r"chain\(8, 8\): 112 MACs .* lower the rank to at most 4, or leave the layer dense$",
        ),
        (lambda: lo.nn.chain(1, 1, rank=1), "dense's 1; leave the layer dense$"),
        (
            lambda: lo.nn.btt_mixture(64, 64, rank=100),
            r"btt_mixture\(64, 64\): .* or rank=, .* allow_dearer=True$",
        ),
        (lambda: lo.nn.chain(1, 9), r"chain\(1, 9\): no rank is as cheap"),
        (lambda: lo.nn.chain(64, 16, activation="swish2"), "one of silu, gelu"),
        (lambda: lo.nn.btt_mixture(64, 64, experts=2, active=3), "3 of 2 experts active"),
        (lambda: lo.nn.btt_mixture(64, 64, active=0), "0 of 8 experts active"),
        (lambda: lo.nn.btt_mixture(64, 64, balance=-1.0), "at least 0"),
        (lambda: lo.nn.btt_mixture(16, 16, experts=16), "more than dense's 256; lower active="),
    ],
)
def test_what_cannot_be_is_an_error(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_wrong_types_are_errors():
    with pytest.raises(TypeError, match="expected an integer"):
        lo.nn.btt_mixture(64, 64, experts=2.5)
    with pytest.raises(TypeError, match=r"no option|unexpected keyword"):
        lo.nn.btt_mixture(64, 64, width=3)


# ---------------------------------------------------------------- Chain


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_chain_is_its_formula(name):
    layer = Chain(6, 5, rank=2, activation=name, dtype=torch.float64)
    function = {"silu": nn.functional.silu, "gelu": nn.functional.gelu}.get(name) or getattr(torch, name)
    nn.init.normal_(layer.bias)
    x = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(layer(x), function(x @ layer.V.T) @ layer.U.T + layer.bias)
    assert torch.autograd.gradcheck(layer, x)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon"])
@pytest.mark.parametrize("base", [None, 16])
def test_chain_has_the_scale_and_rates_of_low_rank(optimizer, base):
    def groups(layer):
        made = lo.nn.param_groups(nn.Sequential(layer), 0.1, 0.3, optimizer, base=base, decay="product")
        return [(one["names"], one["lr"], one["weight_decay"], one.get("algorithm")) for one in made]

    torch.manual_seed(0)
    chain = Chain(96, 64, rank=8)
    torch.manual_seed(0)
    linear = lo.nn.torch.Linear(lo.low_rank(96, 64, rank=8))
    assert groups(chain) == groups(linear)
    assert all(torch.equal(chain.get_parameter(name), linear.get_parameter(name)) for name in ("U", "V", "bias"))
    assert Chain(100, 50).rank == lo.low_rank(100, 50).U.shape[1]


# ---------------------------------------------------------------- swaps, rates, reports


def test_swap_reports_and_keeps():
    model = dense()
    bias, seen = model[0].bias, []
    model[0].register_forward_hook(lambda *_: seen.append(1))
    model[0].requires_grad_(False)
    report = lo.nn.replace_linear_(model, where={"0": BOTH[0], "2": "btt_mixture:experts=4:active=1"})
    assert isinstance(model[0], Chain)
    assert isinstance(model[2], BTTMixture)
    assert model[0].bias is bias
    assert not model[0].U.requires_grad
    assert model[2].gate.requires_grad
    model(torch.randn(2, 64))
    assert seen == [1]
    first, second = report.rows
    assert (first.structure, first.new_params, first.new_macs) == ("Chain(rank 4, silu)", 4 * 192 + 128, 4 * 192)
    assert (second.new_params, second.new_macs) == (model[2].nonlinear.num_params + 64, model[2].nonlinear.macs)
    assert report.totals[1] == sum(parameter.numel() for parameter in model.parameters())
    assert "gate 128→4" in str(report)
    assert "Linear (not selected)" in str(report)
    y = model[0]._mapped(x := torch.randn(10000, 64))
    measured = y.square().mean().sqrt() / (x @ dense()[0].weight.T).square().mean().sqrt()
    assert abs(first.scale / float(measured.detach()) - 1) < 0.25


@pytest.mark.parametrize("target", BOTH)
def test_zero_stays_zero_and_small_stays_small(target):
    model = dense()
    nn.init.zeros_(model[0].weight)
    model[2].weight.data.mul_(0.1)
    report = lo.nn.replace_linear_(model, target, where="[02]")
    assert report.rows[0].zero_init
    assert report.rows[1].kept_scale == pytest.approx(0.1, rel=0.1)
    assert not model[0]._mapped(torch.randn(3, 64)).any()
    drawn = swapped(target)[2]
    leaf = drawn.nonlinear._output_leaves()[0]
    ratio = model[2].get_parameter(leaf).std() / drawn.get_parameter(leaf).std()
    assert float(ratio.detach()) == pytest.approx(0.1, rel=0.2)
    model[2].reset_parameters()
    assert float((model[2].get_parameter(leaf).std() / drawn.get_parameter(leaf).std()).detach()) < 0.2


def test_tied_layers_share_and_load(tmp_path):
    def model():
        made = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32))
        made[2].weight = made[0].weight
        return made

    ours = model()
    lo.nn.replace_linear_(ours, "chain:rank=2")
    assert ours[0].U is ours[2].U
    assert ours[0].bias is not ours[2].bias
    lo.nn.save(ours, tmp_path / "m.safetensors")
    other = lo.nn.load(model(), tmp_path / "m.safetensors")
    assert other[0].V is other[2].V
    assert torch.equal(other(x := torch.randn(2, 32)), ours(x))


def test_targets_are_functions_too():
    one, two = dense(), dense()
    lo.nn.replace_linear_(one, lo.nn.chain, where="0", rank=4, activation="relu")
    lo.nn.replace_linear_(two, where={"0": parse("chain:rank=4:activation=relu")})
    assert one[0].nonlinear == two[0].nonlinear
    with pytest.warns(UserWarning, match="refused|refuse"):
        report = lo.nn.replace_linear_(nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 1)), "chain")
    assert list(report.skipped) == ["1"]


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "sgd"])
def test_rates_of_a_mixture(optimizer):
    """Those of its expert as a layer, and for the scores those of a dense layer; by a dense base too."""
    narrow = dense()
    model = nn.Sequential(nn.Linear(256, 512), nn.GELU(), nn.Linear(512, 256), nn.GELU(), nn.Linear(256, 10))
    other = copy.deepcopy(model)
    lo.nn.replace_linear_(model, "btt_mixture:experts=4:active=1", where="0")
    lo.nn.replace_linear_(other, "btt", where="0")

    def rates(model):
        made = lo.nn.param_groups(model, 0.1, 0.3, optimizer, base=narrow, decay="product")
        return {name: (one["lr"], one["weight_decay"]) for one in made for name in one["names"]}

    ours, theirs = rates(model), rates(other)
    assert {name: rate for name, rate in ours.items() if name != "0.gate"} == theirs
    # inputs are 4 times as many as in the base model, experts as many: (out / in) / (base_out / base_in) = 1 / 4
    assert ours["0.gate"][0] == pytest.approx(0.1 * {"adamw": 1 / 4, "sgd": 1 / 4, "muon": 1 / 2}[optimizer])
    assert ours["0.gate"][0] * ours["0.gate"][1] == pytest.approx(0.1 * 0.3)


@pytest.mark.parametrize("target", BOTH)
def test_depth_scales_epsilons(target):
    groups = lo.nn.param_groups(swapped(target), 0.1, depth={"[02]": 4.0}, eps=1e-8, decay="independent")
    eps = {name: one["eps"] for one in groups for name in one["names"]}
    assert all(eps[f"0.{name}"] == 2.5e-9 for name, _ in swapped(target)[0].named_parameters())
    assert eps["4.weight"] == 1e-8


@pytest.mark.parametrize("target", BOTH)
def test_they_train(target):
    model, x, y = swapped(target), torch.randn(64, 64), torch.randint(10, (64,))
    optimizer = lo.nn.muon.Muon(lo.nn.param_groups(model, 0.1, optimizer="muon", adamw_lr=0.01, renormalize=True))
    losses = []
    for _ in range(40):
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        (loss + lo.nn.balance_loss(model)).backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("target", BOTH)
@pytest.mark.parametrize("how", ["dense", "meta", "swapped", "otherwise", "nonlinear"])
def test_files_rebuild_them(target, how, tmp_path):
    ours, path = swapped(target), tmp_path / "model.safetensors"
    lo.nn.save(ours, path)
    with torch.device("meta" if how == "meta" else "cpu"):
        other = swapped(target) if how == "swapped" else dense()
    if how in ("otherwise", "nonlinear"):
        lo.nn.replace_linear_(other, "btt" if how == "otherwise" else "chain:rank=2", where="[02]")
    state = torch.get_rng_state()
    loaded = lo.nn.load(other, path)
    assert torch.equal(state, torch.get_rng_state())
    assert loaded[0].nonlinear == ours[0].nonlinear
    x = torch.randn(3, 64)
    assert torch.equal(loaded.eval()(x), ours.eval()(x))


def test_files_of_linear_maps_are_as_before(tmp_path):
    lo.nn.save(swapped("btt"), tmp_path / "a.safetensors")
    lo.nn.save(swapped("chain"), tmp_path / "b.safetensors")
    versions = []
    for name in "ab":
        with safe_open(tmp_path / f"{name}.safetensors", "pt") as file:
            text = json.dumps(file.metadata())
        versions.append('\\"version\\": 2' in text or '\\"version\\":2' in text)
    assert versions == [False, True]


def test_what_cannot_be_saved_or_loaded(tmp_path):
    path = tmp_path / "model.safetensors"
    with pytest.raises(TypeError, match="layer '0' cannot be saved: its activation is a function"):
        lo.nn.save(swapped(lo.nn.chain, "0", activation=torch.tanh), path)
    lo.nn.save(swapped(BOTH[1]), path)
    small = nn.Sequential(nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 10))
    with pytest.raises(ValueError, match="layer '0' is 64×64 in the model and 128×64 in the file, Mixture"):
        lo.nn.load(small, path)
    assert type(small[0]) is nn.Linear


@pytest.mark.parametrize(
    "said",
    [
        {"kind": "chain"},
        {"kind": "chain", "activation": "swish2"},
        {"kind": "chain", "activation": ["silu"]},
        {"kind": "chain", "activation": "silu", "more": 1},
        {"kind": "btt_mixture", "experts": 2, "active": 3, "balance": 0.0},
        {"kind": "btt_mixture", "experts": True, "active": 1, "balance": 0.0},
        {"kind": "btt_mixture", "experts": 2, "active": 1, "balance": float("nan")},
        {"kind": "other"},
        {"kind": 3},
        ["chain"],
    ],
)
def test_files_are_not_trusted(said):
    with pytest.raises((ValueError, TypeError)):
        from_plain(said, lo.low_rank(8, 8, rank=2).structure)


def test_a_file_takes_no_more_memory_than_it_holds(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    model = swapped(BOTH[1], "0")
    huge = lo.nn.nonlinear.Mixture(model[0].nonlinear.structure, 2**40, 1)
    monkeypatch.setattr(BTTMixture, "_described", lambda _: huge)
    lo.nn.save(model, path)
    with pytest.raises(ValueError, match=r"'0.cores_0' has shape \(4, .*1099511627776"):
        lo.nn.load(dense(), path)


# ---------------------------------------------------------------- what needs an operator


@pytest.mark.parametrize("target", BOTH)
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"weights": "project"}, "weights='project' needs"),
        ({"weight_norm": True}, "weight_norm=True needs"),
        ({"parts": {"0": 2}}, "parts= needs"),
    ],
)
def test_swaps_that_need_an_operator(target, options, words):
    model = dense()
    with pytest.raises(ValueError, match=f"layer '0': {target.split(':')[0]} is no linear map, which {words}"):
        lo.nn.replace_linear_(model, target, where="0", **options)
    assert type(model[0]) is nn.Linear


@pytest.mark.parametrize("kind", sorted(MAKERS))
def test_functions_of_operators_say_so(kind):
    words = f"{kind} is no linear map"
    with pytest.raises(ValueError, match=words):
        lo.project(torch.randn(8, 8), kind)
    with pytest.raises(TypeError, match=words):
        lo.nn.from_linear(nn.Linear(64, 64), kind)
    with pytest.raises(TypeError, match=words):
        lo.nn.estimate(lo.nn.Transformer(d_model=64, layers=1, vocab=8, seq=4), 1, families=[kind])
    with pytest.raises(ValueError, match=r"layer '0' would be a \w+, which is no linear map"):
        lo.nn.estimate(dense(), 1, families=[kind], exclude="4")
    with pytest.raises(ValueError, match=words):
        lo.nn.compress(dense(), budget=0.5, families=[kind])


@pytest.mark.parametrize("target", BOTH)
def test_models_that_have_them(target):
    model = swapped(target, "0")
    with pytest.raises(AttributeError, match=r"layer '0' is a \w+, which is no linear map and has no weight"):
        _ = model[0].weight
    with pytest.raises(ValueError, match=r"layer '0'.*no linear map"):
        lo.nn.grow_(model, "btt:rank=3", where="0")
    with pytest.raises(ValueError, match=r"layer '0'.*no linear map"):
        lo.nn.estimate(model, 1)
    lo.nn.replace_linear_(model, "btt", where="2")
    with pytest.warns(UserWarning, match=r"left '0' alone: each is no linear map"):
        report = lo.nn.to_dense_(model)
    assert [row.name for row in report.rows] == ["2"]
    assert "no linear map" in report.skipped["0"]
    assert type(model[2]) is nn.Linear
    assert not isinstance(model[0], nn.Linear)
    assert [row.name for row in lo.nn.watch(model).look()] == ["2", "4"]
    before = model[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lo.nn.freeze_(model)
    assert model[0] is before


@pytest.mark.parametrize("target", BOTH)
def test_communication_counts_them_whole(target):
    model = swapped(target, "0")
    lo.nn.replace_linear_(model, "btt", where="2")
    model[4].bias = None
    assert "0" not in [row.name for row in lo.nn.divisions(model, 2)]
    with pytest.warns(UserWarning, match="'0' matches no layer for 'colwise'"):
        assert [row.name for row in lo.nn.divisions(model, 2, style={"0": "colwise"})] == ["2"]
