"""Weight normalisation of the torch layer: γ · G / max(1, rms(G) / rms0)."""

import copy

import pytest
import torch
from layer_cases import OPERATORS, every_operator, inputs, layer_of

import linops as lo


def normalised(name):
    return layer_of(name, weight_norm=True)


@every_operator
def test_forward_is_the_formula(name):
    layer = normalised(name)
    parameters = dict(layer.named_parameters())
    leaves = []
    for key, std in lo.initial_stds(layer.structure.operator).items():
        leaf = parameters[key]
        if std is None:
            assert f"{key}_gain" not in parameters
        else:
            leaf = parameters[f"{key}_gain"] * leaf / max(1.0, float(leaf.detach().square().mean().sqrt()) / std)
        leaves.append(leaf)
    plain = lo.nn.torch.Linear(layer.structure.operator, dtype=torch.float64)
    with torch.no_grad():
        for key, leaf in zip(lo.initial_stds(layer.structure.operator), leaves):
            plain.get_parameter(key).copy_(leaf)
        plain.bias.copy_(layer.bias)
    x = inputs(layer, 3)
    torch.testing.assert_close(layer(x), plain(x), rtol=1e-10, atol=1e-10)


@every_operator
def test_folds_to_the_same_map(name):
    layer = normalised(name)
    x = inputs(layer, 3)
    y = layer(x).detach()
    folded = copy.deepcopy(layer).fold_()
    assert set(folded.state_dict()) == set(layer_of(name).state_dict())
    assert not folded.weight_norm
    torch.testing.assert_close(folded(x), y)
    torch.testing.assert_close(layer.to_dense()(x), y)


def test_caps_and_never_raises():
    layer = lo.nn.torch.Linear(lo.dense(16, 16), bias=False, weight_norm=True)
    std = lo.initial_stds(layer.structure.operator)["matrix"]
    for size, kept in ((0.5, 0.5), (1.0, 1.0), (7.0, 1.0)):
        with torch.no_grad():
            layer.matrix.fill_(size * std)
        torch.testing.assert_close(layer.operator.to_dense(), torch.full((16, 16), kept * std))


def test_gradients_flow_through_the_norm():
    layer = normalised("low_rank")
    x = inputs(layer, 2)
    names = list(dict(layer.named_parameters()))

    def function(*values):
        return torch.func.functional_call(layer, dict(zip(names, values)), (x,))

    assert torch.autograd.gradcheck(function, [value.detach().requires_grad_() for value in layer.parameters()])
    direction = layer.U.detach().clone()
    grad = torch.autograd.grad(layer(x).sum(), layer.U)[0]
    # a capped factor has no radial gradient
    assert abs(float((grad * direction).sum())) < 1e-10 * float(grad.norm() * direction.norm())


@pytest.mark.parametrize("name", ["dense", "btt", "kronecker"])
def test_zero_factor_has_a_finite_gradient(name):
    layer = lo.nn.torch.Linear(OPERATORS[name](), zero_init=True, weight_norm=True)
    layer(torch.ones(2, layer.in_features)).sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in layer.parameters())
    assert any(parameter.grad.abs().max() > 0 for key, parameter in layer.named_parameters() if key != "bias")


def test_gains_start_at_one():
    layer = lo.nn.torch.Linear(lo.btt(16, 16), weight_norm=True, device="meta").to_empty(device="cpu")
    layer.reset_parameters()
    assert float(layer.cores_0_gain.detach()) == float(layer.cores_1_gain.detach()) == 1
