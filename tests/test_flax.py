"""Layers of Flax NNX, and structured layers in its models."""

import copy
import pickle
import warnings

import numpy as np
import pytest

import linops as lo

jax = pytest.importorskip("jax")
nnx = pytest.importorskip("flax.nnx")

jnp = jax.numpy
MONARCH = lo.monarch(12, 8)


def layer(**options):
    return lo.nn.flax.Linear(lo.monarch(12, 8), rngs=nnx.Rngs(0), **options)


def x(*shape):
    return jnp.asarray(np.random.default_rng(0).standard_normal((*shape, 8)), "float32")


def loss(model, x):
    return (model(x) ** 2).sum()


# ---------------------------------------------------------------- the layer


def test_drawn_with_structure_aware_scale():
    wide = lo.nn.flax.Linear(lo.low_rank(400, 900, rank=100), rngs=nnx.Rngs(0))
    stds = lo.initial_stds(wide.structure.operator)
    for name in wide.leaf_names:
        assert float(jnp.std(getattr(wide, name)[...])) == pytest.approx(stds[name], rel=0.02)
    assert not np.any(wide.bias[...])


def test_computes_from_its_parameters():
    one = layer()
    one.factors_1_blocks = nnx.Param(one.factors_1_blocks[...] * 2)
    one.bias[...] += 1
    np.testing.assert_allclose(one(x(3)), x(3) @ one.operator.to_dense().T + 1, rtol=1e-5, atol=1e-5)
    nnx.update(one, jax.tree.map(jnp.zeros_like, nnx.state(one)))
    assert not np.any(one(x(3)))


