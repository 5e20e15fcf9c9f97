"""JAX on meshes of devices, and the layers of Flax and Equinox."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import equinox as eqx
import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import each

import linops as lo
from linops.backends import jax_mesh

#: the operators that are tried with automatic axes beside the families; with explicit ones all are, through the same
#: programs
AUTOMATIC = (
    "householder_product",
    "dft",
    "sparse_tall",
    "nested_kronecker_of_sums",
    "block_with_zeros",
    "jacobian_tall",
)


def table(*arguments):
    """What `meshes.py` finds wrong."""
    script = Path(__file__).with_name("meshes.py")
    environment = os.environ | {"PYTHONPATH": str(script.parents[2]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(script), *arguments], capture_output=True, text=True, env=environment, timeout=600
    )
    *lines, last = done.stdout.splitlines() or [""]
    assert last == "done", done.stderr[-2000:]
    return lines


@pytest.mark.full
@pytest.mark.parametrize("names", [("monarch",), ()], ids=["one", "all"])
def test_trial_14_explicit_axes_divide_every_product(names):
    assert table("explicit", *names) == []


def test_trial_14_the_type_of_an_explicit_axis_counts_on_one_device_too():
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Explicit,))
    A = lo.monarch(64, 64).init(seed=0, backend="jax")
    x = np.random.default_rng(0).standard_normal((8, 64)).astype(np.float32)
    with jax.set_mesh(mesh):
        y = jax.device_put(x, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))) @ A.T
    assert y.sharding.spec == jax.sharding.PartitionSpec("data", None)
    np.testing.assert_allclose(y, x @ A.to(backend="numpy").to_dense().T, rtol=1e-4, atol=1e-5)


@pytest.mark.full
def test_trial_28_automatic_axes_keep_the_division():
    assert table("auto", "families", *AUTOMATIC) == []


# ---------------------------------------------------------------- building where JAX traces


class Net(nnx.Module):
    def __init__(self, rngs):
        self.up, self.attention = nnx.Linear(16, 64, rngs=rngs), nnx.MultiHeadAttention(4, 64, decode=False, rngs=rngs)
        self.norm, self.down = nnx.LayerNorm(64, rngs=rngs), nnx.Linear(64, 16, rngs=rngs)

    def __call__(self, x):
        return self.down(self.norm(self.attention(self.up(x))))


def flax_net(seed=0):
    model = Net(nnx.Rngs(seed))
    lo.nn.flax.replace_linear(model, lo.btt, rngs=nnx.Rngs(seed + 1))
    return model


def equinox_net(key):
    one, two = jax.random.split(key)
    return lo.nn.equinox.replace_linear(eqx.nn.MLP(64, 64, 64, 1, key=one), lo.btt, key=two)[0]


@pytest.mark.full
def test_trial_17_flax_models_are_built_where_jax_traces():
    shapes = [(one.shape, one.dtype) for one in jax.tree.leaves(nnx.state(flax_net(), nnx.Param))]
    abstract = nnx.eval_shape(flax_net)
    assert isinstance(abstract.attention.query, lo.nn.flax.LinearGeneral)
    leaves = jax.tree.leaves(nnx.state(abstract, nnx.Param))
    assert [(one.shape, one.dtype) for one in leaves] == shapes
    assert all(isinstance(one, jax.ShapeDtypeStruct) for one in leaves)
    traced = jax.eval_shape(lambda: nnx.state(flax_net(), nnx.Param))
    assert [(one.shape, one.dtype) for one in jax.tree.leaves(traced)] == shapes
    made = nnx.jit(flax_net)()
    for found, expected in zip(
        jax.tree.leaves(nnx.state(made, nnx.Param)), jax.tree.leaves(nnx.state(flax_net(), nnx.Param)), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.full
def test_trial_17_equinox_models_are_built_where_jax_traces():
    key = jax.random.key(0)
    concrete, abstract = eqx.filter_jit(equinox_net)(key), eqx.filter_eval_shape(equinox_net, key)
    structures = [
        jax.tree.map(lambda one: (one.shape, one.dtype), eqx.filter(net, is_any_array)) for net in (concrete, abstract)
    ]
    assert structures[0] == structures[1]
    stacked = eqx.filter_vmap(equinox_net)(jax.random.split(key, 3))
    x = np.ones(64, np.float32)
    assert eqx.filter_jit(eqx.filter_vmap(lambda net: net(x)))(stacked).shape == (3, 64)
    assert np.any(eqx.filter_jit(concrete)(x))


def is_any_array(leaf):
    return eqx.is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct)


def test_trial_17_layers_that_start_at_zero_are_named_where_they_cannot_be_seen():
    def build():
        model = nnx.Sequential(nnx.Linear(16, 16, kernel_init=nnx.initializers.zeros, rngs=nnx.Rngs(0)))
        report = lo.nn.flax.replace_linear(model, lo.btt, zero="layers.0", rngs=nnx.Rngs(1))
        assert report[0].zero_init
        return model

    assert not np.any(nnx.jit(build)()(jnp.ones((2, 16))))


@pytest.mark.full
def test_trial_17_orbax_restores_into_an_abstract_model(tmp_path):
    orbax = pytest.importorskip("orbax.checkpoint")
    model = nnx.jit(flax_net)()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # orbax's own
        with orbax.StandardCheckpointer() as checkpointer:
            checkpointer.save(tmp_path / "net", nnx.state(model))
            checkpointer.wait_until_finished()
            graph, state = nnx.split(nnx.eval_shape(flax_net))
            device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
            state = jax.tree.map(lambda one: jax.ShapeDtypeStruct(one.shape, one.dtype, sharding=device), state)
            restored = nnx.merge(graph, checkpointer.restore(tmp_path / "net", state))
    x = np.ones((2, 3, 16), np.float32)
    run = nnx.jit(lambda one: one(x))
    assert np.array_equal(run(restored), run(model))


# ---------------------------------------------------------------- what is replaced, and what is left


@pytest.mark.full
def test_trial_30_projections_of_attention_are_replaced():
    model = nnx.Dict(attention=nnx.MultiHeadAttention(4, 64, in_kv_features=32, rngs=nnx.Rngs(0)))
    attention = model.attention
    old = {name: getattr(attention, name) for name in ("query", "key", "value", "out")}
    report = lo.nn.flax.replace_linear(model, lo.btt, rngs=nnx.Rngs(1), rank=2)
    assert [(row.name, row.shape) for row in report] == [
        ("attention.key", (64, 32)),
        ("attention.out", (64, 64)),
        ("attention.query", (64, 64)),
        ("attention.value", (64, 32)),
    ]
    assert report.totals[1] == report.new_params < report.totals[0] == report.old_params
    assert report.left == ()
    for name, layer in old.items():
        new = getattr(attention, name)
        assert isinstance(new, lo.nn.flax.LinearGeneral)
        assert new.bias is layer.bias
    x, y = (np.random.default_rng(0).standard_normal((2, 3, size)).astype(np.float32) for size in (64, 32))
    run = nnx.jit(lambda one: one(x, y, deterministic=True, decode=False))
    found = run(attention)
    dense = nnx.clone(attention)
    for name in old:  # multiplied out, the same
        setattr(dense, name, getattr(attention, name).to_dense())
        assert type(getattr(dense, name)) is nnx.LinearGeneral
        assert getattr(dense, name).kernel.shape == old[name].kernel.shape
    np.testing.assert_allclose(found, run(dense), rtol=1e-4, atol=1e-5)
    slopes = nnx.jit(nnx.grad(lambda one: jnp.square(run(one)).sum()))(attention)
    assert all(np.any(slope) for path, slope in nnx.to_flat_state(nnx.as_pure(slopes)) if path[-1] != "bias")


@pytest.mark.parametrize(
    ("sizes", "shape"),
    [
        ((6, (2, 3)), (4, 6)),
        (((2, 3), 5, -2, -1), (4, 2, 3)),
        (((2, 3), (5, 2), 1, 0), (2, 3, 4)),
        ((6, 5, 1), (4, 6, 2)),
    ],
)
@pytest.mark.full
def test_trial_30_linear_general_over_any_axes(sizes, shape):
    into, out, *axis = sizes
    axis = tuple(axis) or -1
    old = nnx.LinearGeneral(into, out, axis=axis, rngs=nnx.Rngs(0))
    m, n = np.prod(out), np.prod(into)
    matrix = np.asarray(old.kernel[...]).reshape(n, m).T
    new = lo.nn.flax.LinearGeneral(lo.Dense(matrix), old.in_features, old.out_features, old.axis)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    np.testing.assert_allclose(new(x), old(x), rtol=1e-5, atol=1e-6)
    assert new.bias.shape == old.bias.shape
    with pytest.raises(ValueError, match="expected"):
        new(np.ones([size + 1 for size in shape], np.float32))


@pytest.mark.full
def test_trial_30_layers_with_ways_of_their_own_are_left_with_the_reason():
    rngs = nnx.Rngs(0)
    model = nnx.Dict(
        plain=nnx.LinearGeneral(16, 16, rngs=rngs),
        batched=nnx.LinearGeneral(16, 16, batch_axis={0: 2}, rngs=rngs),
        exact=nnx.LinearGeneral(16, 16, precision="highest", rngs=rngs),
        products=nnx.LinearGeneral(16, 16, dot_general=jax.lax.dot_general, rngs=rngs),
        einsum=nnx.Einsum("bi,io->bo", (16, 16), rngs=rngs),
        experts=nnx.Dict(up=nnx.Param(jnp.ones((4, 16, 16)))),
        lora=nnx.LoRALinear(16, 16, lora_rank=2, rngs=rngs),
        norm=nnx.LayerNorm(16, rngs=rngs),
    )
    with pytest.warns(UserWarning, match="left layer"):
        report = lo.nn.flax.replace_linear(model, lo.btt, rngs=rngs)
    assert [row.name for row in report] == ["plain"]
    assert {name: reason.split(",")[0] for name, reason in report.skipped.items()} == {
        "batched": "has batch axes",
        "exact": "has its own precision",
        "products": "has its own dot_general",
        "lora": "is a LoRALinear",
    }
    left = {one.kind: one for one in report.left}
    assert left["Einsum"].why == "an einsum of its own"
    assert left["Dict [up]"].params == 1024
    assert left["LayerNorm [scale]"].names == ("norm",)
    assert sum(one.params for one in report.left) == report.totals[1] - report.new_params
    assert "% of the model" in str(report)
    with pytest.raises(ValueError, match="batch axes"):
        lo.nn.flax.replace_linear(model, lo.btt, where="batched", rngs=rngs)


@pytest.mark.full
def test_trial_30_equinox_says_what_was_left():
    one, two, three = jax.random.split(jax.random.key(0), 3)
    attention = eqx.nn.MultiheadAttention(2, 16, key=one)
    stack = eqx.filter_vmap(lambda key: eqx.nn.Linear(16, 16, key=key))(jax.random.split(two, 3))
    model = {"attention": attention, "conv": eqx.nn.Conv1d(16, 16, 3, key=two), "stack": stack, "scale": jnp.ones(5)}
    with pytest.warns(UserWarning, match="a stack of layers; replace it before stacking"):
        model, report = lo.nn.equinox.replace_linear(model, lo.btt, key=three)
    assert sorted(row.name for row in report) == [
        f"attention.{name}_proj" for name in ("key", "output", "query", "value")
    ]
    assert {one.kind: one.params for one in report.left} == {"Linear": 3 * 272, "Conv1d": 784, "dict [scale]": 5}
    assert report.totals == (4 * 256 + 3 * 272 + 784 + 5, report.new_params + 3 * 272 + 784 + 5)
    x = jnp.ones((3, 16))
    assert np.all(np.isfinite(model["attention"](x, x, x)))


def test_trial_30_models_of_other_frameworks_are_type_errors():
    key, rngs = jax.random.key(0), nnx.Rngs(0)
    linen, module = flax.linen.Dense(4), nnx.Linear(4, 4, rngs=rngs)
    with pytest.raises(TypeError, match=r"replace_linear\(Dense\): a Linen module holds no layers.*flax.nnx"):
        lo.nn.flax.replace_linear(linen, lo.btt, rngs=rngs)
    with pytest.raises(TypeError, match=r"a Linen module holds no layers"):
        lo.nn.equinox.replace_linear(linen, lo.btt, key=key)
    with pytest.raises(TypeError, match=r"use lo.nn.flax.replace_linear"):
        lo.nn.equinox.replace_linear(module, lo.btt, key=key)
    with pytest.raises(TypeError, match=r"use lo.nn.equinox.replace_linear"):
        lo.nn.flax.replace_linear(eqx.nn.Linear(4, 4, key=key), lo.btt, rngs=rngs)
    with pytest.raises(TypeError, match=r"expected a module of Flax NNX"):
        lo.nn.flax.replace_linear({"layer": module}, lo.btt, rngs=rngs)


def test_linen_modules_call_operators():
    structure = lo.btt(16, 16)

    class Layer(flax.linen.Module):
        @flax.linen.compact
        def __call__(self, x):
            stds = lo.initial_stds(structure)
            leaves = [
                self.param(name, flax.linen.initializers.normal(stds[name]), leaf.shape)
                for name, leaf in structure.named_leaves()
            ]
            return x @ structure.with_leaves(leaves).T

    y, variables = Layer().init_with_output(jax.random.key(0), jnp.ones((2, 16)))
    assert y.shape == (2, 16)
    assert sorted(variables["params"]) == ["cores_0", "cores_1"]


@pytest.mark.parametrize("size", each(3, [521, 509, 1042]))
def test_transforms_of_prime_lengths_on_a_mesh_take_no_square_of_memory(size):
    x = np.random.default_rng(0).standard_normal((2, size)).astype(np.float32)
    for transform in ("fft", "ifft", "rfft"):
        found = jax_mesh.fourier(jnp.asarray(x), transform, size, -1, None)
        expected = getattr(np.fft, transform)(x, size)
        np.testing.assert_allclose(found, expected, atol=3e-6 * np.abs(expected).max())
    traced = jax.make_jaxpr(lambda x: jax_mesh.fourier(x, "fft", 10007, -1, None))(
        jax.ShapeDtypeStruct((2, 10007), jnp.float32)
    )
    assert max(np.size(constant) for constant in traced.consts) < 4 * 10007
