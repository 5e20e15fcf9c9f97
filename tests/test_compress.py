"""`lo.nn.compress`: plans that choose per layer under a budget, and what applying them does."""

import copy
import json
import math
import warnings

import pytest
import torch
from helpers import each
from sklearn.datasets import load_digits
from test_nn_project import matrix, net, randn
from test_replace import Conv1D
from torch import nn

import linops as lo

compress = lo.nn.compress


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def digits():
    images, labels = (torch.as_tensor(array) for array in load_digits(return_X_y=True))
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return images[order].float() / 16, labels[order]


@pytest.fixture(scope="module")
def trained():
    """An MLP that knows its digits, its inputs and labels."""
    x, y = digits()
    model = net(widths=(64, 96, 96, 10))
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for _ in range(5):
        for batch in torch.arange(1437).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
    return model.requires_grad_(True), x, y


def accuracy(model, x, y):
    return float((model(x[1437:]).argmax(-1) == y[1437:]).double().mean())


def weights(model):
    return sum(parameter.numel() for name, parameter in model.named_parameters() if not name.endswith("bias"))


def losses(x, y):
    def run(model):
        for batch in torch.arange(1437).split(500):
            yield nn.functional.cross_entropy(model(x[batch]), y[batch])

    return run


# ---------------------------------------------------------------- plans


@pytest.mark.filterwarnings("ignore:.*had not converged")
@pytest.mark.parametrize("criterion", each(3, ["weight", "activation", "loss"]))
def test_budgets_are_kept(trained, criterion):
    model, x, y = trained
    before = copy.deepcopy(model.state_dict())
    given = {} if criterion == "weight" else {"calibration": losses(x, y)}
    plan = None
    for budget in (0.5, 0.25, 0.125):
        new = copy.deepcopy(model)
        again = compress(new, budget, ("low_rank", "btt", "monarch:blocks=4"), criterion=criterion, **given)
        plan = plan or again
        assert again == plan.at(budget)  # the same numbers, and nothing measured anew
        assert again.cost <= budget * again.dense == budget * weights(model)
        assert again.bound <= again.error
        report = again.apply_()
        assert weights(new) == again.cost
        assert [row.name for row in report] == [name for name, one in again.chosen.items() if one.text != "dense"]
        if given or budget == 0.5:  # by weights alone an eighth is too little
            assert accuracy(new, x, y) > {0.5: 0.97, 0.25: 0.97, 0.125: 0.8}[budget] * accuracy(model, x, y)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.full
def test_a_choice_per_layer_beats_uniform(trained):
    model, x, _ = trained
    plan = compress(model, calibration=[x[:1437]])
    points = [point for point in plan.pareto() if point.of == "uniform" and point.share < 1]
    assert len(points) > 8
    gains = []
    for _, share, error in points:
        best = plan.at(min(share * (1 + 1e-9), 1.0), exact=True).error
        assert best <= error * (1 + 1e-6)
        gains.append(error / best)
    assert max(gains) > 2
    alone = compress(model, families="btt", calibration=[x[:1437]]).at(0.25).error
    assert plan.at(0.25, exact=True).error <= alone
    rows = {of for of, _, _ in plan.pareto([0.5])}
    assert rows == {"chosen", "low_rank", "btt", "monarch", "uniform"}


def test_exact_is_no_worse_and_within_its_bound(trained):
    model, _, _ = trained
    plan = compress(model, 0.3)
    best = plan.at(0.3, exact=True)
    assert best.error <= plan.error
    assert best.error == pytest.approx(best.bound, rel=1e-5)
    assert plan.bound <= best.error * (1 + 1e-6)


def test_macs_and_numbers_as_budgets():
    model = net(widths=(32, 32, 32))
    plan = compress(model, {"params": 700})
    assert plan.cost <= 700
    assert compress(model, {"params": 700 / 2048}).picks == plan.picks
    macs = plan.at({"macs": 0.3})
    assert (macs.unit, macs.dense) == ("macs", 2048)
    assert macs.cost == sum(one.macs for one in macs.chosen.values()) <= 0.3 * 2048
    assert plan.at(1.0).apply_().rows == ()


