"""Spectral renormalisation: what multiplies a leaf, the norms, and steps that keep their size while factors grow."""

import copy
import itertools
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.nn.utils import prune

import linops as lo
from linops.nn.torch import layer_steps
from linops.nn.torch.muon import Muon
from linops.nn.torch.renormalizing import spectral_norm
from linops.partners import evaluate, initial_norms, partners

A, B, C = lo.dense(6, 6), lo.low_rank(6, 6, rank=2), lo.block_diag(6, 6, blocks=2)
EXPRESSIONS = {
    "low rank": B,
    "btt": lo.btt(8, 8, cores=3),
    "monarch": lo.monarch(8, 8, blocks=2),
    "tensor train": lo.tensor_train(8, 8, rank=2),
    "blast": lo.blast(8, 8, blocks=2, rank=1),
    "butterfly": lo.butterfly(8, 8),
    "kronecker": lo.kronecker(6, 6),
    "product": B @ C,
    "sum": A + B,
    "product of a sum": (A + lo.Identity(6)) @ (B + C),
    "direct sum": lo.BlockDiag([A, B @ C]),
    "grid": lo.Block([[A, B], [None, C @ A]]),
    "Kronecker of a product": lo.kron(A @ C, B),
    "Kronecker sum": lo.KroneckerSum(A, B),
    "power": (A @ lo.Diagonal(lo.spec(6))) ** 2,
    "slice": (B @ C)[1:3, ::2],
    "three diagonals": lo.Tridiagonal(lo.spec(5), lo.spec(6), lo.spec(5)),
    "Toeplitz": lo.toeplitz(6, 4),
    "multiple": lo.low_rank(6, 6, rank=2) * np.array(2.0),
}


def named(norm):
    """The leaves in a norm."""
    if isinstance(norm, str):
        return {norm}
    return set().union(*map(named, norm)) if isinstance(norm, (tuple, list)) else set()


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_a_leaf_is_multiplied_by_those_with_which_it_has_a_mixed_difference(name):
    random = np.random.default_rng(0)
    operator = EXPRESSIONS[name]
    leaves = {key: random.standard_normal(leaf.shape) for key, leaf in operator.named_leaves()}
    moves = {key: random.standard_normal(leaf.shape) for key, leaf in leaves.items()}
    found = partners(operator)
    assert list(found) == list(leaves)

    def dense(*moved):
        return operator.with_leaves([leaves[key] + (moves[key] if key in moved else 0) for key in leaves]).to_dense()

    for one, other in itertools.permutations(leaves, 2):
        mixed = dense(one, other) - dense(one) - dense(other) + dense()
        assert (other in named(found[one])) == (np.abs(mixed).max() > 1e-9), (one, other)


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_no_change_of_a_leaf_exceeds_what_multiplies_it(name):
    random = np.random.default_rng(1)
    operator = EXPRESSIONS[name]
    if name in ("power", "Toeplitz", "tensor train", "blast"):
        pytest.skip("a leaf that stands twice, or is no batch of matrices")
    leaves = {key: random.standard_normal(leaf.shape) for key, leaf in operator.named_leaves()}

    def norm(leaf):
        return np.linalg.norm(leaf, 2, axis=(-2, -1)).max() if leaf.ndim > 1 else np.abs(leaf).max()

    norms = {key: norm(leaf) for key, leaf in leaves.items()}
    for key, leaf in leaves.items():
        move = random.standard_normal(leaf.shape)
        moved = operator.with_leaves([value + (move if other == key else 0) for other, value in leaves.items()])
        change = np.linalg.norm(moved.to_dense() - operator.with_leaves(leaves.values()).to_dense(), 2)
        assert change <= norm(move) * evaluate(partners(operator)[key], norms.__getitem__) * (1 + 1e-9)


