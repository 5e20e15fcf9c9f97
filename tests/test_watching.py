"""`lo.nn.watch`: norms of layers and of what changed in them, against dense matrices."""

import math

import pytest
import torch
from torch import nn

import linops as lo
from linops.nn.torch.watching import spectral_norm


def test_it_sees_what_dense_matrices_say():
    torch.manual_seed(0)
    model = nn.Sequential(lo.btt(64, 16).to_layer(), nn.GELU(), nn.Linear(64, 8), lo.low_rank(4, 8).to_layer())
    optimizer = lo.nn.torch.Muon(lo.nn.param_groups(model, lr=0.05, optimizer="muon"))
    watched = lo.nn.watch(model, optimizer)
    for _ in range(2):
        before = [dense(model[place]) for place in (0, 2, 3)]
        optimizer.zero_grad()
        model(torch.randn(16, 16)).square().mean().backward()
        optimizer.step()
        rows = watched.look()
        assert [(row.name, row.shape) for row in rows] == [("0", (64, 16)), ("2", (8, 64)), ("3", (4, 8))]
        for row, old, place in zip(rows, before, (0, 2, 3)):
            now = dense(model[place])
            change = torch.linalg.matrix_norm(now - old, 2).item() / 0.05
            assert row.norm == pytest.approx(torch.linalg.matrix_norm(now, 2).item(), rel=0.02)
            assert row.change == pytest.approx(change, rel=0.05)
            assert row.relative == pytest.approx(row.change / math.sqrt(row.shape[0] / row.shape[1]))


def dense(layer):
    return (layer.weight if isinstance(layer, nn.Linear) else layer.operator.to_dense()).detach().clone()


def test_the_rate_is_that_of_a_dense_layer_or_the_callers():
    layer = lo.btt(16, 16).to_layer()
    optimizer = torch.optim.AdamW(lo.nn.param_groups(layer, lr=0.5))
    watched, plain = lo.nn.watch(layer, optimizer), lo.nn.watch(layer)
    with torch.no_grad():
        layer.cores_0.mul_(2)
    ours, (raw,) = watched.look(), plain.look()
    assert ours[0].change == pytest.approx(raw.change / 0.5)
    lo.nn.keep_rates(optimizer)
    assert lo.nn.watch(layer, optimizer)._rate() == 0.5
    with torch.no_grad():
        layer.cores_0.mul_(0.5)
    assert plain.look(lr=0.25)[0].change == pytest.approx(raw.change / 0.25)
    assert plain.look()[0].change == 0


def test_the_table_names_every_layer():
    watched = lo.nn.watch(nn.Sequential(lo.btt(16, 16).to_layer(), nn.Linear(16, 4)))
    assert "BlockTensorTrain" not in str(watched)
    watched.look()
    head, first, second, *legend = str(watched).splitlines()
    assert head.split() == ["layer", "structure", "shape", "‖W‖", "‖ΔW‖/lr", "/√(out/in)"]
    assert first.split()[:3] == ["0", "BlockTensorTrain", "16×16"]
    assert second.split()[:3] == ["1", "Dense", "4×16"]
    assert [line.split(":")[0] for line in legend] == [*head.split()[3:], "lr"]
    assert legend[-1] == "lr: 1"
    watched.look(0.5)
    assert str(watched).endswith("lr: 0.5")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64, torch.complex64], ids=str)
def test_norms_of_other_dtypes(dtype):
    name = str(dtype).removeprefix("torch.")
    operator = lo.monarch(24, 16, blocks=2).init(seed=0, backend="torch", dtype=name)
    matrix = operator.to_dense().to(torch.complex128)
    assert spectral_norm(operator) == pytest.approx(torch.linalg.matrix_norm(matrix, 2).item(), rel=0.02)


def test_a_model_without_linear_layers_and_no_model():
    with pytest.raises(ValueError, match="no structured layer"):
        lo.nn.watch(nn.GELU())
    with pytest.raises(TypeError, match="watch"):
        lo.nn.watch([nn.Linear(2, 2)])


