"""What the tests of layers share: operators, layers of them with random numbers, inputs, and what they should give."""

import pytest
import torch
from layer_structures import OPERATORS

import linops as lo

every_operator = pytest.mark.parametrize("name", OPERATORS)
#: tracing takes seconds: these by default, all with `-m full`
TRACED = ("low_rank", "monarch_padded", "btt_rank", "circulant", "sparse")
every_traced_operator = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in TRACED else pytest.mark.full) for name in OPERATORS]
)


def layer_of(name, dtype="float64", **options):
    """A layer with random numbers everywhere, the bias too."""
    layer = lo.nn.torch.Linear(OPERATORS[name](), dtype=getattr(torch, dtype), **options)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return layer


def inputs(layer, *leading, dtype="float64", seed=1):
    """A random input of a layer."""
    shape = (*leading, layer.in_features)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(
        getattr(torch, dtype)
    )


def expected(layer, x):
    """The layer by dense arithmetic."""
    y = x @ layer.operator.to_dense().T
    return y if layer.bias is None else y + layer.bias
