"""`replace_linear_` with `weights="project"` on calibration data: the order of layers, norms, what is kept."""

import copy
import warnings

import pytest
import torch
from sklearn.datasets import load_digits
from test_nn_project import matrix, net, randn, skewed
from torch import nn

import linops as lo

replace_ = lo.nn.replace_linear_


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def best(W, x, rank):
    """The matrix of a rank that is nearest to W in the mean over x, and a little in all directions."""
    C = x.T @ x / len(x)
    C += 1e-6 * C.diagonal().mean() * torch.eye(len(C), dtype=C.dtype)
    U = torch.linalg.eigh(W @ C @ W.T)[1][:, -rank:]
    return U @ U.T @ W


class Order(nn.Module):
    """Two layers that are registered in the order opposite to that in which they run, and one that does not run."""

    def __init__(self):
        super().__init__()
        self.second, self.idle, self.first = nn.Linear(16, 8), nn.Linear(16, 16), nn.Linear(12, 16)

    def forward(self, x, scale=1.0):
        return scale * self.second(torch.relu(self.first(x)))


class Tied(nn.Module):
    """Two layers of one weight, one with a bias; the other is given half as many vectors."""

    def __init__(self):
        super().__init__()
        self.later, self.first = nn.Linear(16, 16, bias=False), nn.Linear(16, 16)
        self.later.weight = self.first.weight

    def forward(self, x):
        return self.later(torch.relu(self.first(x))[::2])