def test_initial_norms_are_those_of_what_is_drawn():
    operator = lo.btt(1024, 1024)
    drawn = operator.init(seed=0)
    for name, leaf in drawn.named_leaves():
        found = np.linalg.norm(leaf, 2, axis=(-2, -1)).mean()
        assert initial_norms(operator)[name] == pytest.approx(found, rel=0.1)


def test_spectral_norm_follows_matrices_that_change():
    random = torch.Generator().manual_seed(0)
    matrices, vector = torch.randn(3, 8, 5, generator=random), None
    for _ in range(30):
        matrices = matrices + 0.02 * torch.randn(3, 8, 5, generator=random)
        norm, vector = spectral_norm(matrices, vector)
    assert norm.item() == pytest.approx(torch.linalg.matrix_norm(matrices, 2).max().item(), rel=0.01)
    assert spectral_norm(torch.zeros(2, 3, 4))[0] < 1e-5
    torch.testing.assert_close(spectral_norm(torch.zeros(3, 8, 5), vector)[1], vector)


def stepped(factor, renormalize, optimizer="muon", freeze=()):
    """How far a step moves the leaf U where V is so many times what `init` draws."""
    torch.manual_seed(0)
    layer = lo.low_rank(64, 64, rank=16).to_layer(bias=False)
    for name in freeze:
        getattr(layer, name).requires_grad_(False)
    with torch.no_grad():
        layer.V.mul_(factor)
    before = layer.U.detach().clone()
    groups = lo.nn.param_groups(layer, lr=0.1, optimizer=optimizer, renormalize=renormalize)
    layer(torch.randn(32, 64)).square().sum().backward()
    for group in groups:
        group.pop("optimizer", None)  # whose steps Muon does not take
    Muon([{"algorithm": optimizer} | group for group in groups]).step()
    return (layer.U.detach() - before).norm().item()


def test_a_step_of_adamw_is_divided_by_the_growth_of_the_other_factor():
    plain = stepped(1, False, "adamw")
    assert stepped(1, True, "adamw") == pytest.approx(plain, rel=0.1)
    assert stepped(8, False, "adamw") == pytest.approx(plain, rel=0.05)
    assert stepped(8, True, "adamw") == pytest.approx(plain / 8, rel=0.1)
    assert stepped(0.125, True, "adamw") == pytest.approx(plain, rel=0.05)  # it only lowers
    assert stepped(8, True, "adamw", freeze=["V"]) == pytest.approx(plain, rel=0.05)  # which does not grow


def test_a_step_of_muon_follows_the_other_factor_and_is_at_most_as_many_times_as_large_as_there_are_factors():
    plain = stepped(1, False)
    assert stepped(64, True) == pytest.approx(stepped(8, True) / 8, rel=0.1)  # V moves too
    alone = {factor: stepped(factor, True, freeze=["V"]) for factor in (1e-3, 8, 64)}  # what is measured is the step
    assert alone[1e-3] == pytest.approx(2 * plain, rel=1e-3)
    assert alone[64] == pytest.approx(alone[8] / 8, rel=0.01)


# ---------------------------------------------------------------- steps of whole layers


LAYERS = {
    "btt": lo.btt(32, 16),
    "btt of three cores": lo.btt(64, 64, cores=3),
    "low rank": lo.low_rank(16, 32, rank=4),
    "tensor train": lo.tensor_train(32, 64, rank=2),
    "butterfly": lo.butterfly(32, 32),
    "kronecker": lo.kronecker(32, 32),
    "monarch": lo.monarch(32, 16, blocks=4),
    "blast": lo.blast(32, 32, blocks=4, rank=4),
    "einsum": lo.einsum(64, 64),
    "sum": lo.low_rank_block(32, 32, blocks=4),
    "with values for AdamW": lo.low_rank_sparse(32, 32, rank=4),
    "repeated": lo.dense(16, 16) ** 2 @ lo.low_rank(16, 16, rank=4),
}
SHORT = ("btt", "tensor train", "sum")


