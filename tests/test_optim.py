"""`param_groups`: rates, decay and groups, against the rules written out by hand."""

import math

import pytest
import torch
from torch import nn

import linops as lo
from linops.nn.torch.muon import Muon, orthogonalize


class Net(nn.Module):
    """Everything that has a rule of its own; `width` is what grows."""

    def __init__(self, width):
        super().__init__()
        self.embed = nn.Embedding(20, width)
        self.norm = nn.LayerNorm(width)
        self.fc = nn.Linear(width, 4 * width)
        self.out = nn.Linear(4 * width, width, bias=False)
        self.scale = nn.Parameter(torch.ones(()))
        self.head = nn.Linear(width, 10)

    def forward(self, tokens):
        x = self.embed(tokens)
        x = x + self.scale * self.out(torch.nn.functional.gelu(self.fc(self.norm(x))))
        return self.head(x)


def net(width, device="cpu"):
    torch.manual_seed(0)
    with torch.device(device):
        return Net(width)


def structured(width, family="btt", **options):
    model = net(width)
    lo.nn.replace_linear_(model, family, ["fc", "out"], **options)
    return model


def rates(groups):
    return {name: group["lr"] for group in groups for name in group["names"]}


def decays(groups):
    return {name: group["weight_decay"] for group in groups for name in group["names"]}


# ---------------------------------------------------------------- rates


def test_no_base_means_base_shape():
    assert set(rates(lo.nn.param_groups(net(64), lr=0.5)).values()) == {0.5}


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "lion"])
def test_dense_rates_of_sign_based_optimisers(optimizer):
    found = rates(lo.nn.param_groups(net(64), lr=1.0, optimizer=optimizer, base=net(16, "meta")))
    quarter = {"fc.weight", "out.weight", "head.weight"}
    assert found == {name: 0.25 if name in quarter else 1.0 for name in dict(net(64).named_parameters())}


def test_dense_rates_of_sgd():
    found = rates(lo.nn.param_groups(net(64), lr=1.0, optimizer="sgd", base=net(16, "meta")))
    # the ratio out / in is that of the base
    expected = dict.fromkeys(("fc.weight", "out.weight", "scale", "head.bias"), 1.0)
    expected |= dict.fromkeys(("embed.weight", "norm.weight", "norm.bias", "fc.bias"), 4.0) | {"head.weight": 0.25}
    assert found == expected


