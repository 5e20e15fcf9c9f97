"""`replace_linear_` with `weights="project"`: what is refused, and that it changes nothing."""

import copy

import pytest
import torch
from test_nn_project import net, randn, skewed
from torch import nn

import linops as lo

replace_ = lo.nn.replace_linear_


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("sequential", [True, False])
def test_nothing_is_changed_by_an_error(sequential):
    model = net()
    model[2].weight.data[0, 0] = torch.nan
    layers, state = list(model), copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=r"layer '(2|4)'.*NaN"):
        replace_(model, "low_rank", weights="project", calibration=[randn(64, 12)], sequential=sequential)
    assert list(model) == layers
    assert model.training
    assert all(torch.equal(one.nan_to_num(), state[name].nan_to_num()) for name, one in model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_activations_that_are_not_finite_name_their_layer():
    x = randn(64, 12)
    x[3, 4] = torch.inf
    with pytest.raises(ValueError, match=r"layer '0': inputs of shape \(64, 12\): the activations hold NaN"):
        replace_(net(), "low_rank", weights="project", calibration=[x])


class Gated(nn.Module):
    """Runs a layer on the rows whose sum of outputs before is positive: others, once that is compressed."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(12, 12), nn.Linear(12, 12)

    def forward(self, x):
        y = self.first(x)
        return self.second(y[y.sum(-1) > 0])


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"calibration": (randn(4, 12) for _ in range(2))}, TypeError, "read once, and is read once a layer"),
        ({"calibration": randn(4, 12)}, TypeError, r"of one batch, calibration=\[batch\]"),
        ({"calibration": {"input": randn(4, 12)}}, TypeError, r"of one batch, calibration=\[batch\]"),
        ({"calibration": 3}, TypeError, "expected batches, or a function"),
        ({"calibration": ["text"]}, TypeError, "batch 1 is of str"),
        ({"calibration": []}, ValueError, "must not be empty"),
        ({"calibration": [randn(4, 12)], "weights": "init"}, ValueError, "calibration is for weights='project'"),
        ({"calibration": [randn(4, 12)], "moments": {}}, ValueError, "give one of them"),
        ({"calibration": [randn(4, 12)], "anchor": True, "sequential": False}, ValueError, "sequential=False"),
        ({"anchor": True}, ValueError, "there is no calibration"),
        ({"moments": {"7": torch.eye(12)}}, ValueError, "'7' is no layer that is replaced: '0', '2', '4'|'7' is no"),
        ({"moments": {"0": torch.eye(3)}}, ValueError, r"layer '0': moments of shape \(3, 3\), expected \(12, 12\)"),
        ({"moments": torch.eye(12)}, TypeError, "expected a dict of the names"),
        ({"moments": {}, "weights": "init"}, ValueError, "moments are for weights='project'"),
    ],
)
def test_what_is_refused(options, error, match):
    with pytest.raises(error, match=match):
        replace_(net(), "low_rank", **{"weights": "project", **options})


def test_an_anchor_needs_the_same_vectors():
    torch.manual_seed(0)
    with pytest.raises(ValueError, match=r"layer 'second': .* originals for .* inputs"):
        replace_(Gated(), "low_rank", weights="project", rank=1, calibration=[randn(64, 12)], anchor=True)


def test_moments_of_inputs_and_of_what_they_were():
    x, changed = skewed(60, 4) + 1j * skewed(60, 4, seed=3), skewed(60, 4, seed=6) * (1 + 0.5j)
    known = lo.Moments(4)
    for before, after in zip(x.split(25), changed.split(25)):
        known.add(after, before)
    torch.testing.assert_close(known.cross, x.T @ changed.conj() / 60)
    centred = (x - x.mean(0)).T @ (changed - changed.mean(0)).conj() / 60
    torch.testing.assert_close(known.cross_covariance, centred)
    torch.testing.assert_close(known.originals.mean, x.mean(0))
    with pytest.raises(ValueError, match="with all inputs, or with none"):
        known.add(changed)
    with pytest.raises(ValueError, match="59 originals for 60 inputs"):
        known.add(changed, x[1:])
    assert known.count == known.originals.count == 60
    plain = lo.Moments(4)
    plain.add(x)
    with pytest.raises(ValueError, match="no originals were added"):
        plain.cross  # noqa: B018