def moved(layer, lr=0.01, **options):
    """‖ΔW‖₂ over the rate, of a step from a random gradient."""
    optimizer = Muon(lo.nn.param_groups(layer, lr=lr, optimizer="muon", renormalize=True, **options))
    before = layer.operator.to_dense().detach().double()
    random = torch.Generator().manual_seed(1)
    for parameter in layer.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.randn(parameter.shape, dtype=parameter.dtype, generator=random)
    optimizer.step()
    return torch.linalg.matrix_norm(layer.operator.to_dense().detach().double() - before, 2).item() / lr


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in SHORT else pytest.mark.full) for n in LAYERS])
@pytest.mark.parametrize("factor", [1, 3])
def test_a_layer_moves_as_far_as_a_dense_layer_whatever_its_factors(name, factor):
    torch.manual_seed(0)
    layer = LAYERS[name].to_layer(bias=False).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(factor)
    assert moved(layer, 1e-4) == pytest.approx(1, rel=0.08)


def test_a_layer_moves_as_far_as_the_base_shape_says():
    torch.manual_seed(0)
    layer = lo.btt(64, 16).to_layer(bias=False).double()
    assert moved(layer, 1e-4, base={"": 16}) == pytest.approx(2, rel=0.08)  # sqrt(64 / 16)


def test_a_layer_of_one_matrix_and_layers_left_to_adamw_are_not_measured():
    model = nn.Sequential(lo.block_diag(16, 16, blocks=2).to_layer(), lo.btt(16, 16).to_layer())
    groups = lo.nn.param_groups(model, lr=0.1, optimizer="muon", renormalize=True, adamw="1")
    assert not any("leaves" in group for group in groups)
    partners_of = {name: norm for group in groups for name, (norm, *_) in zip(group["names"], group["partners"])}
    assert partners_of["1.cores_0"] == ("1.cores_1",)


def test_leaves_of_more_axes_are_orthogonalised_as_the_matrices_that_they_multiply_as():
    torch.manual_seed(0)
    layer = lo.tensor_train(8, 27, rank=2, cores=3, allow_dearer=True).to_layer(bias=False)
    groups = lo.nn.param_groups(layer, lr=1.0, optimizer="muon", renormalize=False)
    before = [parameter.detach().clone() for parameter in layer.parameters()]
    for parameter in layer.parameters():
        parameter.grad = torch.randn(parameter.shape)
    Muon(groups, nesterov=False).step()
    rates = {name: group["lr"] for group in groups for name in group["names"]}
    for (name, parameter), old in zip(layer.named_parameters(), before):
        fan_in, fan_out = lo.fans(layer.structure.operator)[name]
        step = ((old - parameter.detach()) / rates[name]).permute(1, 3, 0, 2).reshape(fan_out, fan_in)
        values = torch.linalg.svdvals(step)
        assert values.min() > 0.5
        assert values.max() < 1.3
        assert rates[name] == pytest.approx((fan_out / fan_in * 27 / 8) ** 0.5 / 3)


@pytest.mark.parametrize(
    ("layer", "every", "later"),
    [
        (lo.low_rank(16, 16, rank=2), None, 3),
        (lo.btt(27, 27, cores=3), None, 3),
        (lo.butterfly(32, 32), None, 16),  # of five leaves
        (lo.butterfly(32, 32), 4, 4),
        (lo.low_rank(16, 16, rank=2), 1, 16),
    ],
)
def test_steps_are_measured_often_at_first_and_then_as_often_as_is_asked_for(monkeypatch, layer, every, later):
    """And what is kept for several steps is the geometric mean, in which the new one has four tenths."""
    norms = [1.0] * 24 + [4.0] * 16
    monkeypatch.setattr(layer_steps, "_norm", lambda *_: (torch.tensor(next(given)), None))
    given = iter(norms)
    layer = layer.to_layer(bias=False)
    first = next(iter(layer.parameters()))
    optimizer = Muon(lo.nn.param_groups(layer, lr=0.01, optimizer="muon", renormalize=True), every=every)
    for parameter in layer.parameters():
        parameter.grad = torch.ones_like(parameter)
    shares = []
    for _ in range(40):
        optimizer.step()
        shares.append(optimizer.state[first]["layer_share"])
    assert len(norms) - len(list(given)) == 24 + later
    assert shares[:24] == [1.0] * 24
    kept = 0.0 if later == 16 else 0.6
    assert shares[24] == pytest.approx(0.25 ** (1 - kept))
    assert shares[-1] == pytest.approx(0.25 ** (1 - kept**later))