@pytest.mark.parametrize("base", ["dense", "structured"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_leaf_gets_the_layers_rate_times_its_own(optimizer, base):
    model = structured(64)
    narrow = net(16, "meta") if base == "dense" else structured(16)
    found = rates(lo.nn.param_groups(model, lr=3.0, optimizer=optimizer, base=narrow))
    dense = 0.25 if optimizer == "adamw" else 1.0
    for layer in ("fc", "out"):
        for leaf, multiplier in lo.lr_multipliers(getattr(model, layer).structure.operator, optimizer).items():
            assert found[f"{layer}.{leaf}"] == pytest.approx(3.0 * dense * multiplier)


def test_integer_base_is_the_base_of_every_layer():
    found = rates(lo.nn.param_groups(structured(64, "low_rank", rank=8), lr=1.0, base=32))
    assert found["fc.V"] == pytest.approx(32 / 64 * 64 / 64 / 2)
    assert found["fc.U"] == pytest.approx(32 / 64 * 64 / 8 / 2)
    assert found["out.V"] == pytest.approx(32 / 256 * 256 / 256 / 2)
    assert found["head.weight"] == 0.5
    assert found["embed.weight"] == found["norm.weight"] == found["scale"] == 1.0


def test_base_by_pattern():
    found = rates(lo.nn.param_groups(net(64), lr=1.0, base={"fc": 16, "re:out": 64}))
    assert found["fc.weight"] == 0.25
    assert found["out.weight"] == 0.25
    assert found["head.weight"] == 1.0


def test_parts_take_the_base_of_the_whole():
    model = nn.Sequential(nn.Linear(32, 96))
    lo.nn.replace_linear_(model, "btt", parts={"0": 3})
    fused = nn.Sequential(nn.Linear(8, 24))
    lo.nn.replace_linear_(fused, "btt", parts={"0": 3})
    for base in (nn.Sequential(nn.Linear(8, 24)), fused):
        found = rates(lo.nn.param_groups(model, lr=1.0, base=base))
        for leaf, multiplier in lo.lr_multipliers(model[0][1].structure.operator).items():
            assert found[f"0.1.{leaf}"] == pytest.approx(multiplier / 4)
        sgd = rates(lo.nn.param_groups(model, lr=1.0, optimizer="sgd", base=base))
        assert sgd["0.2.cores_0"] == pytest.approx(lo.lr_multipliers(model[0][2].structure.operator, "sgd")["cores_0"])


def test_gains_of_weight_norm_have_the_plain_rate():
    model = structured(64, weight_norm=True)
    found = rates(lo.nn.param_groups(model, lr=2.0, base=16))
    assert found["fc.cores_0_gain"] == 2.0
    assert rates(lo.nn.param_groups(model, lr=2.0, optimizer="sgd", base=16))["fc.cores_0_gain"] == 2.0
    # though a dense base model has none
    assert rates(lo.nn.param_groups(model, lr=2.0, base=net(16)))["fc.cores_0_gain"] == 2.0
    assert decays(lo.nn.param_groups(model, lr=2.0, weight_decay=0.1))["fc.cores_0_gain"] == 0


def test_tied_embedding_is_an_embedding():
    model = net(64)
    model.head = nn.Linear(64, 20, bias=False)
    model.head.weight = model.embed.weight
    groups = lo.nn.param_groups(model, lr=1.0, base=16)
    assert rates(groups)["embed.weight"] == 1.0
    assert "head.weight" not in rates(groups)


def test_every_trainable_parameter_is_there_once():
    model = structured(64)
    model.fc.cores_0.requires_grad_(False)
    groups = lo.nn.param_groups(model, lr=1.0, weight_decay=0.1, base=16)
    given = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(given) == sorted(id(parameter) for parameter in model.parameters() if parameter.requires_grad)
    assert len({(group["lr"], group["weight_decay"]) for group in groups}) == len(groups)
    parameters = dict(model.named_parameters())
    assert all(
        parameters[name] is parameter for group in groups for name, parameter in zip(group["names"], group["params"])
    )


# ---------------------------------------------------------------- decay


def test_coupled_decay_follows_the_rate_and_independent_decay_does_not():
    model = structured(64)
    coupled = lo.nn.param_groups(model, lr=0.5, weight_decay=0.1, base=16)
    independent = lo.nn.param_groups(model, lr=0.5, weight_decay=0.1, base=16, decay="independent")
    assert rates(coupled) == rates(independent)
    for name, parameter in model.named_parameters():
        assert decays(coupled)[name] == (0.1 if parameter.ndim > 1 else 0)
        product = rates(independent)[name] * decays(independent)[name]
        assert product == pytest.approx(0.5 * 0.1 if parameter.ndim > 1 else 0)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_independent_decay_in_torchs_optimisers(optimizer):
    """With a gradient of zero, every matrix shrinks by the same 1 - lr · weight_decay."""
    model = structured(64)
    groups = lo.nn.param_groups(model, 0.1, weight_decay=0.2, optimizer=optimizer, base=16, decay="independent")
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[optimizer](groups).step()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach(), before[name] * (0.98 if parameter.ndim > 1 else 1.0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"optimizer": "adagrad"}, "adagrad.*expected one of adam, adamw, lion, sgd, muon"),
        ({"decay": "none"}, "expected one of coupled, independent, product"),
        ({"optimizer": "adam", "weight_decay": 0.1, "decay": "independent"}, "adam decays through the gradient"),
        ({"base": nn.Sequential(nn.Linear(2, 2))}, "no counterpart of"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        lo.nn.param_groups(net(16), lr=1.0, **arguments)


def test_what_is_no_model_or_optimiser():
    with pytest.raises(TypeError, match=r"param_groups\(generator\): expected a model"):
        lo.nn.param_groups(net(16).parameters(), lr=1.0)
    for function in (lambda model: lo.nn.set_lr(model, 1.0), lo.nn.keep_rates):
        with pytest.raises(TypeError, match=r"(set_lr|keep_rates): expected an optimiser, got Sequential"):
            function(nn.Sequential())


# ---------------------------------------------------------------- optimisers


def step(model, optimizer):
    optimizer.zero_grad()
    loss = model(torch.arange(20)).logsumexp(-1).mean()
    loss.backward()
    optimizer.step()
    return loss.item()


def make(name, model):
    groups = lo.nn.param_groups(model, 0.01, weight_decay=0.1, optimizer=name, base=16)
    return {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD, "muon": Muon}[name](groups)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "muon"])