def test_tied_weights_count_once():
    model = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))
    model[2].weight = model[0].weight
    x = randn(100, 16)
    plan = compress(model, 0.6, calibration=[x])
    assert [one.names for one in plan.layers] == [("0", "2"), ("4",)]
    assert (plan.dense, plan.at({"macs": 1.0}).dense) == (16 * 16 + 4 * 16, 2 * 16 * 16 + 4 * 16)
    assert "0 (+1 tied)" in str(plan)
    plan.apply_()
    assert weights(model) == plan.cost
    assert model[0].U is model[2].U if plan.chosen["0"].family == "low_rank" else True
    assert {id(p) for n, p in model[0].named_parameters() if n != "bias"} == {
        id(p) for n, p in model[2].named_parameters() if n != "bias"
    }


def test_parts_patterns_and_frozen_layers():
    model = nn.Sequential(nn.Linear(32, 96), nn.Linear(96, 32), nn.Linear(32, 32), nn.Linear(32, 32))
    model[3].requires_grad_(False)
    with pytest.warns(UserWarning, match="frozen"):
        plan = compress(model, 0.4, "btt", exclude="1", parts={"0": 3})
    assert [one.names[0] for one in plan.layers] == ["0", "2"]
    report = plan.apply_()
    assert isinstance(model[0], lo.nn.torch.parts.Parts)
    assert [type(model[k]) for k in (1, 3)] == [nn.Linear, nn.Linear]
    rows = [row for row in report if row.name.startswith("0.")]
    assert len(rows) == 3
    W = math.fsum(row.weight_error**2 for row in rows) / 3  # of about equal norms
    assert pytest.approx(W, rel=0.1) == plan.chosen["0"].error
    assert list(compress(net(), where=["0", "re:[2]"]).chosen) == ["0", "2"]


def test_conv1d_zero_layers_and_layers_out_of_reach():
    model = nn.Sequential(Conv1D(16, 32), nn.Linear(16, 16), nn.Linear(16, 16))
    nn.init.zeros_(model[1].weight)
    plan = compress(model, 0.5, ("low_rank", "btt:rank=2"))
    assert plan.layers[0].shape == (16, 32)
    assert {one.error for one in plan.layers[1].options} == {0.0}
    assert {one.text for one in plan.layers[1].options if one.family == "btt:rank=2"} == {"btt:rank=2"}
    plan.apply_()
    assert not torch.any(matrix(model[1]) != 0)

    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Linear(16, 16), nn.Linear(16, 16)

        def forward(self, x):
            return self.used(x)

    with pytest.warns(UserWarning, match=r"no input of the calibration reached 'idle'"):
        assert len(compress(Idle(), calibration=[randn(50, 16)]).layers) == 2
    with pytest.raises(ValueError, match=r"no input reached 'idle'; exclude="):
        compress(Idle(), calibration=lambda m: m(randn(50, 16)).square().mean(), criterion="loss")


# ---------------------------------------------------------------- applying


def test_a_plan_is_applied_once_to_what_was_measured():
    model = net(widths=(32, 32, 32))
    plan = compress(model, 0.5)
    with torch.no_grad():
        model[0].bias[0] += 1
    with pytest.raises(RuntimeError, match=r"the model has changed since it was measured, as '0.bias'"):
        plan.apply_()
    plan = compress(model, 0.5)
    plan.at(0.25).apply_()
    with pytest.raises(RuntimeError, match="was applied already"):
        plan.apply_()


def test_a_failed_apply_changes_nothing_and_can_be_repeated():
    model, calls = net(widths=(32, 32, 32)), []

    def run(model):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("interrupted")
        model(randn(100, 32))

    plan = compress(model, 0.3, calibration=run)
    with pytest.raises(RuntimeError, match="interrupted"):
        plan.apply_()
    assert type(model[0]) is nn.Linear
    assert len(plan.apply_()) == 2


