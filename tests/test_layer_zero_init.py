"""Zero initialisation: exactly one factor of each chain is zero, the one nearest the output."""

import pytest
import torch
from layer_cases import OPERATORS

import linops as lo

LAST = {
    "dense": ("matrix",),
    "low_rank": ("U",),
    "block_diag": ("blocks",),
    "monarch": ("factors_1_blocks",),
    "btt": ("cores_1",),
    "btt_three": ("cores_2",),
    "btt_padded": ("factors_1_cores_1",),
    "butterfly": ("factors_0",),
    "butterfly_padded": ("factors_1_factors_0",),
    "einsum": ("tensors_0",),
    "blast": ("tensors_0",),
    "sum": ("terms_0_U", "terms_1_diagonal"),
    "scaled": ("base_cores_1",),
}


@pytest.mark.parametrize("name", LAST)
def test_leaf_nearest_the_output(name):
    assert OPERATORS[name]()._output_leaves() == LAST[name]


@pytest.mark.parametrize("name", [name for name in OPERATORS if name != "function"])  # of callables nothing is known
def test_zero_layer_learns(name):
    torch.manual_seed(0)
    layer = lo.nn.torch.Linear(OPERATORS[name](), zero_init=True)
    zero = {key for key, parameter in layer.named_parameters() if not parameter.any()}
    assert zero == {*layer.structure.operator._output_leaves(), "bias"}
    x = torch.randn(4, layer.in_features)
    assert not layer(x).any()
    layer(x).backward(torch.randn(4, layer.out_features))
    for key, parameter in layer.named_parameters():
        assert bool(parameter.grad.any()) == (key in zero), key
    layer.reset_parameters()
    assert zero == {key for key, parameter in layer.named_parameters() if not parameter.any()}


def test_what_cannot_be_zero_says_so():
    with pytest.raises(ValueError, match="no factor of it can be zero"):
        lo.nn.torch.Linear(lo.dense(4, 4) + lo.Identity(4), zero_init=True)
    with pytest.raises(ValueError, match="no factor of it can be zero"):  # at zero a square has no gradient
        lo.nn.torch.Linear(lo.dense(4, 4) ** 2, zero_init=True)
    with pytest.raises(ValueError, match="no factor of it can be zero"):  # x is where it is differentiated
        lo.nn.torch.Linear(lo.Jacobian(torch.sin, lo.spec(4), out_features=4), zero_init=True)
    with pytest.raises(ValueError, match="give a symbolic operator"):
        lo.nn.torch.Linear(lo.dense(4, 4).init(), zero_init=True)