@pytest.mark.parametrize("every", [0, -1, 1.5, True])
def test_how_often_steps_are_measured_is_a_number_of_steps(every):
    layer = lo.low_rank(16, 16, rank=2).to_layer()
    with pytest.raises(ValueError, match=r"Muon\(every=.*\): expected a number of steps, at least 1"):
        Muon(lo.nn.param_groups(layer, lr=0.01, optimizer="muon", renormalize=True), every=every)


def test_how_often_is_asked_of_steps_that_are_measured():
    layer = lo.low_rank(16, 16, rank=2).to_layer()
    with pytest.raises(ValueError, match=r"Muon\(every=3\): no steps are measured.*leave renormalize=False out"):
        Muon(lo.nn.param_groups(layer, lr=0.01, optimizer="muon", renormalize=False), every=3)
    with pytest.raises(ValueError, match=r"Muon\(every=3\): no steps are measured"):
        Muon([{"params": [nn.Parameter(torch.eye(2))]}], every=3)
    for renormalize in (None, True):  # dense ones alone
        Muon(lo.nn.param_groups(nn.Linear(4, 4), lr=0.01, optimizer="muon", renormalize=renormalize), every=3)
    groups = lo.nn.param_groups(layer, lr=0.01, optimizer="muon", renormalize=True)
    with pytest.raises(ValueError, match="expected a number of steps"):
        Muon([{**group, "every": 0} for group in groups])


def test_how_often_steps_are_measured_is_the_optimisers_whatever_a_state_dict_says():
    layer = lo.low_rank(16, 16, rank=2).to_layer()
    one, other = (Muon(lo.nn.param_groups(layer, lr=0.01, optimizer="muon", renormalize=True), every=n) for n in (1, 6))
    state = other.state_dict()
    for group in state["param_groups"]:
        del group["every"]  # as of a release before
    one.load_state_dict(state)
    assert {group["every"] for group in one.param_groups} == {1}


@pytest.mark.parametrize("every", [1, 6])
def test_what_is_kept_between_two_measurements_survives_a_state_dict(every):
    torch.manual_seed(0)
    model = nn.Sequential(lo.low_rank(64, 64, rank=8).to_layer())
    optimizer = muon(model, every=every)
    trained(model, optimizer, 27)
    other = copy.deepcopy(model)
    resumed = muon(other, every=every)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    found = []
    for one, its in ((model, optimizer), (other, resumed)):
        torch.manual_seed(1)
        trained(one, its, 8)  # over the next measurement
        found.append([parameter.detach() for parameter in one.parameters()])
    assert all(map(torch.equal, *found))


