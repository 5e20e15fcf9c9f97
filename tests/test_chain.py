"""`Chain`: low rank with an activation between its factors."""

import pytest
import torch
from torch import nn

import linops as lo
from linops.nn.torch import Chain


def test_definition_and_gradients():
    layer = Chain(6, 5, rank=2, activation=torch.tanh, dtype=torch.float64)
    x = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
    expected = torch.tanh(x @ layer.V.T) @ layer.U.T + layer.bias
    torch.testing.assert_close(layer(x), expected)
    assert torch.autograd.gradcheck(layer, x)
    assert isinstance(Chain(6, 5, rank=2).activation, nn.SiLU)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon"])
def test_scale_and_rates_are_those_of_low_rank(optimizer):
    def groups(layer):
        made = lo.nn.param_groups(nn.Sequential(layer), 0.1, 0.3, optimizer, base=16)
        return [(one["names"], one["lr"], one["weight_decay"], one.get("algorithm")) for one in made]

    torch.manual_seed(0)
    chain = Chain(96, 64, rank=8)
    torch.manual_seed(0)
    linear = lo.nn.torch.Linear(lo.low_rank(96, 64, rank=8))
    assert groups(chain) == groups(linear)
    assert all(torch.equal(chain.get_parameter(name), linear.get_parameter(name)) for name in ("U", "V", "bias"))


def test_files_keep_it(tmp_path):
    def model():
        return nn.Sequential(Chain(16, 8, rank=2), nn.Linear(16, 4))

    ours, other = model(), model()
    lo.nn.replace_linear_(ours, "low_rank:rank=1", where="1")
    lo.nn.save(ours, tmp_path / "model.safetensors")
    x = torch.randn(3, 8)
    assert torch.equal(lo.nn.load(other, tmp_path / "model.safetensors")(x), ours(x))


def test_ranks():
    assert Chain(100, 50).rank == lo.low_rank(100, 50).U.shape[1]
    with pytest.raises(ValueError, match=r"Chain\(1, 9\): no rank is as cheap"):
        Chain(1, 9)
    with pytest.raises(ValueError, match="lower the rank"):
        Chain(8, 8, rank=7)