@pytest.mark.full
def test_random_calibration_is_reproducible():
    model, state = net(widths=(32, 32, 32)), torch.get_rng_state()

    def run(model):
        model(torch.randn(100, 32))

    plans = [compress(model, 0.3, calibration=run, seed=seed) for seed in (0, 0, 1)]
    assert plans[0] == plans[1] != plans[2]
    assert torch.equal(torch.get_rng_state(), state)


def test_it_prints_draws_and_tells(tmp_path):
    model = nn.ModuleDict({f"a_rather_long_name_of_a_module_{k}": net() for k in range(3)})
    plan = compress(model, 0.4)
    text = str(plan)
    assert all(len(line) <= 80 for line in text.splitlines())
    assert f"{plan.cost:,}" in text
    plan.plot(tmp_path / "new" / "plot.png", [0.3, 0.5, 1])
    assert (tmp_path / "new" / "plot.png").read_bytes()[:4] == b"\x89PNG"
    told = json.loads(plan.to_json())
    assert told["cost"] == plan.cost
    assert [one["options"][one["pick"]]["text"] for one in told["layers"]] == [one.text for one in plan.chosen.values()]


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"budget": 0}, ValueError, "expected more than 0"),
        ({"budget": 1.5}, ValueError, "a share of at most 1"),
        ({"budget": float("nan")}, ValueError, "expected"),
        ({"budget": True}, TypeError, "expected a share"),
        ({"budget": "half"}, TypeError, "expected a share"),
        ({"budget": {"bytes": 3}}, ValueError, "'params'"),
        ({"budget": 0.001}, ValueError, r"cheapest options cost 84 together.* of dense; take more families"),
        ({"families": ()}, ValueError, "one family or more"),
        ({"families": ("btt", "btt")}, ValueError, "each once"),
        ({"families": (lo.btt,)}, TypeError, "names of families"),
        ({"families": "butter"}, ValueError, "no family 'butter'"),
        ({"criterion": "best"}, ValueError, "expected weight, activation, loss"),
        ({"criterion": "activation"}, ValueError, "needs calibration="),
        ({"where": {"0": "btt"}}, TypeError, "chosen by the plan"),
        ({"where": "nothing"}, ValueError, "no layer of the model is selected"),
        ({"calibration": iter([])}, TypeError, "read once"),
        ({"calibration": [torch.full((3, 12), torch.nan)]}, ValueError, "'0'.*NaN"),
        ({"families": "btt:rank=99"}, ValueError, "no layer has a member"),
    ],
)
@pytest.mark.filterwarnings("ignore:replace_linear replaced no layer")
def test_compress_refuses(arguments, error, match):
    with pytest.raises(error, match=match):
        compress(net(), **arguments)


def test_other_models_are_refused():
    with pytest.raises(ValueError, match=r"layer '0' is on the meta device"):
        compress(net(device="meta"))
    with pytest.raises(TypeError, match=r"lo.nn.compress\(int\)"):
        compress(3)
    model = net()
    model[2].weight.data[0, 0] = torch.inf
    with pytest.raises(ValueError, match=r"layer '2' \(16×16\): the weight holds NaN or infinity"):
        compress(model)


@pytest.mark.parametrize("family", ["btt", pytest.param("tensor_train", marks=pytest.mark.full)])
def test_errors_are_those_of_the_applied_plan(family):
    """Where inputs lie in few directions a few sweeps leave errors half as large again."""
    torch.manual_seed(0)
    x = torch.randn(400, 64) @ torch.diag(torch.arange(1.0, 65) ** -1.5) @ torch.linalg.qr(torch.randn(64, 64))[0]
    model = nn.Sequential(nn.Linear(64, 64))
    plan = lo.nn.compress(model, 0.3, family, calibration=[x], sequential=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*had not converged")
        (row,) = plan.apply_()
    assert plan.chosen["0"].error == pytest.approx(row.activation_error**2, rel=5e-3)
