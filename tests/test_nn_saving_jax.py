"""`save` and `load` of Flax and Equinox models, and files that go from one framework to the others."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch import nn

import linops as lo


class Flax(nnx.Module):
    def __init__(self, seed):
        rngs = nnx.Rngs(seed)
        self.up = nnx.Linear(8, 16, rngs=rngs)
        self.norm = nnx.LayerNorm(16, rngs=rngs)
        self.drop = nnx.Dropout(0.1, rngs=rngs)
        self.down = nnx.Linear(16, 8, rngs=rngs)

    def __call__(self, x):
        return self.down(nnx.relu(self.norm(self.up(x))))


class Equinox(eqx.Module):
    up: eqx.nn.Linear
    norm: eqx.nn.LayerNorm
    down: eqx.nn.Linear

    def __init__(self, seed):
        one, two = jax.random.split(jax.random.key(seed))
        self.up = eqx.nn.Linear(8, 16, key=one, dtype=jnp.float32)
        self.norm = eqx.nn.LayerNorm(16, eps=1e-6, dtype=jnp.float32)
        self.down = eqx.nn.Linear(16, 8, key=two, dtype=jnp.float32)

    def __call__(self, x):
        return self.down(jax.nn.relu(self.norm(self.up(x))))


class Torch(nn.Module):
    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.up, self.norm, self.down = nn.Linear(8, 16), nn.LayerNorm(16, eps=1e-6), nn.Linear(16, 8)

    def forward(self, x):
        return self.down(torch.relu(self.norm(self.up(x))))


def swapped(kind, family="btt", seed=0, **options):
    model = kind(seed)
    if kind is Torch:
        lo.nn.replace_linear_(model, family, where="up", **options)
    elif kind is Flax:
        lo.nn.flax.replace_linear(model, family, where="up", rngs=nnx.Rngs(seed + 9), **options)
    else:
        key = jax.random.key(seed + 9)
        model, _ = lo.nn.equinox.replace_linear(model, family, where="up", key=key, **options)
    return model


SAVE = {Torch: lambda *args: lo.nn.save(*args), Flax: lambda *args: lo.nn.flax.save(*args)}
SAVE[Equinox] = lambda *args: lo.nn.equinox.save(*args)
LOAD = {Torch: lambda *args: lo.nn.load(*args), Flax: lambda *args: lo.nn.flax.load(*args)}
LOAD[Equinox] = lambda *args: lo.nn.equinox.load(*args)


def state(model):
    if isinstance(model, nn.Module):
        return {name: np.asarray(tensor) for name, tensor in model.state_dict().items()}
    framework = lo.nn.flax if isinstance(model, nnx.Module) else lo.nn.equinox
    return {name: np.asarray(array) for name, array in framework.state_dict(model).items()}


def outputs(model):
    x = np.random.default_rng(0).standard_normal((5, 8)).astype("float32")
    if isinstance(model, nn.Module):
        return model(torch.from_numpy(x)).detach().numpy()
    return np.asarray(model(jnp.asarray(x)) if isinstance(model, nnx.Module) else jax.vmap(model)(jnp.asarray(x)))


def assert_same(one, other):
    a, b = state(one), state(other)
    assert a.keys() == b.keys()
    for name in a:
        assert (a[name].dtype, a[name].shape, a[name].tobytes()) == (b[name].dtype, b[name].shape, b[name].tobytes())


@pytest.mark.full
@pytest.mark.parametrize("to", [Torch, Flax, Equinox])
@pytest.mark.parametrize("kind", [Torch, Flax, Equinox])
@pytest.mark.parametrize("weight_norm", [False, True])
def test_a_file_goes_from_each_framework_to_each(kind, to, weight_norm, tmp_path):
    model = swapped(kind, "btt:rank=2", weight_norm=weight_norm)
    SAVE[kind](model, tmp_path / "m")
    found = LOAD[to](to(1), tmp_path / "m")
    assert_same(model, found)
    error = np.abs(outputs(model) - outputs(found)).max()
    assert error == 0 if kind is to else error < 1e-5


@pytest.mark.parametrize("kind", [Flax, Equinox])
def test_abstract_models_and_those_that_have_the_layers(kind, tmp_path):
    model = swapped(kind)
    SAVE[kind](model, tmp_path / "m")
    abstract = nnx.eval_shape(lambda: Flax(1)) if kind is Flax else eqx.filter_eval_shape(Equinox, 1)
    assert_same(model, LOAD[kind](abstract, tmp_path / "m"))
    assert_same(model, LOAD[kind](swapped(kind, seed=3), tmp_path / "m"))


@pytest.mark.parametrize("kind", [Flax, Equinox])
def test_what_does_not_fit_is_refused_and_the_model_stays(kind, tmp_path):
    SAVE[kind](swapped(kind), tmp_path / "m")
    for change, match in [
        (
            lambda model: nnx.Linear(8, 4, rngs=nnx.Rngs(0)),
            r"layer 'up' is 4×8 in the model and 16×8 in the file, Block",
        ),
        (lambda model: nnx.relu, "the model has no dense layer 'up'"),
    ]:
        model = kind(1)
        if kind is Flax:
            model.up = change(model)
        else:
            new = eqx.nn.Linear(8, 4, key=jax.random.key(0)) if "×" in match else jax.nn.relu
            model = eqx.tree_at(lambda one: one.up, model, new)
        before = state(model)
        with pytest.raises(ValueError, match=match):
            LOAD[kind](model, tmp_path / "m")
        assert state(model).keys() == before.keys()
    half = jax.tree.map(lambda x: x, kind(1))
    if kind is Flax:
        half.down.bias = None
        with pytest.raises(ValueError, match=r"the file has beside it 'down\.bias'"):
            LOAD[kind](half, tmp_path / "m")
        assert type(half.up) is nnx.Linear


@pytest.mark.parametrize("kind", [Flax, Equinox])
def test_dtypes_differ(kind, tmp_path):
    SAVE[kind](swapped(kind), tmp_path / "m")
    if kind is Flax:
        model = Flax(1)
        for layer in (model.up, model.down):
            layer.kernel.set_value(layer.kernel.get_value().astype("bfloat16"))
    else:
        model = jax.tree.map(lambda x: x.astype("bfloat16") if eqx.is_array(x) else x, Equinox(1))
    with pytest.raises(ValueError, match="is bfloat16 in the model and float32 in the file: convert the model first"):
        LOAD[kind](model, tmp_path / "m")


def test_a_counter_of_batches_may_be_missing(tmp_path):
    class Net(nnx.Module):
        def __init__(self):
            self.up = nnx.Linear(4, 4, rngs=nnx.Rngs(0))
            self.bn = nnx.BatchNorm(4, rngs=nnx.Rngs(0))

    class Same(nn.Module):
        def __init__(self):
            super().__init__()
            self.up, self.bn = nn.Linear(4, 4), nn.BatchNorm1d(4)

    lo.nn.flax.save(Net(), tmp_path / "flax")
    assert int(lo.nn.load(Same(), tmp_path / "flax").bn.num_batches_tracked) == 0
    lo.nn.save(Same(), tmp_path / "torch")
    assert float(lo.nn.flax.load(Net(), tmp_path / "torch").bn.var.get_value().sum()) == 4


@pytest.mark.full
def test_axes_of_attention(tmp_path):
    def attention(seed):
        return nnx.MultiHeadAttention(4, 8, decode=False, rngs=nnx.Rngs(seed))

    model = attention(0)
    lo.nn.flax.replace_linear(model, "low_rank:rank=2", rngs=nnx.Rngs(1))
    lo.nn.flax.save(model, tmp_path / "m")
    other = lo.nn.flax.load(attention(2), tmp_path / "m")
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 3, 8)), "float32")
    assert_same(model, other)
    assert np.array_equal(model(x), other(x))


def test_parts_are_of_torch_alone(tmp_path):
    model = Torch(0)
    lo.nn.replace_linear_(model, "btt", where="up", parts={"up": 2})
    lo.nn.save(model, tmp_path / "m")
    for kind in (Flax, Equinox):
        with pytest.raises(ValueError, match="layer 'up' consists of parts, for which JAX's frameworks have no layer"):
            LOAD[kind](kind(0), tmp_path / "m")


def test_models_of_another_framework(tmp_path):
    with pytest.raises(TypeError, match=r"it is a PyTorch module: use lo\.nn\.save"):
        lo.nn.flax.save(nn.Linear(2, 2), tmp_path / "m")
    with pytest.raises(TypeError, match=r"it is a module of Flax NNX: use lo\.nn\.flax\.load"):
        lo.nn.equinox.load(Flax(0), tmp_path / "m")
    with pytest.raises(TypeError, match=r"use lo\.nn\.equinox\.save"):
        lo.nn.save(Equinox(0), tmp_path / "m")