def test_state_dict_round_trip(name, tmp_path):
    model = structured(32)
    optimizer = make(name, model)
    for _ in range(2):
        step(model, optimizer)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "state.pt")
    other = structured(32)
    resumed = make(name, other)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    other.load_state_dict(state["model"])
    resumed.load_state_dict(state["optimizer"])
    assert [step(model, optimizer) for _ in range(3)] == [step(other, resumed) for _ in range(3)]
    assert [group["names"] for group in resumed.param_groups] == [group["names"] for group in optimizer.param_groups]


def test_schedulers_scale_all_rates_alike():
    optimizer = make("adamw", structured(32))
    before = [group["lr"] for group in optimizer.param_groups]
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    optimizer.step()
    scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([lr / 2 for lr in before])


# ---------------------------------------------------------------- Muon


@pytest.mark.parametrize("shape", [(8, 8), (4, 9), (9, 4), (3, 5, 7), (2, 7, 5)], ids=str)
def test_orthogonalize_is_the_polar_factor_of_each_block(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    result = orthogonalize(matrices, steps=10)
    values = torch.linalg.svdvals(result)
    assert values.min() > 0.6
    assert values.max() < 1.3
    alignment = torch.einsum("...ip,...ij,...pj->...p", u, result, v)  # uᵀ R v: the same singular vectors
    torch.testing.assert_close(alignment.sort(dim=-1).values, values.sort(dim=-1).values, rtol=1e-6, atol=1e-6)
    assert not orthogonalize(torch.zeros(shape)).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64], ids=str)
@pytest.mark.parametrize("size", [1e-6, 1e-9, 1e-20, 1e-24, 1e-37, 1e-44])
def test_what_is_left_of_a_gradient_moves_little_and_nothing_to_nan(size, dtype):
    drawn = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=dtype)
    drawn[1] *= size
    result = orthogonalize(drawn)
    assert torch.isfinite(torch.view_as_real(result) if result.is_complex() else result).all()
    norms = torch.linalg.matrix_norm(result, 2)
    assert norms[[0, 2]].min() > 0.6
    assert norms[1] < 1.3 if size > 1e-7 else norms[1] < 485 * size * 16 / 1e-7 + 1e-30  # 3.4445^5, of norms below 16


@pytest.mark.full
@pytest.mark.parametrize("renormalize", [None, False])
@pytest.mark.parametrize("family", [None, "btt"])
def test_muon_stays_finite_and_stops_once_gradients_are_gone(family, renormalize):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 16, bias=False))
    if family:
        lo.nn.replace_linear_(model, family)
    optimizer = Muon(lo.nn.param_groups(model, 0.02, optimizer="muon", renormalize=renormalize))
    for step in range(1100):  # momentum of 0.95^t is gone below float32's least numbers
        optimizer.zero_grad()
        (model(torch.ones(2, 16)).square().mean() * (step < 3)).backward()
        optimizer.step()
        if step == 950:
            before = [leaf.detach().clone() for leaf in model.parameters()]
    assert all(torch.isfinite(leaf).all() and (leaf == old).all() for leaf, old in zip(model.parameters(), before))


@pytest.mark.parametrize("shape", [(8, 8), (4, 9), (3, 7, 5)], ids=str)
def test_orthogonalize_takes_complex_matrices(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.complex128)
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    result = orthogonalize(matrices, steps=10)
    values = torch.linalg.svdvals(result)
    assert values.min() > 0.6
    assert values.max() < 1.3
    alignment = torch.einsum("...ip,...ij,...pj->...p", u.conj(), result, v.conj())
    torch.testing.assert_close(alignment.imag, torch.zeros_like(alignment.imag), rtol=0, atol=1e-6)
    torch.testing.assert_close(alignment.real.sort(dim=-1).values, values.sort(dim=-1).values, rtol=1e-6, atol=1e-6)


