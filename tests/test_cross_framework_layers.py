"""One operator as a layer of PyTorch, Flax and Equinox: the same names, outputs and gradients."""

import numpy as np
import pytest

import linops as lo

torch = pytest.importorskip("torch")
jax = pytest.importorskip("jax")
nnx = pytest.importorskip("flax.nnx")
eqx = pytest.importorskip("equinox")

jnp = jax.numpy

FAMILIES = list(lo.families.FAMILIES.items())
CASES = [((24, 8), "float32", 1e-5), ((8, 24), "float64", 1e-12), ((7, 13), "float64", 1e-12)]


def gained(m, n, **options):
    """A sum with a learned scalar, a permutation and a Kronecker product."""
    spec = lo.spec(m, n, **options)
    gain = lo.operators.Scaled(lo.Dense(spec), 1, lo.spec(**options))
    return lo.Permute.random(m, 0) @ (gain + 2 * lo.low_rank(m, n, 2, allow_dearer=True, **options))


def case(family, size, dtype):
    options = {} if family in (lo.dense, gained) else {"allow_dearer": True}
    return family(*size, dtype=dtype, **options).init(seed=1, dtype=dtype)


def torch_values(layer, x, c):
    x = torch.from_numpy(x).requires_grad_()
    y = layer(x)
    (torch.tanh(y) * torch.from_numpy(c)).sum().backward()
    gradients = {name: p.grad.numpy() for name, p in layer.named_parameters()}
    return y.detach().numpy(), x.grad.numpy(), gradients


def loss(layer, x, c):
    y = layer(x)
    return (jnp.tanh(y) * c).sum(), y


def flax_values(layer, x, c):
    (gradient, x_gradient), y = nnx.jit(nnx.grad(loss, argnums=(0, 1), has_aux=True))(layer, x, c)
    return y, x_gradient, {name: value.get_value() for name, value in gradient.items()}


@eqx.filter_jit
def equinox_gradients(layer, x, c):
    return jax.grad(loss, argnums=(0, 1), has_aux=True)(layer, x, c)


def equinox_values(layer, x, c):
    (gradient, x_gradient), y = equinox_gradients(layer, x, c)
    return y, x_gradient, dict(gradient.operator.named_leaves()) | {"bias": gradient.bias}


@pytest.mark.parametrize(("size", "dtype", "tolerance"), CASES, ids=str)
@pytest.mark.parametrize("family", [family for _, family in FAMILIES] + [gained], ids=lambda family: family.__name__)
def test_forward_and_gradients_agree(family, size, dtype, tolerance):
    random = np.random.default_rng(0)
    operator = case(family, size, dtype)
    x = random.standard_normal((2, 3, size[1])).astype(dtype)
    c = random.standard_normal((2, 3, size[0])).astype(dtype)
    y, x_gradient, gradients = torch_values(lo.nn.torch.Linear(operator), x, c)
    assert list(gradients) == [*dict(operator.named_leaves()), "bias"]
    for module, values in ((lo.nn.flax, flax_values), (lo.nn.equinox, equinox_values)):
        other = values(module.Linear(operator), jnp.asarray(x), jnp.asarray(c))
        assert other[0].dtype == dtype
        for ours, theirs in zip((y, x_gradient), other[:2]):
            np.testing.assert_allclose(theirs, ours, rtol=tolerance, atol=tolerance * abs(ours).max())
        assert set(other[2]) == set(gradients)
        for name, gradient in gradients.items():
            assert other[2][name].shape == gradient.shape
            np.testing.assert_allclose(
                other[2][name], gradient, rtol=tolerance, atol=tolerance * abs(gradient).max(), err_msg=name
            )


@pytest.mark.parametrize("bias", [True, False])
def test_dense_layers_agree(bias):
    operator = lo.btt(12, 18).init(seed=0, dtype="float64")
    x = np.random.default_rng(0).standard_normal((5, 18))
    expected = lo.nn.torch.Linear(operator, bias=bias).to_dense()(torch.from_numpy(x)).detach().numpy()
    flax = lo.nn.flax.Linear(operator, bias=bias).to_dense()
    equinox = lo.nn.equinox.Linear(operator, bias=bias).to_dense()
    assert type(flax) is nnx.Linear
    assert type(equinox) is eqx.nn.Linear
    assert (flax.bias is None) == (equinox.bias is None) == (not bias)
    np.testing.assert_allclose(flax(x), expected, rtol=1e-12)
    np.testing.assert_allclose(jax.vmap(equinox)(x), expected, rtol=1e-12)


@pytest.mark.parametrize("framework", ["torch", "flax", "equinox"])
def test_to_layer(framework):
    operator = lo.monarch(12, 8).init(seed=0, backend="torch" if framework == "torch" else "jax")
    layer = operator.to_layer(framework=framework)
    assert isinstance(layer, getattr(lo.nn, framework).Linear)
    np.testing.assert_array_equal(
        lo.backends.to_numpy(layer.operator.to_dense()), lo.backends.to_numpy(operator.to_dense())
    )


def aligned(*shape):
    """Random numbers in memory that JAX would share: it starts at a multiple of 64 bytes."""
    size = int(np.prod(shape))
    buffer = np.zeros(size + 8)
    start = -buffer.ctypes.data % 64 // 8
    buffer[start : start + size] = np.random.default_rng(0).standard_normal(size)
    return buffer[start : start + size].reshape(shape)


@pytest.mark.parametrize("wrap", [np.asarray, torch.from_numpy])
def test_layers_share_no_memory_with_the_operator(wrap):
    array = aligned(8, 8)
    operator = lo.Dense(wrap(array))
    layers = [
        lo.nn.torch.Linear(operator, dtype=torch.float64),
        lo.nn.flax.Linear(operator, param_dtype="float64"),
        lo.nn.equinox.Linear(operator, dtype="float64"),
    ]
    expected = array.copy()
    array[:] = 0
    for layer in layers:
        np.testing.assert_array_equal(lo.backends.to_numpy(layer.operator.to_dense()), expected)
