"""The torch layer under torch.compile, torch.export and torch.func."""

import pytest
import torch
from layer_cases import every_operator, every_traced_operator, expected, inputs, layer_of
from torch.func import functional_call, grad, jvp, vmap

import linops as lo

#: from inside torch, where it first loads its decompositions
torchs_own_warning = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")


def _gradients(function, layer, x):
    return torch.autograd.grad(function(x).sin().sum(), [x, *layer.parameters()])


def _assert_compiles(name, backend):
    torch._dynamo.reset()
    layer = layer_of(name)
    x = inputs(layer, 6).requires_grad_()
    compiled = torch.compile(layer, fullgraph=True, backend=backend)
    torch.testing.assert_close(compiled(x), layer(x), rtol=1e-10, atol=1e-10)
    for ours, theirs in zip(_gradients(compiled, layer, x), _gradients(layer, layer, x)):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@every_traced_operator
def test_compiles_without_graph_breaks(name):
    _assert_compiles(name, "aot_eager")


@torchs_own_warning
def test_compiles_with_inductor():
    _assert_compiles("btt_padded", "inductor")


def test_weight_norm_compiles():
    torch._dynamo.reset()
    layer = lo.nn.torch.Linear(lo.btt(12, 8), weight_norm=True)
    x = inputs(layer, 4, dtype="float32")
    torch.testing.assert_close(torch.compile(layer, fullgraph=True, backend="aot_eager")(x), layer(x))


def test_compiled_layer_follows_its_parameters():
    torch._dynamo.reset()
    layer = layer_of("btt")
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    x = inputs(layer, 3)
    compiled(x)
    with torch.no_grad():
        layer.cores_0.mul_(2)
    torch.testing.assert_close(compiled(x), expected(layer, x))


# torch's, which it hides itself
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@every_traced_operator
def test_exports(name):
    layer = layer_of(name)
    batch = torch.export.Dim("batch", min=2, max=64)
    program = torch.export.export(layer, (inputs(layer, 4),), dynamic_shapes=({0: batch},))
    x = inputs(layer, 7)
    torch.testing.assert_close(program.module()(x), layer(x), rtol=1e-12, atol=1e-12)
    assert set(program.state_dict) == set(layer.state_dict())


#: callables whose results lie in memory in different ways after torch.func.vmap
CALLABLES = {
    "matrix": lambda x, w: w @ x,
    "transpose": lambda x, w: w.T @ x,
    "from the left": lambda x, w: x @ w,
    "by entry": lambda x, w: w[0] * x,
    "turned": lambda x, w: x.flip(0),
    "einsum": lambda x, w: torch.einsum("ij,j->i", w, x),
    "reshaped": lambda x, w: (x.reshape(2, 4).T @ w[:2]).reshape(-1)[:8],
    "transform": lambda x, w: torch.fft.irfft(torch.fft.rfft(x) * torch.fft.rfft(w[0]), 8),
    "constant": lambda x, w: 0 * w[0],
}


# torch's, which it hides itself
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("name", CALLABLES)
def test_exports_of_callables(name):
    layer = lo.nn.torch.Linear(lo.Function((8, 8), CALLABLES[name], params=(lo.spec(8, 8),)))
    batch = torch.export.Dim("batch", min=2, max=64)
    program = torch.export.export(layer, (torch.zeros(4, 8),), dynamic_shapes=({0: batch},))
    x = torch.randn(7, 8)
    torch.testing.assert_close(program.module()(x), layer(x))


@every_operator
def test_functional_call_uses_the_given_parameters(name):
    layer, other = layer_of(name), layer_of(name)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(-0.5)
    x = inputs(layer, 3)
    torch.testing.assert_close(functional_call(layer, dict(other.named_parameters()), (x,)), other(x))


@every_operator
def test_gradient_of_each_example(name):
    layer = layer_of(name)
    parameters = {key: value.detach() for key, value in layer.named_parameters()}

    def loss(values, x):
        return functional_call(layer, values, (x,)).sin().sum()

    x = inputs(layer, 4)
    batched = vmap(grad(loss), in_dims=(None, 0))(parameters, x)
    for number in range(4):
        single = torch.autograd.grad(layer(x[number]).sin().sum(), list(layer.parameters()))
        for value, reference in zip(batched.values(), single):
            torch.testing.assert_close(value[number], reference, rtol=1e-10, atol=1e-10)


@every_operator
def test_ensemble_of_layers(name):
    layers = [layer_of(name) for _ in range(3)]
    with torch.no_grad():
        for number, layer in enumerate(layers):
            for parameter in layer.parameters():
                parameter.mul_(number + 1)
    stacked, buffers = torch.func.stack_module_state(layers)  # pyright: ignore[reportArgumentType]
    x = inputs(layers[0], 5)
    together = vmap(lambda p, b: functional_call(layers[0], (p, b), (x,)))(stacked, buffers)
    torch.testing.assert_close(together, torch.stack([layer(x) for layer in layers]), rtol=1e-10, atol=1e-10)


@every_operator
def test_second_derivatives(name):
    layer = layer_of(name)
    x = inputs(layer, 2).requires_grad_()
    scale = 0.1 / float(layer(x).detach().abs().max())
    values = [value.detach().requires_grad_() for value in layer.parameters()]
    names = list(dict(layer.named_parameters()))

    def function(x, *values):
        return functional_call(layer, dict(zip(names, values)), (x * scale,))

    assert torch.autograd.gradgradcheck(function, (x, *values), fast_mode=True)


@torchs_own_warning
def test_forward_mode():
    layer = layer_of("btt_rank")
    x = inputs(layer, 3)
    _, tangent = jvp(layer, (x,), (x,))
    torch.testing.assert_close(tangent, layer(x) - layer.bias)


@every_operator
def test_vmap_over_vectors(name):
    layer = layer_of(name)
    x = inputs(layer, 5)
    torch.testing.assert_close(vmap(layer)(x), layer(x), rtol=1e-10, atol=1e-10)
