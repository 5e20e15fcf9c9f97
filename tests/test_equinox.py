"""Layers of Equinox, and structured layers in its models."""

import copy
import pickle
import warnings

import numpy as np
import pytest

import linops as lo

jax = pytest.importorskip("jax")
eqx = pytest.importorskip("equinox")

jnp = jax.numpy
KEY = jax.random.key(0)


def layer(**options):
    return lo.nn.equinox.Linear(lo.monarch(12, 8), key=KEY, **options)


def x(*shape):
    return jnp.asarray(np.random.default_rng(0).standard_normal((*shape, 8)), "float32")


def loss(model, x):
    return (jax.vmap(model)(x) ** 2).sum()


# ---------------------------------------------------------------- the layer


def test_drawn_with_structure_aware_scale():
    operator = lo.low_rank(400, 900, rank=100)
    wide = lo.nn.equinox.Linear(operator, key=KEY)
    for name, leaf in wide.operator.named_leaves():
        assert float(jnp.std(leaf)) == pytest.approx(lo.initial_stds(operator)[name], rel=0.02)
    assert not np.any(wide.bias)


def test_vectors_batches_and_vmap():
    one = layer()
    expected = x(2, 3) @ one.operator.to_dense().T
    for y in (
        one(x(2, 3)),
        jax.vmap(one)(x(2, 3)),
        jax.vmap(jax.vmap(one))(x(2, 3)),
        jax.jit(lambda one, x: one(x))(one, x(2, 3)),
    ):
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.full
@pytest.mark.parametrize(
    "gradient", [eqx.filter_grad(loss), jax.grad(loss), eqx.filter_jit(eqx.filter_grad(loss)), jax.jit(jax.grad(loss))]
)
def test_gradients_are_layers(gradient):
    one = layer()
    found = gradient(one, x(3))
    expected = 2 * (x(3) @ one.operator.to_dense().T).T @ x(3)  # with respect to the dense matrix
    tangent = jax.jvp(lambda operator: operator.to_dense(), (one.operator,), (found.operator,))[1]
    squares = sum((leaf**2).sum() for _, leaf in found.operator.named_leaves())
    np.testing.assert_allclose((expected * tangent).sum(), squares, rtol=1e-4)
    np.testing.assert_allclose(found.bias, 2 * (x(3) @ one.operator.to_dense().T).sum(0), rtol=1e-4, atol=1e-5)


def test_equal_structures_share_a_compilation():
    traces = []

    @eqx.filter_jit
    def run(model, x):
        traces.append(1)
        return model(x)

    for one in (layer(), layer(), copy.deepcopy(layer()), pickle.loads(pickle.dumps(layer()))):
        np.testing.assert_allclose(run(one, x(3)), one(x(3)), rtol=1e-5, atol=1e-6)
    assert len(traces) == 1


@pytest.mark.full
def test_ensemble_by_vmap():
    models = eqx.filter_vmap(lambda key: lo.nn.equinox.Linear(lo.monarch(12, 8), key=key))(jax.random.split(KEY, 4))
    y = eqx.filter_vmap(lambda model, x: model(x), in_axes=(eqx.if_array(0), None))(models, x(3))
    assert y.shape == (4, 3, 12)
    assert not np.allclose(y[0], y[1])


def test_parts_of_the_tree():
    one = layer()
    doubled = eqx.tree_at(lambda model: model.bias, one, one.bias + 1)
    np.testing.assert_allclose(doubled(x(3)), one(x(3)) + 1, rtol=1e-5, atol=1e-6)
    arrays, rest = eqx.partition(one, eqx.is_array)
    np.testing.assert_array_equal(eqx.combine(arrays, rest)(x(3)), one(x(3)))
    assert len(jax.tree.leaves(one)) == 3
    assert "Linear" in repr(one)


def test_dtypes_and_abstract():
    assert layer(dtype="bfloat16")(x(3).astype("bfloat16")).dtype == "bfloat16"
    abstract = eqx.filter_eval_shape(layer)
    assert abstract.in_features == 8
    assert abstract.operator.num_params == layer().operator.num_params


def test_zero_init_gets_a_gradient():
    one = layer(zero_init=True)
    zero, other = [np.asarray(leaf) for _, leaf in one.operator.named_leaves()]
    assert not zero.any()
    assert other.all()
    gradient = eqx.filter_grad(lambda model: model(x(3)).sum())(one)
    assert np.any(next(gradient.operator.named_leaves())[1])


def test_weight_norm_caps_and_folds():
    one = layer(weight_norm=True)
    scales = [0.01, 100.0]
    leaves = [leaf * scale for (_, leaf), scale in zip(one.operator.named_leaves(), scales)]
    gains = {name: jnp.full(1, 3, "float32") for name in one.gains}
    one = eqx.tree_at(lambda model: (model.operator, model.gains), one, (one.operator.with_leaves(leaves), gains))
    folded = one.fold()
    assert folded.gains is None
    for leaf, (_, actual), std in zip(leaves, folded.operator.named_leaves(), lo.initial_stds(one.operator).values()):
        np.testing.assert_allclose(actual, 3 * leaf / max(1, float(jnp.sqrt((leaf**2).mean())) / std), rtol=1e-5)
    np.testing.assert_allclose(folded(x(3)), one(x(3)), rtol=1e-5)
    np.testing.assert_allclose(jax.vmap(one.to_dense())(x(3)), one(x(3)), rtol=1e-4, atol=1e-5)
    assert layer().fold().gains is None