@pytest.mark.parametrize(
    "other",
    [0.1, [], [{"params": []}], nn.Linear(2, 2), lo.nn.watch],
    ids=["number", "list", "groups", "layer", "function"],
)
def test_a_second_argument_that_is_no_optimiser(other):
    with pytest.raises(TypeError, match=r"^watch\(Linear, …\): expected an optimiser, got .*torch\.optim"):
        lo.nn.watch(nn.Linear(2, 2), other)


@pytest.mark.parametrize("lr", [-1, float("nan"), "0.1"])
def test_a_rate_to_divide_by_is_a_number(lr):
    watched = lo.nn.watch(nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"^look\(lr="):
        watched.look(lr)


def test_changes_are_divided_by_the_mean_rate_since_the_last_look():
    for wrapped in (False, True):
        model = nn.Sequential(nn.Linear(8, 8, bias=False))
        optimizer = torch.optim.SGD(lo.nn.param_groups(model, lr=1.0, optimizer="sgd"), lr=1.0)
        if wrapped:
            lo.nn.keep_rates(optimizer)
        watched, moved = lo.nn.watch(model, optimizer), []
        assert str(watched).startswith("no look yet")
        for rates in ((1.0, 1.0, 1e-4), (0.5,)):
            before = model[0].weight.detach().clone()
            for lr in rates:
                lo.nn.set_lr(optimizer, lr)
                optimizer.zero_grad()
                model(torch.ones(4, 8)).sum().backward()
                optimizer.step()
            change = torch.linalg.matrix_norm(model[0].weight.detach() - before, 2) * len(rates) / sum(rates)
            moved.append((watched.look()[0].change, float(change)))
        assert all(found == pytest.approx(expected, rel=1e-4) for found, expected in moved)


@pytest.mark.parametrize("head", [lambda: nn.Linear(64, 8), lambda: lo.btt(8, 64).to_layer()], ids=["dense", "btt"])
def test_a_head_that_adamw_steps_is_divided_by_adamws_rate(head):
    torch.manual_seed(0)
    model = nn.Sequential(lo.btt(64, 16).to_layer(), nn.Linear(64, 64), head())
    groups = lo.nn.param_groups(model, lr=0.05, optimizer="muon", adamw="2", adamw_lr=1e-3)
    optimizer = lo.nn.torch.Muon(groups)
    optimizer.load_state_dict(optimizer.state_dict())
    assert all("rate_ratio" not in group for group in optimizer.param_groups)  # state dicts are as they were
    watched, raw = lo.nn.watch(model, optimizer), lo.nn.watch(model)
    for lr in (0.05, 0.02):
        lo.nn.set_lr(optimizer, lr)
        model(torch.randn(16, 16)).square().mean().backward()
        optimizer.step()
        rates = [lr, lr, lr * 1e-3 / 0.05]
        rows, whole = watched.look(), raw.look()
        assert [row.lr for row in rows] == pytest.approx(rates)
        assert [row.change * row.lr for row in rows] == pytest.approx([row.change for row in whole])
        assert str(watched).splitlines()[-1] == f"lr: {lr}; {lr / 50:.3g} of '2'"
    watched.look(0.5)
    assert [row.lr for row in watched.rows] == [0.5] * 3


def test_without_a_rate_of_its_own_adamw_has_muons():
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4))
    watched = lo.nn.watch(model, lo.nn.torch.Muon(lo.nn.param_groups(model, 0.05, optimizer="muon", adamw="1")))
    assert [row.lr for row in watched.look()] == [0.05, 0.05]


@pytest.mark.parametrize("lr", [0.02, torch.tensor(0.02)], ids=["number", "tensor"])
@pytest.mark.parametrize("beside", [0.0, 0.001])
def test_the_rate_beside_muons_may_be_zero_and_is_a_number(lr, beside):
    model = nn.Sequential(lo.btt(16, 16).to_layer(), nn.Linear(16, 4), nn.Linear(4, 4))
    groups = lo.nn.param_groups(model, lr, optimizer="muon", adamw_lr=beside, adamw=["1", "2"])
    optimizer = lo.nn.torch.Muon(groups)
    watched = lo.nn.watch(model, optimizer)
    model(torch.randn(8, 16)).square().mean().backward()
    optimizer.step()
    assert [math.isfinite(row.change) for row in watched.look()] == [True] * 3
    assert all(type(ratio) is float for ratio in optimizer.rate_ratios)
    assert str(watched).count("'*' (2)") == 1
