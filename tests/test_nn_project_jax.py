"""`replace_linear(weights="project")` in Flax NNX and Equinox gives what it gives in PyTorch."""

import numpy as np
import pytest
import torch
from test_nn_project import matrix, net, randn, skewed

import linops as lo

jax = pytest.importorskip("jax")
nnx = pytest.importorskip("flax.nnx")
eqx = pytest.importorskip("equinox")

FAMILIES = ["low_rank:rank=3", "btt", "monarch:blocks=4"]


class Flax(nnx.Module):
    def __init__(self, model):
        self.layers = nnx.List()
        for layer in model[::2]:
            made = nnx.Linear(layer.in_features, layer.out_features, rngs=nnx.Rngs(0))
            made.kernel.set_value(jax.numpy.asarray(layer.weight.detach().numpy().T))
            made.bias.set_value(jax.numpy.asarray(layer.bias.detach().numpy()))
            self.layers.append(made)


class Equinox(eqx.Module):
    layers: list

    def __init__(self, model):
        self.layers = []
        for layer in model[::2]:
            made = eqx.nn.Linear(layer.in_features, layer.out_features, key=jax.random.key(0))
            arrays = tuple(jax.numpy.asarray(one.detach().numpy()) for one in (layer.weight, layer.bias))
            self.layers.append(eqx.tree_at(lambda one: (one.weight, one.bias), made, arrays))


def flax_replaced(model, family, **options):
    twin = Flax(model)
    report = lo.nn.flax.replace_linear(twin, family, weights="project", **options)
    return twin.layers, [layer.bias.get_value() for layer in twin.layers], report


def equinox_replaced(model, family, **options):
    twin, report = lo.nn.equinox.replace_linear(Equinox(model), family, weights="project", **options)
    return twin.layers, [layer.bias for layer in twin.layers], report


#: flax's in full runs, but for one test
JAX = pytest.mark.parametrize(
    "replaced",
    [pytest.param(flax_replaced, marks=pytest.mark.full, id="flax"), pytest.param(equinox_replaced, id="equinox")],
)


def moments(x, hidden):
    """Of the first layer with its mean, of the second without; the third is projected by its weight alone."""
    known = lo.Moments(12)
    known.add(x)
    return {"0": known, "1": (hidden.T @ hidden / len(hidden)).numpy()}


@pytest.mark.full
@pytest.mark.parametrize("replaced", [flax_replaced, equinox_replaced])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("known", [False, True])
def test_the_same_as_in_torch(replaced, family, known):
    model, x = net(), skewed(200, 12).float()
    given = moments(x, torch.relu(model[0](x)).detach().double()) if known else {}
    layers, biases, report = replaced(model, family, moments={f"layers.{name}": one for name, one in given.items()})
    expected = lo.nn.replace_linear_(
        model, family, weights="project", moments={str(2 * int(name)): one for name, one in given.items()}
    )
    for layer, bias, other, row, its in zip(layers, biases, model[::2], report, expected):
        np.testing.assert_allclose(layer.operator.to_dense(), matrix(other), atol=1e-5)
        np.testing.assert_allclose(bias, other.bias.detach(), atol=1e-5)
        assert bias.dtype == layer.operator.dtype == np.float32
        assert row.weight_error == pytest.approx(its.weight_error, rel=1e-4)
        assert (row.activation_error is None) == (its.activation_error is None)
    assert [row.activation_error is not None for row in report] == [known, known, False]


@JAX
def test_moments_of_jax_arrays(replaced):
    x = skewed(100, 12).float()
    ours, theirs = lo.Moments(12), lo.Moments(12)
    ours.add(jax.numpy.asarray(x.numpy()))
    theirs.add(x)
    assert ours.second_moment.dtype == np.float64
    found = [replaced(net(), "btt", moments={"layers.0": one})[1][0] for one in (ours, theirs)]
    np.testing.assert_allclose(*found, atol=1e-6)


@JAX
def test_weight_norm_does_not_cap(replaced):
    model = net()
    model[0].weight.data *= 100
    layers, _, _ = replaced(model, "low_rank:rank=3", weight_norm=True)
    best = lo.project(model[0].weight.detach(), "low_rank:rank=3")
    x = randn(5, 12)
    y = np.asarray(layers[0](jax.numpy.asarray(x.numpy())))
    np.testing.assert_allclose(y, (x @ best.to_dense().T + model[0].bias).detach(), rtol=1e-3, atol=1e-3)


@pytest.mark.full
@JAX
def test_zeros_are_drawn_and_need_a_key(replaced):
    model = net()
    torch.nn.init.zeros_(model[2].weight)
    with pytest.raises(TypeError, match="a symbolic operator needs"):
        replaced(model, "btt")
    given = {"rngs": nnx.Rngs(0)} if replaced is flax_replaced else {"key": jax.random.key(0)}
    layers, _, report = replaced(model, "btt", **given)
    assert not np.any(layers[1].operator.to_dense())
    assert any(np.any(leaf) for _, leaf in layers[1].operator.named_leaves())
    assert [row.weight_error is None for row in report] == [False, True, False]


@pytest.mark.full
@JAX
def test_numbers_that_are_not_finite_name_their_layer(replaced):
    model = net()
    model[2].weight.data[0, 0] = torch.inf
    with pytest.raises(ValueError, match=r"layer 'layers.1' \(16×16\): .* NaN or infinity"):
        replaced(model, "low_rank")
    with pytest.raises(ValueError, match=r"'layers.7' is no layer that is replaced"):
        replaced(net(), "low_rank", moments={"layers.7": np.eye(12)})


def test_abstract_models_are_refused():
    model = nnx.eval_shape(lambda: nnx.Sequential(nnx.Linear(16, 16, rngs=nnx.Rngs(0))))
    with pytest.raises(ValueError, match=r"layer 'layers.0' is abstract or traced"):
        lo.nn.flax.replace_linear(model, "btt", weights="project")
    abstract = eqx.filter_eval_shape(eqx.nn.MLP, 16, 16, 16, 1, key=jax.random.key(0))
    with pytest.raises(ValueError, match=r"layer 'layers.0' is abstract or traced"):
        lo.nn.equinox.replace_linear(abstract, "btt", weights="project")


def test_linear_general():
    layer = nnx.LinearGeneral((3, 4), (2, 8), axis=(-2, -1), rngs=nnx.Rngs(0))
    model, x = nnx.Sequential(layer), np.asarray(randn(50, 3, 4))
    known = lo.Moments(12)
    known.add(x.reshape(50, 12) + 1)
    before = layer.kernel.get_value().reshape(12, 16).T, layer.bias.get_value()
    lo.nn.flax.replace_linear(model, "low_rank", weights="project", rank=3, moments={"layers.0": known})
    new = model.layers[0]
    matrix = np.asarray(new.operator.to_dense())
    # with its bias, the layer is right about the mean
    mean = np.asarray(known.mean)
    assert np.linalg.matrix_rank(matrix, tol=1e-4) == 3
    after = matrix @ mean + np.asarray(new.bias.get_value()).ravel()
    np.testing.assert_allclose(after, np.asarray(before[0]) @ mean + np.asarray(before[1]).ravel(), atol=1e-5)
    assert new(x).shape == (50, 2, 8)