@pytest.mark.full
@pytest.mark.parametrize("name", ["low rank", "btt of three cores"])
def test_a_kept_share_holds_the_mean_and_one_of_every_step_holds_each(name):
    """From batches that are not alike, as real ones are not."""
    drifts = {}
    for every in (1, 6):
        torch.manual_seed(0)
        operator = {"low rank": lo.low_rank(64, 64, rank=8), "btt of three cores": lo.btt(64, 64, cores=3)}[name]
        model = nn.Sequential(operator.to_layer(), nn.Tanh(), nn.Linear(64, 64))
        optimizer, wanted = muon(model, every=every), nn.Linear(64, 64)
        changes = []
        for _ in range(120):
            x = torch.randn(16, 64)
            optimizer.zero_grad()
            nn.functional.mse_loss(model(x), wanted(x).detach()).backward()
            before = model[0].operator.to_dense().detach()
            optimizer.step()
            changes.append(torch.linalg.matrix_norm(model[0].operator.to_dense().detach() - before, 2).item())
        changes = changes[24:]
        means = [sum(changes[at : at + 24]) for at in range(0, 96, 24)]
        drifts[every] = max(changes) / min(changes), max(means) / min(means)
    assert drifts[1][0] < 1.3
    assert drifts[6][1] < 1.2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_steps_of_other_dtypes_are_measured_in_float32_at_least(dtype):
    torch.manual_seed(0)
    layer = lo.btt(64, 64).to_layer(bias=False).to(dtype)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(4)
    # a step of a fourth is curved, and is rounded to bfloat16
    assert moved(layer, 0.25 if dtype == torch.bfloat16 else 1e-4) == pytest.approx(1, rel=0.25)


def test_groups_of_renormalised_steps_survive_a_state_dict(tmp_path):
    def made():
        torch.manual_seed(0)
        model = nn.Sequential(lo.btt(16, 16).to_layer(), lo.tensor_train(16, 16, rank=2).to_layer())
        model[0].reset_parameters()
        return model, Muon(lo.nn.param_groups(model, lr=0.2, optimizer="muon", renormalize=True))

    def step(model, optimizer):
        optimizer.zero_grad()
        model(torch.ones(2, 16)).square().sum().backward()
        optimizer.step()

    (model, optimizer), (other, resumed) = made(), made()
    for _ in range(3):
        step(model, optimizer)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    other.load_state_dict(state["model"])
    resumed.load_state_dict(state["optimizer"])
    step(model, optimizer)
    step(other, resumed)
    for one, two in zip(model.parameters(), other.parameters()):
        assert torch.equal(one, two)


def muon(model, every=None, **options):
    return Muon(lo.nn.param_groups(model, lr=0.02, optimizer="muon", renormalize=True, **options), every=every)


def trained(model, optimizer, steps=1, without=()):
    """Steps, some leaves having no gradient; how far the last one moves the first layer, ‖ΔW‖₂ over the rate."""
    before = model[0].operator.to_dense()
    for _ in range(steps):
        optimizer.zero_grad()
        before = model[0].operator.to_dense().detach().double()
        model(torch.randn(32, 64, dtype=model[0].bias.dtype)).float().square().mean().backward()
        for name in without:
            getattr(model[0], name).grad = None
        optimizer.step()
    change = model[0].operator.to_dense().detach().double() - before
    return torch.linalg.matrix_norm(change, 2).item() / 0.02


@pytest.mark.parametrize("later", [torch.bfloat16, torch.float64])
def test_what_is_kept_of_a_layer_is_loaded_as_it_is_whatever_the_dtype_of_leaves(later):
    torch.manual_seed(0)
    model = nn.Sequential(lo.btt(64, 64).to_layer()).bfloat16()
    optimizer = muon(model)
    trained(model, optimizer)
    optimizer.state[model[0].cores_0]["layer_share"] = torch.tensor(1 / 3)  # as on a device
    state = optimizer.state_dict()
    resumed = muon(model.to(later))
    resumed.load_state_dict(state)
    for key in ("layer_vectors", "layer_share"):
        found = resumed.state[model[0].cores_0][key]
        assert found.dtype == torch.float32
        assert torch.equal(found, optimizer.state[model[0].cores_0][key])
    trained(model, resumed)