def test_errors():
    with pytest.raises(TypeError, match="symbolic operator needs key="):
        lo.nn.equinox.Linear(lo.monarch(12, 8))
    with pytest.raises(ValueError, match="give a symbolic operator"):
        lo.nn.equinox.Linear(lo.monarch(12, 8).init(), zero_init=True)
    with pytest.raises(ValueError, match="no factor of it can be zero"):
        lo.nn.equinox.Linear(lo.Identity(3) + lo.Dense(lo.spec(3, 3)), zero_init=True, key=KEY)


# ---------------------------------------------------------------- replace_linear


class Model(eqx.Module):
    mlp: eqx.nn.MLP
    attention: eqx.nn.MultiheadAttention
    pair: dict

    def __init__(self, key):
        self.mlp = eqx.nn.MLP(8, 8, 12, 2, key=key)
        self.attention = eqx.nn.MultiheadAttention(2, 8, key=key)
        zero = eqx.nn.Linear(8, 8, key=key)
        self.pair = {"zero": eqx.tree_at(lambda one: one.weight, zero, jnp.zeros((8, 8))), "other": (zero,)}

    def __call__(self, x):
        y = self.attention(x, x, x)
        y = y + jax.vmap(self.mlp)(y)
        return y + jax.vmap(self.pair["zero"])(y) + jax.vmap(self.pair["other"][0])(y)


def replace(model, family=lo.btt, **options):
    return lo.nn.equinox.replace_linear(model, family, key=KEY, **options)


@pytest.mark.full
def test_replaces_everywhere_in_a_new_model():
    model = Model(KEY)
    new, report = replace(model)
    assert len(report) == 3 + 4 + 2
    nodes = jax.tree.leaves(new, is_leaf=lambda node: isinstance(node, eqx.nn.Linear))
    assert not any(isinstance(node, eqx.nn.Linear) for node in nodes)
    assert isinstance(model.mlp.layers[0], eqx.nn.Linear)
    assert new.mlp.layers[0].bias is model.mlp.layers[0].bias
    assert np.isfinite(eqx.filter_jit(new)(x(5))).all()
    weights = [
        np.asarray(leaf)
        for key in ("query_proj", "key_proj")
        for _, leaf in getattr(new.attention, key).operator.named_leaves()
    ]
    assert not np.array_equal(weights[0], weights[2])


@pytest.mark.full
def test_zero_stays_zero_with_a_gradient():
    new, report = replace(Model(KEY), where="pair.zero")
    assert [row.zero_init for row in report] == [True]
    zero = new.pair["zero"]
    np.testing.assert_array_equal(zero(x(3)), np.broadcast_to(zero.bias, (3, 8)))
    assert np.any(
        eqx.filter_jit(eqx.filter_grad(lambda model, x: model(x).sum()))(new, x(5)).pair["zero"].operator.cores[1]
    )


def test_patterns():
    where = {
        "*.query_proj": None,
        r"re:mlp\.layers\.\d": "low_rank",
        lambda name, layer: name == "pair.zero": lo.monarch,
    }
    _, report = replace(Model(KEY), None, where=where, exclude="*.2")
    assert {row.name: row.structure.partition("(")[0] for row in report} == {
        "mlp.layers.0": "LowRank",
        "mlp.layers.1": "LowRank",
        "pair.zero": "Product",
    }


def test_a_layer_alone_and_abstract_models():
    new, _ = replace(eqx.nn.Linear(8, 12, key=KEY))
    assert isinstance(new, lo.nn.equinox.Linear)
    new, _ = replace(eqx.filter_eval_shape(Model, KEY), where="mlp.*")
    assert isinstance(new.mlp.layers[0].operator.cores[0], jax.ShapeDtypeStruct)


def test_nothing_replaced_is_a_warning():
    with pytest.warns(UserWarning, match="replaced no layer"):
        replace(Model(KEY), where="nothing")


class Own(eqx.nn.Linear):
    pass


OBSTACLES = {
    "is a Own, a subclass of equinox.nn.Linear": lambda: Own(8, 8, key=KEY),
    "has a weight of shape": lambda: eqx.filter_vmap(lambda key: eqx.nn.Linear(8, 8, key=key))(
        jax.random.split(KEY, 3)
    ),
    "has no array as its weight": lambda: eqx.filter(eqx.nn.Linear(8, 8, key=KEY), eqx.is_array, inverse=True),
    "maps from or to scalars": lambda: eqx.nn.Linear("scalar", 8, key=KEY),
}


@pytest.mark.parametrize("reason", OBSTACLES)
def test_what_cannot_be_replaced(reason):
    model = [OBSTACLES[reason]()]
    with pytest.raises(ValueError, match=f"layer '0' {reason}"):
        replace(model, where="0")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        new, report = replace(model)
    assert any(reason in str(one.message) for one in caught)
    assert reason in report.skipped["0"]
    assert isinstance(new[0], eqx.nn.Linear)
