"""A layer keeps its operator from one forward to the next, and sees all that may be done to its parameters between."""

import copy
import pickle
import weakref
from typing import Any

import pytest
import torch
from layer_cases import OPERATORS, every_operator, expected, inputs, layer_of
from torch import nn
from torch.nn.utils import parametrize, prune, stateless

import linops as lo
from linops import operators
from linops.nn.torch.kept import READ_ANEW
from linops.structure import Structure


@pytest.fixture
def filled(monkeypatch):
    """The structures of which operators are made meanwhile."""
    made, fill = [], Structure.fill

    def counted(self, *arguments, **options):
        made.append(self)
        return fill(self, *arguments, **options)

    monkeypatch.setattr(Structure, "fill", counted)
    return made


def _close(layer, x):
    torch.testing.assert_close(layer(x), expected(layer, x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", sorted(set(OPERATORS) - {"function"}))
def test_a_forward_makes_no_new_operator(name, filled):
    layer: Any = layer_of(name)
    for _ in range(2):  # what comes a second time is kept
        layer(inputs(layer, 3))
    filled.clear()
    layer(inputs(layer, 3)).sum().backward()
    with torch.no_grad():
        layer(inputs(layer, 2, 3))
    assert filled == []


@every_operator
def test_numbers_written_in_place_count(name):
    layer, other = layer_of(name), layer_of(name)
    x = inputs(layer, 3)
    layer(x)
    with torch.no_grad():
        for one, two in zip(layer.parameters(), other.parameters()):
            one.mul_(-0.5).add_(0.25)
            two.copy_(one)
    torch.testing.assert_close(layer(x), other(x), rtol=0, atol=0)
    _close(layer, x)


def test_tensors_of_one_call_are_not_held():
    """Of `torch.func`, and of hooks that put other parameters in before a forward and take them out after it."""
    layer: Any = layer_of("btt")
    x = inputs(layer, 3)
    own = dict(layer.named_parameters())

    def called(tensors):
        held = [weakref.ref(one) for one in tensors.values()]
        torch.func.functional_call(layer, tensors, x)
        return held

    held = called({name: one.detach().clone() for name, one in own.items()})
    held += called({name: nn.Parameter(one.detach().clone()) for name, one in own.items()})
    assert all(one() is None for one in held)
    for _ in range(2):  # as accelerate's offloading
        held = []
        for name, one in own.items():
            layer._parameters[name] = real = nn.Parameter(one.detach().clone())
            held.append(weakref.ref(real))
        del real
        layer(x)
        for name, one in own.items():
            layer._parameters[name] = nn.Parameter(one.detach().to("meta"))
        assert all(one() is None for one in held)


def test_all_operators_are_kept_that_keep_nothing_of_their_numbers():
    others = {getattr(operators, name) for name in operators.__all__} - READ_ANEW
    functions = {"Function", "Jacobian", "Hessian"}  # which compute by what users give
    assert {one.__name__ for one in others if isinstance(one, type)} == {*functions, "Power"}  # by closed forms


def test_an_inverse_follows_its_numbers():
    layer = lo.nn.torch.Linear(lo.linalg.inv(lo.Dense(2 * torch.eye(3))), bias=False)
    layer(torch.ones(3))
    with torch.no_grad():
        next(layer.parameters()).mul_(2)
    assert layer(torch.ones(3)).tolist() == [0.25] * 3


def test_other_tensors_in_the_place_of_parameters_count():
    layer: Any = layer_of("btt_rank")
    x = inputs(layer, 3)
    layer(x)
    layer.cores_0 = nn.Parameter(layer.cores_0.detach() * 3)
    _close(layer, x)
    layer.load_state_dict({name: one * 2 for name, one in layer.state_dict().items()}, assign=True)
    _close(layer, x)
    layer.cores_1.data = layer.cores_1.data + 1
    _close(layer, x)
    before = layer(x)
    tripled = {name: one.detach() * 3 for name, one in layer.named_parameters()}
    with stateless._reparametrize_module(layer, tripled):
        _close(layer, x)
    torch.testing.assert_close(layer(x), before, rtol=0, atol=0)


def test_another_dtype_counts():
    layer: Any = layer_of("btt_rank")
    x = inputs(layer, 3)
    y = layer(x)
    for parameter in layer.parameters():
        parameter.data = parameter.data.float()
    torch.testing.assert_close(layer(x.float()), y.float())
    torch.testing.assert_close(layer.double()(x).float(), y.float())


def test_index_arrays_count():
    layer: Any = layer_of("permuted")
    x = inputs(layer, 3)
    layer(x)
    name = layer._indices[0]
    setattr(layer, name, getattr(layer, name).flip(0))
    _close(layer, x)


def test_parametrizations_count(filled):
    layer: Any = layer_of("btt_rank")
    x = inputs(layer, 3)
    layer(x)
    parametrize.register_parametrization(layer, "cores_0", nn.Tanh())
    _close(layer, x)
    parametrize.remove_parametrizations(layer, "cores_0")
    _close(layer, x)
    prune.random_unstructured(layer, "cores_1", 0.5)
    _close(layer, x)
    prune.random_unstructured(layer, "bias", 0.5)
    _close(layer, x)


def test_a_tensor_that_hides_a_parameter_counts():
    layer: Any = layer_of("btt_rank")
    x = inputs(layer, 3)
    layer(x)
    for name in ("cores_0", "bias"):
        layer.__dict__[name] = layer._parameters[name].detach() * 2
        _close(layer, x)


def test_an_operator_of_a_class_of_its_own_counts():
    class Doubled(lo.nn.torch.Linear):
        @property
        def operator(self):
            return 2 * super().operator

    layer = Doubled(lo.btt(16, 16), dtype=torch.float64)
    x = torch.ones(3, 16, dtype=torch.float64)
    layer(x)
    _close(layer, x)


def test_freezing_between_two_products_counts():
    layer: Any = layer_of("btt_rank")
    x = inputs(layer, 64)
    layer(x)
    layer.cores_0.requires_grad_(False)
    layer(x).sum().backward()
    assert layer.cores_0.grad is None
    assert layer.cores_1.grad is not None


def test_transformations_leave_nothing_behind():
    layer: Any = layer_of("btt_rank")
    x = inputs(layer, 3)
    layer(x)
    values = {name: one.detach() for name, one in layer.named_parameters()}

    def loss(values):
        return torch.func.functional_call(layer, values, (x,)).square().sum()

    gradients = torch.func.grad(loss)(values)
    layer(x).square().sum().backward()
    for name, one in layer.named_parameters():
        torch.testing.assert_close(gradients[name], one.grad)
    each = torch.func.vmap(layer)(x)
    torch.testing.assert_close(each, layer(x), rtol=1e-12, atol=1e-12)
    assert all(type(one) is nn.Parameter for one in layer._kept[0])


def test_copies_and_files_carry_no_operator():
    layer: Any = layer_of("permuted")
    x = inputs(layer, 3)
    size = len(pickle.dumps(layer_of("permuted")))
    y = layer(x)
    assert len(pickle.dumps(layer)) == size
    for one in (copy.deepcopy(layer), copy.copy(layer), pickle.loads(pickle.dumps(layer))):
        assert one._kept is None
        torch.testing.assert_close(one(x), y, rtol=0, atol=0)
    other = copy.deepcopy(layer)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert not other(x).any()
    torch.testing.assert_close(layer(x), y, rtol=0, atol=0)