def test_muon_rates_make_the_step_of_a_factor_as_large_as_its_fans_ask():
    model = structured(64, "low_rank", rank=8)
    groups = lo.nn.param_groups(model, lr=1.0, optimizer="muon", adamw_lr=0.1, adamw="head")
    found = rates(groups)
    dense = math.sqrt(256 / 64)
    assert found["fc.U"] == pytest.approx(math.sqrt(256 / 8) / dense / 2)
    assert found["fc.V"] == pytest.approx(math.sqrt(8 / 64) / dense / 2)
    assert found["head.weight"] == found["embed.weight"] == found["norm.bias"] == 0.1
    algorithms = {name: group["algorithm"] for group in groups for name in group["names"]}
    assert {name for name, algorithm in algorithms.items() if algorithm == "muon"} == {"fc.U", "fc.V", "out.U", "out.V"}


def test_muon_dense_rate_follows_the_base_shape():
    wide = rates(
        lo.nn.param_groups(
            nn.Sequential(nn.Linear(64, 10)), lr=1.0, optimizer="muon", base=nn.Sequential(nn.Linear(16, 10))
        )
    )
    assert wide["0.weight"] == pytest.approx(math.sqrt(16 / 64))


def test_leaves_that_are_no_matrices_fall_back_to_adamw():
    model = nn.Sequential(
        lo.circulant(16, 16).to_layer(),
        (lo.Diagonal(lo.spec(16)) @ lo.btt(16, 16)).to_layer(),
        lo.tensor_train(16, 16, rank=2).to_layer(),
    )
    groups = lo.nn.param_groups(model, lr=1.0, optimizer="muon")
    algorithms = {name: group["algorithm"] for group in groups for name in group["names"]}
    assert algorithms["0.c"] == algorithms["1.factors_0_diagonal"] == "adamw"
    assert algorithms["1.factors_1_cores_0"] == algorithms["2.cores_0"] == "muon"
    assert rates(groups)["0.c"] == pytest.approx(lo.lr_multipliers(model[0].structure.operator)["c"])


def test_muon_steps_each_block_by_its_own_polar_factor():
    layer = lo.block_diag(12, 8, blocks=4).to_layer(bias=False)
    blocks = layer.blocks.detach().clone()
    optimizer = Muon(lo.nn.param_groups(layer, lr=0.5, weight_decay=0.1, optimizer="muon"), nesterov=False)
    layer.blocks.grad = torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(0))
    gradient = layer.blocks.grad
    rate = optimizer.param_groups[0]["lr"]
    optimizer.step()
    torch.testing.assert_close(layer.blocks.detach(), blocks * (1 - rate * 0.1) - rate * orthogonalize(gradient))


def test_adamw_part_of_muon_is_torchs():
    ours, theirs = nn.Linear(4, 4), nn.Linear(4, 4)
    theirs.load_state_dict(ours.state_dict())
    groups = lo.nn.param_groups(ours, lr=0.01, weight_decay=0.1, optimizer="muon", adamw="")
    reference = lo.nn.param_groups(theirs, lr=0.01, weight_decay=0.1)
    assert {group["algorithm"] for group in groups} == {"adamw"}
    optimizers = Muon(groups), torch.optim.AdamW(reference, betas=(0.9, 0.95))
    x = torch.randn(8, 4)
    for _ in range(5):
        for model, optimizer in zip((ours, theirs), optimizers):
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(ours.weight, theirs.weight)
    torch.testing.assert_close(ours.bias, theirs.bias)


def test_muon_refuses_vectors():
    with pytest.raises(ValueError, match=r"\(4,\).*no matrices"):
        Muon(nn.Linear(4, 4).parameters())


def test_muon_learns():
    model = structured(32)
    optimizer = make("muon", model)
    losses = [step(model, optimizer) for _ in range(30)]
    assert losses[-1] < losses[0] - 0.1
