"""What `lo.nn.compress` measures: errors of every rank from one SVD, as planned when applied, growth of the loss."""

import copy

import pytest
import torch
from test_nn_project import net, randn
from torch import nn

import linops as lo
from linops.families.choice import members
from linops.operators.dense import Dense
from linops.projection.goal import Goal
from linops.projection.spectra import Spectra

compress = lo.nn.compress


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("calibrated", [True, False])
def test_errors_are_as_planned(bias, calibrated):
    """Of one layer, whose inputs are the model's own: what is planned is what the report says."""
    model, x = nn.Sequential(nn.Linear(32, 32, bias=bias)), randn(400, 32) @ torch.diag(torch.arange(1.0, 33) ** -1) + 1
    given = {"calibration": [x]} if calibrated else {}
    base = compress(model, 1.0, **given)
    dense, *others = base.layers[0].options
    for option in [one for one in others if one.params < dense.params]:
        new = copy.deepcopy(model)
        plan = compress(new, {"params": option.params}, families=option.text, **given)
        planned = plan.layers[0].options[1]
        assert [getattr(planned, name) for name in FIELDS] == [getattr(option, name) for name in FIELDS]
        assert planned.error <= option.error * (1 + 1e-3) + 1e-6  # what may be chosen is measured by more sweeps
        (row,) = plan.apply_()
        error = row.activation_error if calibrated else row.weight_error
        assert plan.cost == row.new_params - 32 * bias
        assert error**2 <= plan.error * (1 + 1e-3) + 1e-6  # sweeps go on
        assert error**2 == pytest.approx(plan.error, rel=0.12, abs=1e-6)
        if option.family == "low_rank" or not calibrated:
            assert error**2 == pytest.approx(plan.error, rel=1e-3, abs=1e-6)


FIELDS = "text", "params", "macs"


@pytest.mark.parametrize("family", ["low_rank", "btt", "monarch", "kronecker"])
@pytest.mark.parametrize(("m", "n"), [(24, 36), (36, 24), (64, 16)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_one_svd_gives_the_errors_of_every_rank(family, m, n, dtype):
    W = torch.randn(m, n, dtype=dtype)
    X = torch.randn(200, n, dtype=dtype) * torch.arange(1, n + 1) ** -0.5
    C = X.T @ X.conj() / 200
    plain, aware = Spectra(Goal(Dense(W))), Spectra(Goal(Dense(W), None, C))
    known = 0
    for member in members(family, m, n):
        target, lost = member(m, n), plain.lost(member(m, n))
        if lost is not None:
            found = lo.project(W, target).to_dense()
            assert lost == pytest.approx(float((W - found).norm() ** 2), rel=1e-8, abs=1e-8)
            known += 1
        lost = aware.lost(target)
        assert (lost is not None) == (family == "low_rank")
        if lost is not None:
            E = W - lo.project(W, target, second_moment=C).to_dense()
            assert lost == pytest.approx(float((E @ C @ E.mH).trace().real), rel=1e-6, abs=1e-8)
    assert known or family == "kronecker"


def test_the_loss_grows_as_estimated():
    """A linear model with squared errors, of which the estimate is the increase itself, as gradients are noise."""
    torch.manual_seed(1)
    model, x = nn.Sequential(nn.Linear(12, 12, bias=False, dtype=torch.float64)), torch.randn(40000, 12).double()
    y = model(x).detach() + torch.randn(40000, 12, dtype=torch.float64)

    def loss(model):  # minus the log-likelihood
        return (model(x) - y).square().sum(-1).mean() / 2

    plan = compress(model, 0.6, "low_rank", calibration=loss, criterion="loss")
    before = float(loss(model).detach())
    plan.apply_()
    assert float(loss(model).detach()) - before == pytest.approx(plan.error, rel=0.05)


def test_the_loss_of_the_model_and_in_place_operations():
    class WithLoss(nn.Module):
        def __init__(self, inplace):
            super().__init__()
            self.first, self.act, self.last = nn.Linear(16, 16), nn.ReLU(inplace=inplace), nn.Linear(16, 16)

        def forward(self, x, labels):
            scores = self.last(self.act(self.first(x)))
            loss = nn.functional.cross_entropy(scores, labels)
            return type("Output", (), {"loss": loss, "logits": scores})()

    batches = [{"x": randn(64, 16), "labels": torch.arange(64) % 16}]
    plans = []
    for inplace in (False, True):
        torch.manual_seed(0)
        model = WithLoss(inplace)
        plans.append(compress(model, calibration=batches, criterion="loss"))
        assert all(parameter.grad is None for parameter in model.parameters())
        assert not any(len(module._forward_hooks) for module in model.modules())
        assert model.training
    assert plans[0] == plans[1]
    frozen = copy.deepcopy(model).requires_grad_(False)
    assert compress(frozen, calibration=batches, criterion="loss", where="*") == plans[0]
    with pytest.raises(TypeError, match=r"gave no loss.* but shape \(20, 8\)"):
        compress(net(), calibration=[randn(20, 12)], criterion="loss")


@pytest.mark.filterwarnings("ignore:.*had not converged")
def test_a_model_that_keeps_its_loss():
    class Keeps(nn.Sequential):
        def forward(self, x):
            y = super().forward(x)
            self.loss = y.square().mean()
            return y

    plans = []
    for calibration in ([randn(64, 16)], lambda model: model(randn(64, 16)).square().mean()):
        torch.manual_seed(0)
        model = Keeps(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16))
        plans.append(compress(model, 0.4, calibration=calibration, criterion="loss"))
        assert model.loss.requires_grad
        assert plans[-1].apply_().rows
    assert plans[0] == plans[1]
