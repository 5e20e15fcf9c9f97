"""Calibration of Flax NNX and Equinox models gives what it gives in PyTorch; `from_linear` of both."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from test_nn_project import matrix, net, randn, skewed

import linops as lo

jax = pytest.importorskip("jax")
nnx = pytest.importorskip("flax.nnx")
eqx = pytest.importorskip("equinox")


def run_through(layers, x):
    for layer in layers[:-1]:
        x = jax.nn.relu(layer(x))
    return layers[-1](x)


def flax_linear(layer):
    made = nnx.Linear(layer.in_features, layer.out_features, rngs=nnx.Rngs(0))
    made.kernel.set_value(jax.numpy.asarray(layer.weight.detach().numpy().T))
    made.bias.set_value(jax.numpy.asarray(layer.bias.detach().numpy()))
    return made


def equinox_linear(layer):
    made = eqx.nn.Linear(layer.in_features, layer.out_features, key=jax.random.key(0))
    arrays = tuple(jax.numpy.asarray(one.detach().numpy()) for one in (layer.weight, layer.bias))
    return eqx.tree_at(lambda one: (one.weight, one.bias), made, arrays)


class Flax(nnx.Module):
    """The model of `net`, whose layers are held in another order than that in which they run."""

    def __init__(self, model):
        self.layers = nnx.List([flax_linear(layer) for layer in model[::2]][::-1])

    def __call__(self, x):
        return run_through(self.layers[::-1], x)


class Equinox(eqx.Module):
    layers: list

    def __init__(self, model):
        self.layers = [equinox_linear(layer) for layer in model[::2]][::-1]

    def __call__(self, x):
        return run_through(self.layers[::-1], x)


class FlaxWay:
    """How the tests replace layers of Flax and run what comes out."""

    model = Flax
    linear = staticmethod(flax_linear)
    from_linear = staticmethod(lambda *args, **options: lo.nn.flax.from_linear(*args, **options))
    drawn = staticmethod(lambda: {"rngs": nnx.Rngs(0)})
    compiled = staticmethod(lambda model, x: nnx.jit(lambda model, x: model(x))(model, x))
    kernel = staticmethod(lambda dense: dense.kernel.get_value().T)
    bias = staticmethod(lambda layer: layer.bias.get_value())

    @staticmethod
    def replaced(model, *args, **options):
        report = lo.nn.flax.replace_linear(model, *args, weights="project", **options)
        return model, report

    @staticmethod
    def run(model, x):
        return model(x)


class EquinoxWay:
    """The same of Equinox."""

    model = Equinox
    linear = staticmethod(equinox_linear)
    from_linear = staticmethod(lambda *args, **options: lo.nn.equinox.from_linear(*args, **options))
    drawn = staticmethod(lambda: {"key": jax.random.key(0)})
    compiled = staticmethod(lambda model, x: eqx.filter_jit(lambda model, x: jax.vmap(model)(x))(model, x))
    kernel = staticmethod(lambda dense: dense.weight)
    bias = staticmethod(lambda layer: layer.bias)

    @staticmethod
    def replaced(model, *args, **options):
        return lo.nn.equinox.replace_linear(model, *args, weights="project", **options)

    @staticmethod
    def run(model, x):
        return jax.vmap(model)(x)


WAYS = pytest.mark.parametrize("way", [pytest.param(one, id=one.model.__name__) for one in (FlaxWay, EquinoxWay)])


def batches(x, size=100):
    return [jax.numpy.asarray(part.numpy()) for part in x.split(size)]


@pytest.mark.full
@WAYS
@pytest.mark.parametrize("family", ["low_rank:rank=3", "btt", "monarch:blocks=4"])
@pytest.mark.parametrize(
    ("how", "compiled"),
    [({}, False), ({"anchor": True}, False), ({"anchor": True}, True), ({"sequential": False}, True)],
    ids=["sequential", "anchored", "anchored and compiled", "as it was, compiled"],
)
def test_the_same_as_in_torch(way, family, how, compiled, capsys):
    model, x = net(), skewed(200, 12).float()
    given = batches(x)
    calibration = (lambda model: [way.compiled(model, batch) for batch in given]) if compiled else given
    new, report = way.replaced(way.model(model), family, calibration=calibration, progress=True, **how)
    expected = lo.nn.replace_linear_(model, family, weights="project", calibration=x.split(100), **how)
    for layer, other, row, its in zip(new.layers[::-1], model[::2], list(report)[::-1], expected):
        assert row.weight_error == pytest.approx(its.weight_error, rel=1e-3)
        assert row.activation_error == pytest.approx(its.activation_error, rel=1e-3, abs=1e-4)
        assert layer.operator.dtype == np.float32
        assert layer.operator.structure == other.operator.to(backend="jax").structure
    np.testing.assert_allclose(way.run(new, given[0]), model(x[:100]).detach(), atol=1e-4)
    printed = capsys.readouterr().err.splitlines()
    first = "layers.0" if "sequential" in how else "layers.2"
    assert len(printed) == 3
    assert f"1 of 3  {first}" in printed[0]


@pytest.mark.full
@WAYS
def test_batches_of_every_kind_and_functions(way):
    x = skewed(60, 12).float()
    given = batches(x, 20)
    found = []
    for calibration in (
        given,
        [np.asarray(batch) for batch in given],
        [(batch,) for batch in given],
        [{"x": batch} for batch in given],
        lambda model: [way.run(model, batch) for batch in given],
    ):
        new, _ = way.replaced(way.model(net()), "low_rank:rank=3", calibration=calibration)
        found.append(np.asarray(way.run(new, given[0])))
    for one in found[1:]:
        np.testing.assert_allclose(one, found[0], atol=1e-5)


@WAYS
def test_what_is_refused_leaves_the_model(way):
    x = jax.numpy.asarray(skewed(40, 12).float().numpy())
    bad = [x, x.at[3, 2].set(jax.numpy.nan)]
    for options, error, match in [
        ({"calibration": (one for one in [x])}, TypeError, "read once, and is read once a layer"),
        ({"calibration": x}, TypeError, r"of one batch, calibration=\[batch\]"),
        ({"calibration": 3}, TypeError, "expected batches, or a function"),
        ({"calibration": ["text"]}, TypeError, "batch 1 is of str"),
        ({"calibration": [(x, x)]}, TypeError, "of pairs with labels take the inputs"),
        ({"calibration": []}, ValueError, "must not be empty"),
        ({"calibration": [x], "moments": {}}, ValueError, "give one of them"),
        ({"anchor": True}, ValueError, "there is no calibration"),
        ({"calibration": [x], "anchor": True, "sequential": False}, ValueError, "sequential=False"),
        ({"calibration": bad}, ValueError, r"layer 'layers.2': inputs of shape .*NaN or infinity"),
        ({"calibration": lambda m: [way.compiled(m, one) for one in bad]}, ValueError, r"layer 'layers.2': .*NaN"),
        ({"calibration": lambda m: [way.run(m, x), 1 / 0]}, ZeroDivisionError, "division"),
    ]:
        model = way.model(net())
        before, kinds = np.asarray(way.run(model, x)), [type(one) for one in model.layers]
        structure = jax.tree.structure(model) if way is EquinoxWay else nnx.graphdef(model)
        with pytest.raises(error, match=match):
            way.replaced(model, "low_rank:rank=2", **options)
        np.testing.assert_array_equal(way.run(model, x), before)
        assert [type(one) for one in model.layers] == kinds
        assert (jax.tree.structure(model) if way is EquinoxWay else nnx.graphdef(model)) == structure


def test_what_fails_later_leaves_the_model_too():
    x, calls = jax.numpy.asarray(skewed(40, 12).float().numpy()), []

    def run(model):
        calls.append(model)
        if len(calls) == 3:  # the order, the first layer, the second
            raise KeyboardInterrupt
        model(x)

    model = Flax(net())
    before, bias = model(x), model.layers[2].bias
    structure = nnx.graphdef(model)
    with pytest.raises(KeyboardInterrupt):
        FlaxWay.replaced(model, "low_rank:rank=2", calibration=run)
    np.testing.assert_array_equal(model(x), before)
    assert model.layers[2].bias is bias
    assert nnx.graphdef(model) == structure


@pytest.mark.full
@WAYS
def test_layers_that_no_input_reaches(way):
    x = jax.numpy.asarray(skewed(100, 12).float().numpy())
    with pytest.warns(UserWarning, match=r"no input of the calibration reached layers 'layers.\*' \(2\)"):
        _, report = way.replaced(way.model(net()), "btt", calibration=lambda model: way.run(model.layers[2], x))
    assert [row.activation_error is None for row in report] == [True, True, False]


@pytest.mark.full
def test_modes_of_flax_are_kept():
    rngs = nnx.Rngs(0)
    model = nnx.Sequential(
        nnx.Linear(12, 16, rngs=rngs), nnx.BatchNorm(16, rngs=rngs), nnx.Dropout(0.5, rngs=rngs),
        nnx.LinearGeneral((16,), (2, 8), rngs=rngs),
    )  # fmt: skip
    x, structure = jax.numpy.asarray(skewed(100, 12).float().numpy()), nnx.graphdef(model.layers[1])
    mean = np.asarray(model.layers[1].mean.get_value())
    assert not model.layers[2].deterministic
    report = lo.nn.flax.replace_linear(model, "low_rank:rank=2", weights="project", calibration=[x], anchor=True)
    assert not model.layers[2].deterministic
    assert not model.layers[1].use_running_average
    assert nnx.graphdef(model.layers[1]) == structure
    np.testing.assert_array_equal(model.layers[1].mean.get_value(), mean)
    assert all(row.activation_error is not None for row in report)
    assert model(x).shape == (100, 2, 8)


def test_dropout_of_equinox_is_off():
    keys = jax.random.split(jax.random.key(0), 2)
    model = eqx.nn.Sequential(
        [eqx.nn.Linear(12, 16, key=keys[0]), eqx.nn.Dropout(0.5), eqx.nn.Linear(16, 8, key=keys[1])]
    )
    x = jax.numpy.asarray(skewed(100, 12).float().numpy())
    new, report = lo.nn.equinox.replace_linear(model, "low_rank:rank=2", weights="project", calibration=[x])
    assert not new.layers[1].inference
    assert all(row.activation_error < 1 for row in report)


def test_layers_within_scans_and_maps():
    """A layer that runs at every step is told all of them."""
    linear, x = equinox_linear(net()[2]), jax.numpy.asarray(skewed(60, 16).float().numpy())
    model = [linear]

    def run(model):
        jax.lax.scan(lambda carry, part: (carry, jax.vmap(model[0])(part)), 0, x.reshape(6, 10, 16))

    known = lo.Moments(16)
    known.add(np.asarray(x))
    replace = partial(lo.nn.equinox.replace_linear, model, "btt", weights="project")
    (one, _), (other, _) = replace(calibration=run), replace(moments={"0": known})
    np.testing.assert_allclose(one[0].operator.to_dense(), other[0].operator.to_dense(), atol=1e-5)
    np.testing.assert_allclose(one[0].bias, other[0].bias, atol=1e-5)


@pytest.mark.full
@WAYS
def test_half_precision(way):
    model, x = way.model(net()), jax.numpy.asarray(skewed(100, 12).numpy(), "bfloat16")
    model = jax.tree.map(lambda one: one.astype("bfloat16"), model)
    new, report = way.replaced(model, "low_rank:rank=3", calibration=[x])
    assert new.layers[0].operator.dtype == "bfloat16"
    assert report[2].activation_error < report[2].weight_error


@WAYS
@pytest.mark.parametrize("known", [None, "inputs", "second_moment"])
def test_one_layer(way, known):
    dense, x = net()[2], skewed(200, 16).float()
    given = {"inputs": {"inputs": x.numpy()}, "second_moment": {"second_moment": (x.T @ x / 200).double().numpy()}}
    options = given.get(known, {})
    layer = way.from_linear(way.linear(dense), "low_rank", rank=3, **options)
    expected = lo.nn.from_linear(
        dense, "low_rank", rank=3, **{key: torch.as_tensor(one) for key, one in options.items()}
    )
    np.testing.assert_allclose(layer.operator.to_dense(), matrix(expected), atol=1e-5)
    np.testing.assert_allclose(way.bias(layer), expected.bias.detach(), atol=1e-5)
    back = layer.to_dense()
    np.testing.assert_allclose(way.kernel(back), layer.operator.to_dense(), atol=1e-6)
    np.testing.assert_allclose(back(x[0].numpy()), layer(x[0].numpy()), atol=1e-5)
    assert type(back) is type(way.linear(dense))


@WAYS
def test_one_layer_of_zeros_and_what_is_refused(way):
    dense = copy.deepcopy(net()[2])
    with pytest.raises(TypeError, match=r"from_linear\(Linear\): it is a PyTorch module: use lo.nn.from_linear"):
        way.from_linear(dense, "btt")
    with pytest.raises(TypeError, match=r"from_linear\(int\): expected an"):
        way.from_linear(3, "btt")
    with pytest.raises(TypeError, match=r"from_linear\(Linear\): .*: use lo.nn.(flax|equinox).from_linear"):
        lo.nn.from_linear(way.linear(dense), "btt")
    with pytest.raises(ValueError, match="give one of them"):
        way.from_linear(way.linear(dense), "btt", inputs=randn(30, 16), second_moment=np.eye(16))
    with pytest.raises(ValueError, match="has another shape than the layer, 16×16"):
        way.from_linear(way.linear(dense), lo.btt(8, 16))
    torch.nn.init.zeros_(dense.weight)
    with pytest.raises(TypeError, match="a symbolic operator needs"):
        way.from_linear(way.linear(dense), "btt")
    layer = way.from_linear(way.linear(dense), "btt", **way.drawn())
    assert not np.any(layer.operator.to_dense())
    np.testing.assert_allclose(way.bias(layer), dense.bias.detach())


def test_the_bias_of_one_layer_of_flax_is_its_own():
    linear = nnx.LinearGeneral((3, 4), (2, 8), axis=(-2, -1), rngs=nnx.Rngs(0))
    x = np.asarray(skewed(100, 12)) + 1
    before = np.asarray(linear.bias.get_value())
    layer = lo.nn.flax.from_linear(linear, "low_rank:rank=2", inputs=x)
    assert layer.bias is not linear.bias
    assert np.abs(np.asarray(layer.bias.get_value()) - before).max() > 0
    np.testing.assert_array_equal(linear.bias.get_value(), before)
    assert layer(x.reshape(100, 3, 4)).shape == layer.to_dense()(x.reshape(100, 3, 4)).shape == (100, 2, 8)