def test_a_layer_that_grows_moves_as_far_as_before():
    torch.manual_seed(0)
    model = nn.Sequential(lo.btt(128, 64).to_layer())
    optimizer = muon(model, base=16)
    far = 2**0.5
    assert trained(model, optimizer, 25) == pytest.approx(far, rel=0.1)
    for rank in (2, 4):
        lo.nn.grow_(model, f"btt:rank={rank}", optimizer=optimizer)
        assert [trained(model, optimizer) for _ in range(3)] == pytest.approx([far] * 3, rel=0.1)


@pytest.mark.parametrize("absent", ["U", "V"])
def test_a_layer_is_measured_anew_when_other_leaves_move(absent):
    torch.manual_seed(0)
    model = nn.Sequential(lo.low_rank(64, 64, rank=8).to_layer())
    with torch.no_grad():
        model[0].U.mul_(3)
        model[0].V.mul_(3)  # so that ρ is not at its bound
    optimizer = muon(model)
    trained(model, optimizer, 25)
    for without in ([absent], [], [absent], [absent]):
        assert trained(model, optimizer, without=without) == pytest.approx(1, rel=0.1)
    model[0].get_parameter(absent).requires_grad_(False)
    assert trained(model, optimizer) == pytest.approx(1, rel=0.1)
    model[0].get_parameter(absent).requires_grad_(True)
    assert trained(model, optimizer) == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("renormalize", [True, False])
def test_a_state_dict_does_not_change_which_steps_are_renormalised(renormalize):
    torch.manual_seed(0)
    model = nn.Sequential(lo.low_rank(64, 64, rank=8).to_layer(), lo.btt(64, 64).to_layer())
    with torch.no_grad():
        for parameter in (*model[0].parameters(), *model[1].parameters()):
            parameter.mul_(3)

    def made(renormalize):
        groups = lo.nn.param_groups(model, lr=0.02, optimizer="muon", adamw="1", renormalize=renormalize)
        return Muon(groups)

    other, optimizer, fresh = made(not renormalize), made(renormalize), made(renormalize)
    trained(model, other)
    optimizer.load_state_dict(other.state_dict())
    for made_so, loaded in zip(fresh.param_groups, optimizer.param_groups):
        assert made_so.get("partners") == loaded.get("partners")
    state = {name: value.clone() for name, value in model.state_dict().items()}
    found = []
    for one in (optimizer, fresh):
        model.load_state_dict(state)
        torch.manual_seed(1)
        first = trained(model, one)
        found.append((first, (model[1].cores_0 - state["1.cores_0"]).norm().item()))
    assert (found[0][0] == pytest.approx(1, rel=0.1)) is renormalize
    assert found[0][1] == pytest.approx(found[1][1], rel=0.2)  # AdamW's, which is divided by the growth, or not


@pytest.mark.parametrize("flat", [True, False])
def test_renormalised_steps_go_through_a_distributed_checkpoint(flat):
    torch.manual_seed(0)
    model = nn.Sequential(lo.btt(64, 64).to_layer())
    optimizer, resumed = muon(model), muon(model)
    trained(model, optimizer, 3)
    options = StateDictOptions(flatten_optimizer_state_dict=flat)
    optimizer.zero_grad()
    state = get_optimizer_state_dict(model, optimizer, options=options)
    set_optimizer_state_dict(model, resumed, state, options=options)
    one, two = (each.state[model[0].cores_0] for each in (optimizer, resumed))
    assert one.keys() == two.keys()
    assert one["layer_steps"] == two["layer_steps"] == 3
    assert torch.equal(one["layer_vectors"], two["layer_vectors"])
    assert trained(model, resumed) == pytest.approx(1, rel=0.1)