def test_copies_compute_the_same():
    one = layer()
    graph, state = nnx.split(one)
    for other in (nnx.merge(graph, state), nnx.clone(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        np.testing.assert_array_equal(other(x(2, 3)), one(x(2, 3)))


def test_equal_structures_share_a_compilation():
    traces = []

    @nnx.jit
    def run(model, x):
        traces.append(1)
        return model(x)

    for one in (layer(), layer(), copy.deepcopy(layer())):
        np.testing.assert_allclose(run(one, x(3)), one(x(3)), rtol=1e-5, atol=1e-6)
    run(lo.nn.flax.Linear(lo.monarch(12, 8, blocks=2), rngs=nnx.Rngs(0)), x(3))
    assert len(traces) == 2


@pytest.mark.full
def test_ensemble_by_vmap():
    @nnx.split_rngs(splits=4)
    @nnx.vmap
    def make(rngs):
        return lo.nn.flax.Linear(lo.monarch(12, 8), rngs=rngs)

    models = make(nnx.Rngs(0))
    assert models.factors_1_blocks.shape[0] == 4
    y = nnx.vmap(lambda model, x: model(x), in_axes=(0, None))(models, x(3))
    assert y.shape == (4, 3, 12)
    assert not np.allclose(y[0], y[1])


def test_dtypes():
    one = layer(dtype="bfloat16", param_dtype="float32")
    assert one.bias[...].dtype == one.factors_1_blocks[...].dtype == "float32"
    assert one(x(3)).dtype == "bfloat16"
    assert one.to_dense()(x(3)).dtype == "bfloat16"
    assert layer()(x(3)).dtype == "float32"
    assert layer(param_dtype="float64")(x(3)).dtype == "float64"


def test_abstract():
    abstract = nnx.eval_shape(layer)
    assert abstract.operator.num_params == MONARCH.num_params
    assert isinstance(abstract.bias.get_value(), jax.ShapeDtypeStruct)


def test_zero_init_gets_a_gradient():
    one = layer(zero_init=True)
    assert not np.any(one(x(3)))
    zero, other = [np.asarray(leaf) for _, leaf in one.operator.named_leaves()]
    assert not zero.any()
    assert other.all()
    gradient = nnx.grad(lambda model, x: model(x).sum())(one, x(3))
    assert np.any(gradient[one.leaf_names[0]][...])


def test_weight_norm_caps_and_folds():
    one = layer(weight_norm=True)
    names = [f"{name}_gain" for name in one.leaf_names]
    assert set(names) < set(nnx.state(one))
    plain = layer()
    for number, (name, std) in enumerate(lo.initial_stds(MONARCH).items()):
        leaf = getattr(plain, name)[...] * (100 if number else 0.01)
        getattr(one, name)[...] = leaf
        getattr(one, f"{name}_gain")[...] = 3.0
        rms = float(jnp.sqrt((leaf**2).mean()))
        np.testing.assert_allclose(dict(one.operator.named_leaves())[name], 3 * leaf / max(1, rms / std), rtol=1e-5)
    y = one(x(3))
    np.testing.assert_allclose(one.to_dense()(x(3)), y, rtol=1e-4, atol=1e-5)
    one.fold()
    assert not set(names) & set(nnx.state(one))
    np.testing.assert_allclose(one(x(3)), y, rtol=1e-5)


def test_errors():
    with pytest.raises(TypeError, match=r"symbolic operator needs rngs=nnx.Rngs\(0\)"):
        lo.nn.flax.Linear(MONARCH)
    with pytest.raises(TypeError, match=r"lo.nn.flax.Linear\(16\): expected an operator"):
        lo.nn.flax.Linear(16, 16, rngs=nnx.Rngs(0))  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="some leaves are specs and some are arrays"):
        lo.nn.flax.Linear(lo.Dense(lo.spec(2, 2)) @ lo.Dense(np.ones((2, 2), "float32")), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="give a symbolic operator"):
        lo.nn.flax.Linear(MONARCH.init(backend="jax"), zero_init=True)
    with pytest.raises(ValueError, match=r"input of shape \(3, 7\); expected \(…, 8\)"):
        layer()(jnp.ones((3, 7)))
    with jax.enable_x64(False), pytest.raises(TypeError, match="jax_enable_x64"):
        layer(param_dtype="float64")


# ---------------------------------------------------------------- replace_linear


class Block(nnx.Module):
    def __init__(self, rngs):
        self.up = nnx.Linear(8, 12, rngs=rngs)
        self.down = nnx.Linear(12, 8, kernel_init=nnx.initializers.zeros, rngs=rngs)
        self.pair = nnx.data((nnx.Linear(8, 8, rngs=rngs), {"one": nnx.Linear(8, 8, use_bias=False, rngs=rngs)}))
        self.again = self.up

    def __call__(self, x):
        return x + self.down(self.again(x)) + self.pair[0](x) + self.pair[1]["one"](x)


class Model(nnx.Module):
    def __init__(self, rngs):
        self.blocks = nnx.List([Block(rngs), Block(rngs)])
        self.head = nnx.Sequential(nnx.LayerNorm(8, rngs=rngs), nnx.Linear(8, 3, rngs=rngs))

    def __call__(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def replace(model, family=lo.btt, **options):
    return lo.nn.flax.replace_linear(model, family, rngs=nnx.Rngs(1), **options)


@pytest.mark.full
def test_replaces_everywhere_and_once():
    model = Model(nnx.Rngs(0))
    biases = [model.blocks[0].up.bias, model.head.layers[1].bias]
    report = replace(model, exclude="head.*")
    assert len(report) == 8
    assert not [path for path, module in nnx.iter_modules(model.blocks) if isinstance(module, nnx.Linear)]
    first = model.blocks[0]
    assert first.up is first.again
    assert first.up.bias is biases[0]
    assert first.pair[1]["one"].bias is None
    assert type(model.head.layers[1]) is nnx.Linear
    assert isinstance(first.pair, tuple)
    assert np.isfinite(nnx.jit(lambda model, x: model(x))(model, x(2, 3))).all()


@pytest.mark.full
def test_zero_stays_zero_with_a_gradient():
    model = Model(nnx.Rngs(0))
    report = replace(model, where="*.down")
    assert [row.zero_init for row in report] == [True, True]
    assert not np.any(model.blocks[0].down(jnp.ones((2, 12))))
    assert np.any(nnx.jit(nnx.grad(loss))(model, x(3))["blocks"][0]["down"]["cores_1"][...])


def test_patterns():
    where = {
        "head.*": None,
        r"re:blocks\.0\..*": "low_rank",
        lambda name, module: module.kernel.shape == (12, 8): lo.monarch,
    }
    model = Model(nnx.Rngs(0))
    report = replace(model, None, where=where)
    assert {row.name: row.structure.partition("(")[0] for row in report} == {
        "blocks.0.again": "LowRank",  # the first of its two names
        "blocks.0.down": "LowRank",
        "blocks.0.pair.0": "LowRank",
        "blocks.0.pair.1.one": "LowRank",
        "blocks.1.down": "Product",
    }


def test_abstract_models_stay_abstract():
    model = nnx.eval_shape(lambda: Model(nnx.Rngs(0)))
    replace(model, where="blocks.*")
    assert isinstance(model.blocks[0].down.cores_0.get_value(), jax.ShapeDtypeStruct)


def test_dtypes_are_kept():
    model = nnx.Sequential(nnx.Linear(8, 12, dtype="bfloat16", rngs=nnx.Rngs(0)))
    replace(model)
    assert model.layers[0].cores_0[...].dtype == "float32"
    assert model(x(3)).dtype == "bfloat16"


def test_nothing_replaced_is_a_warning():
    with pytest.warns(UserWarning, match="replaced no layer"):
        replace(Model(nnx.Rngs(0)), where="nothing")


class Own(nnx.Linear):
    pass


def obstacles():
    rngs = nnx.Rngs(0)
    tied = nnx.List([nnx.Linear(8, 8, rngs=rngs), nnx.Linear(8, 8, rngs=rngs)])
    tied[1].kernel = tied[0].kernel
    return {
        "shares its kernel with another layer": tied,
        "is a Own, a subclass of nnx.Linear": nnx.List([Own(8, 8, rngs=rngs)]),
        "has its own precision": nnx.List([nnx.Linear(8, 8, precision="highest", rngs=rngs)]),
    }


@pytest.mark.parametrize("reason", list(obstacles()))
def test_what_cannot_be_replaced(reason):
    model = obstacles()[reason]
    with pytest.raises(ValueError, match=f"layer '0' {reason}"):
        replace(model, where="0")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        report = replace(model)
    assert any(reason in str(one.message) for one in caught)
    assert reason in report.skipped["0"]
    assert isinstance(model[0], nnx.Linear)


def test_a_family_that_refuses_changes_nothing():
    model = Model(nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"layer 'blocks\.0\..*low_rank.*more than dense"):
        replace(model, lo.low_rank, rank=8)
    assert type(model.blocks[1].up) is nnx.Linear
    with pytest.raises(ValueError, match="expected 'init'"):
        replace(model, weights="other")
    with pytest.raises(ValueError, match="is the whole model"):
        replace(nnx.Linear(8, 8, rngs=nnx.Rngs(0)), where="")


def test_functions_for_another_framework_name_the_right_one():
    with pytest.raises(TypeError, match=r"replace_linear_\(Linear\).*use lo\.nn\.flax\.replace_linear"):
        lo.nn.replace_linear_(nnx.Linear(4, 4, rngs=nnx.Rngs(0)), "btt")
    with pytest.raises(TypeError, match=r"param_groups\(Linear\).*use lo\.nn\.flax\.lr_multipliers"):
        lo.nn.param_groups(nnx.Linear(4, 4, rngs=nnx.Rngs(0)), lr=1.0)