@pytest.mark.full
def test_digits():
    """Two hidden layers at an eighth of their weights keep the accuracy, where projection of the weights loses some."""
    images, labels = (torch.as_tensor(array) for array in load_digits(return_X_y=True))
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    x, y = images[order].float() / 16, labels[order]
    train = x[:1437]
    model = net(widths=(64, 256, 256, 256, 10))
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for epoch in range(20):
        for batch in torch.randperm(len(train), generator=torch.Generator().manual_seed(epoch)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()

    def accuracy(one):
        return float((one(x[1437:]).argmax(1) == y[1437:]).float().mean())

    plain, aware = copy.deepcopy(model), copy.deepcopy(model)
    replace_(plain, "btt", ["2", "4"], weights="project")
    report = replace_(aware, "btt", ["2", "4"], weights="project", calibration=train.split(200))
    assert report.new_params < report.old_params / 7.5
    assert accuracy(model) >= 0.975
    assert accuracy(aware) >= 0.97
    assert accuracy(plain) < 0.95
    assert all(row.weight_error > 1 > 0.2 > row.activation_error for row in report)  # they say different things


@pytest.mark.parametrize("sequential", [True, False])
def test_layers_follow_the_forward_pass(sequential, capsys):
    torch.manual_seed(0)
    model, x = Order().double(), skewed(200, 12)
    dense = copy.deepcopy(model)
    with pytest.warns(UserWarning, match="no input of the calibration reached layer 'idle'"):
        replace_(model, "low_rank", weights="project", rank=4, calibration=[x], sequential=sequential, progress=True)
    W = dense.first.weight.detach()
    first = best(W, x - x.mean(0), 4)
    torch.testing.assert_close(matrix(model.first), first, rtol=1e-6, atol=1e-8)
    h = torch.relu((model if sequential else dense).first(x)).detach()
    W = dense.second.weight.detach()
    torch.testing.assert_close(matrix(model.second), best(W, h - h.mean(0), 4), rtol=1e-6, atol=1e-8)
    shift = (W - matrix(model.second)) @ h.mean(0)
    torch.testing.assert_close(model.second.bias.detach(), dense.second.bias.detach() + shift, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(matrix(model.idle), best(dense.idle.weight.detach(), torch.eye(16).double(), 4))
    assert torch.equal(model.idle.bias, dense.idle.bias)
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == 3
    assert ("3 of 3  idle" in printed[2]) == sequential


def test_anchored_layers_come_near_to_the_original_outputs():
    model, x = net(widths=(12, 16, 16, 8)).double(), skewed(400, 12)
    dense = copy.deepcopy(model)
    reports = {}
    for anchor in (False, True):
        one = copy.deepcopy(model)
        reports[anchor] = (
            one,
            replace_(one, "low_rank", ["0", "2"], weights="project", rank=3, calibration=x.split(100), anchor=anchor),
        )
    changes = {anchor: (one[:3](x) - dense[:3](x)).square().mean() for anchor, (one, _) in reports.items()}
    assert changes[True] < changes[False]
    one, report = reports[True]
    h, before, y = one[:2](x), dense[:2](x), dense[:3](x)
    # the closed form: least squares of rank 3 from h to y, about the means
    centred, goal = (h - h.mean(0)).detach(), (y - y.mean(0)).detach()
    fitted = centred @ torch.linalg.lstsq(centred, goal, driver="gelsd").solution
    U = torch.linalg.svd(fitted.T)[0][:, :3]
    torch.testing.assert_close(one[:3](x), fitted @ U @ U.T + y.mean(0), rtol=1e-4, atol=1e-5)
    error = ((one[:3](x) - y).norm() / (y - y.mean(0)).norm()).detach()
    assert report[1].activation_error == pytest.approx(float(error), rel=1e-4)
    assert not torch.equal(h, before)


def test_tied_layers_share_what_is_best_for_both():
    torch.manual_seed(0)
    model, x = Tied().double(), skewed(300, 16)
    W, b = model.first.weight.detach().clone(), model.first.bias.detach().clone()
    hidden = torch.relu(model.first(x)).detach()[::2]
    replace_(model, "low_rank", weights="project", rank=4, calibration=[x])
    assert model.later.U is model.first.U
    found = best(W, torch.cat([x - x.mean(0), hidden]), 4)  # the bias takes the mean of the first alone
    torch.testing.assert_close(matrix(model.first), found, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(model.first.bias.detach(), b + (W - found) @ x.mean(0), rtol=1e-6, atol=1e-8)


def test_a_bias_that_layers_share_is_left():
    model, x = net(widths=(16, 16, 16)).double(), skewed(100, 16)
    model[2].bias = model[0].bias
    before = model[0].bias.detach().clone()
    replace_(model, "low_rank", weights="project", rank=2, calibration=[x])
    assert torch.equal(model[0].bias, before)
    assert model[2].bias is model[0].bias


def test_batches_of_every_kind_and_functions():
    x = skewed(60, 12)

    def run(model):
        for batch in x.split(20):
            model(batch, scale=2.0)

    found = []
    for calibration in (
        [x],
        x.split(20),
        [(batch, 2.0) for batch in x.split(20)],
        [{"x": batch, "scale": 0.5} for batch in x.split(20)],
        torch.utils.data.DataLoader(x, 20),
        run,
    ):
        torch.manual_seed(0)
        model = Order().double()
        replace_(model, "low_rank", ["first", "second"], weights="project", rank=2, calibration=calibration)
        found.append(model(x).detach())
    for one in found[1:]:
        torch.testing.assert_close(one, found[0])
    torch.manual_seed(0)
    model = Order().double()
    replace_(model, "low_rank", ["first", "second"], weights="project", rank=2, calibration=run, anchor=True)


def test_the_model_is_in_evaluation_mode_and_its_own_is_restored():
    model = nn.Sequential(nn.Linear(12, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 8))
    model[1].eval()
    modes, seen = [module.training for module in model.modules()], []

    def run(one):
        seen.append([one.training, one[2].training, torch.is_grad_enabled()])
        one(randn(64, 12))

    statistics = model[1].running_mean.clone()
    replace_(model, "low_rank", weights="project", calibration=run)
    assert seen
    assert not any(map(any, seen))
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(model[1].running_mean, statistics)


def test_functions_may_run_in_inference_mode():
    def run(model):
        with torch.inference_mode():
            model(randn(64, 12))

    model, other = net(), net()
    replace_(model, "btt", weights="project", calibration=run, anchor=True)
    replace_(other, "btt", weights="project", calibration=[randn(64, 12)], anchor=True)
    torch.testing.assert_close(model(randn(3, 12)), other(randn(3, 12)))
    model(randn(3, 12)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_moments_are_what_calibration_finds():
    model, x = net().double(), skewed(200, 12)
    dense, other = copy.deepcopy(model), copy.deepcopy(model)
    known = {"0": lo.Moments(12), "2": lo.Moments(16)}
    known["0"].add(x)
    known["2"].add(dense[:2](x))
    replace_(model, "low_rank", ["0", "2"], weights="project", calibration=[x], sequential=False)
    report = replace_(other, "low_rank", weights="project", moments=known)
    torch.testing.assert_close(other[:3](x), model[:3](x))
    assert [row.activation_error is None for row in report] == [False, False, True]
    again = copy.deepcopy(dense)
    replace_(again, "low_rank", "0", weights="project", moments={"0": (x.T @ x / 200).numpy()})
    torch.testing.assert_close(matrix(again[0]), best(dense[0].weight.detach(), x, again[0].U.shape[1]))


def test_dead_units_and_few_samples():
    model = net()
    model[0].bias.data[:8] = -100  # units that are never active
    report = replace_(model, "btt", "2", weights="project", calibration=[randn(64, 12)])
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    assert report[0].activation_error < 1
    with pytest.warns(UserWarning, match=r"fewer inputs than features at layers '\*' \(3\)"):
        replace_(net(), "low_rank", weights="project", calibration=[randn(5, 12)])


def test_transformers_of_torch_are_seen_through_their_fast_path():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    model, x = nn.TransformerEncoder(layer, 2), randn(8, 10, 16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = replace_(model, "low_rank", "*.linear?", weights="project", calibration=[x])
    assert len(report) == 4
    assert all(row.activation_error is not None for row in report)
    assert report[0].activation_error < report[0].weight_error


def test_half_precision_and_complex_models():
    model = net(dtype=torch.bfloat16)
    replace_(model, "btt", weights="project", calibration=[randn(64, 12, dtype=torch.bfloat16)])
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    model = nn.Sequential(nn.Linear(12, 8, dtype=torch.complex128))
    x = torch.complex(skewed(100, 12), skewed(100, 12, seed=5))
    W, b = model[0].weight.detach().clone(), model[0].bias.detach().clone()
    replace_(model, "low_rank", weights="project", rank=3, calibration=[x])
    mean = x.mean(0)
    U = torch.linalg.svd(W @ (x - mean).T)[0][:, :3]
    expected = (x - mean) @ (U @ U.mH @ W).T + mean @ W.T + b
    torch.testing.assert_close(model(x), expected, rtol=1e-6, atol=2e-5)