def test_groups_of_an_optimiser_are_plain_data_and_copies_of_it_step_copied_layers():
    torch.manual_seed(0)
    model = nn.Sequential(lo.btt(64, 64).to_layer())
    groups = lo.nn.param_groups(model, lr=0.02, optimizer="muon", renormalize=True)
    optimizers = [Muon(groups), Muon(groups)]  # which do not take what groups hold
    assert not any("leaves" in group for optimizer in optimizers for group in optimizer.param_groups)
    for optimizer in optimizers:
        trained(model, optimizer)
        assert "layer_vectors" in optimizer.state[model[0].cores_0]
    copied, optimizer = copy.deepcopy((model, optimizers[0]))
    before = model[0].cores_0.detach().clone()
    trained(copied, optimizer)
    assert optimizer.state[copied[0].cores_0]["layer_steps"] == 2
    assert torch.equal(before, model[0].cores_0)


@pytest.mark.parametrize("name", ["U", "values"])
def test_a_layer_with_a_pruned_leaf_has_the_steps_of_static_rates_until_it_has_none(name):
    """Whether it is pruned before there is an optimiser or after."""

    def run(renormalize, late=False):
        torch.manual_seed(0)
        model = nn.Sequential(lo.low_rank_sparse(16, 16, rank=4).to_layer())
        key = next(key for key, _ in model[0].named_parameters() if key.endswith(name))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(3)
        if not late:
            prune.random_unstructured(model[0], key, 0.5)
        optimizer = Muon(lo.nn.param_groups(model, lr=0.02, optimizer="muon", renormalize=renormalize))
        if late:
            prune.random_unstructured(model[0], key, 0.5)
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.ones(2, 16)).square().mean().backward()
            optimizer.step()
        found = [value.clone() for value in model.state_dict().values()]
        model(torch.ones(2, 16))  # masks what was stepped
        prune.remove(model[0], key)
        before = model[0].operator.to_dense().detach()
        model(torch.ones(2, 16)).square().mean().backward()
        optimizer.step()
        return found, torch.linalg.matrix_norm(model[0].operator.to_dense().detach() - before, 2).item() / 0.02

    (static, _), (early, moved), (late, moved_too) = run(False), run(True), run(True, late=True)
    for one, two in zip(static, early, strict=True):
        assert torch.equal(one, two)
    assert sorted(value.double().sum().item() for value in early) == sorted(
        value.double().sum().item() for value in late
    )
    assert moved == pytest.approx(1, rel=0.1)
    assert moved_too == pytest.approx(1, rel=0.1)


def test_an_optimiser_that_does_not_renormalise_is_told():
    layer = lo.btt(16, 16).to_layer()
    groups = lo.nn.param_groups(layer, lr=0.1, optimizer="adamw", renormalize=True)
    with pytest.warns(UserWarning, match="AdamW, which does not renormalise"):
        torch.optim.AdamW(groups).step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Muon(groups).step()
    with pytest.raises(ValueError, match="renormalize=True"):
        lo.nn.param_groups(layer, lr=0.1, optimizer="sgd", renormalize=True)


def test_layers_with_weight_normalisation_stand_alone():
    layer = lo.nn.torch.Linear(lo.btt(16, 16), weight_norm=True)
    groups = lo.nn.param_groups(layer, lr=0.1, optimizer="muon", renormalize=True)
    assert all(norm == () for group in groups for norm, *_ in group["partners"])


def test_a_renormalised_factor_moves_its_layer_as_far_at_any_time():
    moved = {}
    for renormalize in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(lo.btt(64, 64).to_layer(), nn.Tanh(), nn.Linear(64, 64))
        optimizer = Muon(lo.nn.param_groups(model, lr=0.1, optimizer="muon", renormalize=renormalize))
        x, y = torch.randn(32, 64), torch.randn(32, 64)
        changes = []
        for step in range(120):
            optimizer.zero_grad()
            nn.functional.mse_loss(model(x), y).backward()
            if step % 8:
                optimizer.step()
                continue
            watched = lo.nn.watch(model[:1], optimizer)
            optimizer.step()
            changes.append(watched.look()[0].change)
        moved[renormalize] = max(changes) / min(changes)
    assert moved[True] < 1.4
    assert moved[False] > 1.4
