"""Rates and decay of JAX layers that are stacked for scan, and of modules whose arrays are no plain matrices."""

import pytest

import linops as lo

jax = pytest.importorskip("jax")
nnx = pytest.importorskip("flax.nnx")
eqx = pytest.importorskip("equinox")
optax = pytest.importorskip("optax")
jnp = jax.numpy

KEYS = jax.random.split(jax.random.key(0), 3)


def shapes(make):
    """A model of shapes alone, three of them stacked: the same rates, and nothing to compile."""
    return eqx.filter_eval_shape(eqx.filter_vmap(make), KEYS)


def leaves(tree):
    return jax.tree.leaves(tree)


def test_trial_11_stacked_structures_have_the_multipliers_of_one():
    def make(key):
        return lo.nn.equinox.Linear(lo.btt(64, 64), key=key)

    one, stacked = make(KEYS[0]), eqx.filter_vmap(make)(KEYS)
    assert leaves(lo.nn.equinox.lr_multipliers(stacked)) == leaves(lo.nn.equinox.lr_multipliers(one)) == [4, 4, 1]
    assert leaves(lo.nn.equinox.lr_multipliers(stacked, "sgd", 16)) == leaves(
        lo.nn.equinox.lr_multipliers(one, "sgd", 16)
    )
    assert leaves(lo.nn.equinox.decay_mask(stacked)) == leaves(lo.nn.optax.decay_mask(stacked)) == [True, True, False]


@pytest.mark.parametrize("family", [name for name in lo.families.FAMILIES if name not in ("circulant", "toeplitz")])
def test_trial_11_of_every_family(family):
    def make(key):
        return lo.nn.equinox.Linear(getattr(lo, family)(64, 32), key=key, weight_norm=True)

    one = eqx.filter_eval_shape(make, KEYS[0])
    assert leaves(lo.nn.equinox.lr_multipliers(shapes(make), base=16)) == leaves(
        lo.nn.equinox.lr_multipliers(one, base=16)
    )
    assert leaves(lo.nn.equinox.decay_mask(shapes(make))) == leaves(lo.nn.equinox.decay_mask(one))


def test_trial_11_stacked_vectors_of_a_structure_are_not_decayed():
    def make(key):
        return lo.nn.equinox.Linear(lo.Diagonal(lo.spec(32)) @ lo.low_rank(32, 32, rank=2), key=key)

    assert leaves(lo.nn.equinox.decay_mask(shapes(make))) == [False, True, True, False]


EQUINOX = {  # (multiplier with base 16, decayed) of each array
    "linear": (lambda w, key: eqx.nn.Linear(w, 2 * w, key=key), [(0.25, True), (1, False)]),
    "conv": (lambda w, key: eqx.nn.Conv2d(w, w, 3, key=key), [(0.25, True), (1, False)]),
    "transposed": (lambda w, key: eqx.nn.ConvTranspose2d(w, w, 3, key=key), [(0.25, True), (1, False)]),
    "embedding": (lambda w, key: eqx.nn.Embedding(7, w, key=key), [(1, True)]),
    "norm": (lambda w, key: eqx.nn.LayerNorm((3, w)), [(1, False), (1, False)]),
    "cell": (lambda w, key: eqx.nn.GRUCell(w, w, key=key), [(0.25, True), (0.25, True), (1, False), (1, False)]),
}


@pytest.mark.parametrize("name", EQUINOX)
@pytest.mark.parametrize("stacked", [False, True])
def test_trial_11_equinoxs_modules(name, stacked):
    build, expected = EQUINOX[name]

    def model(width):
        def make(key):
            return build(width, key)

        return shapes(make) if stacked else eqx.filter_eval_shape(make, KEYS[0])

    assert leaves(lo.nn.equinox.lr_multipliers(model(64), base=model(16))) == [rate for rate, _ in expected]
    assert leaves(lo.nn.equinox.decay_mask(model(64))) == [decayed for _, decayed in expected]


def test_trial_11_an_integer_base_of_stacked_dense_layers():
    stacked = shapes(lambda key: eqx.nn.Linear(64, 64, key=key))
    assert leaves(lo.nn.equinox.lr_multipliers(stacked, base=16)) == [0.25, 1]
    layers = flax_stacked(lambda rngs: nnx.Linear(64, 64, rngs=rngs))
    assert lo.nn.flax.lr_multipliers(layers, base=16) == {"kernel": 0.25, "bias": 1}


def flax_stacked(make):
    @nnx.split_rngs(splits=3)
    @nnx.vmap
    def build(rngs):
        return make(rngs)

    return nnx.eval_shape(lambda: build(nnx.Rngs(0)))


FLAX = {  # (multiplier with base 16, decayed) of each array
    "linear": (lambda w, rngs: nnx.Linear(w, 2 * w, rngs=rngs), {"kernel": (0.25, True), "bias": (1, False)}),
    "general": (
        lambda w, rngs: nnx.LinearGeneral((4, w // 4), (2, w), axis=(-2, -1), rngs=rngs),
        {"kernel": (0.25, True), "bias": (1, False)},
    ),
    "einsum": (
        lambda w, rngs: nnx.Einsum("nta,hab->nthb", (2, w, 8), (2, 8), rngs=rngs),
        {"kernel": (0.25, True), "bias": (1, False)},
    ),
    "conv": (lambda w, rngs: nnx.Conv(w, w, (3, 3), rngs=rngs), {"kernel": (0.25, True), "bias": (1, False)}),
    "transposed": (
        lambda w, rngs: nnx.ConvTranspose(w, 8, (3,), transpose_kernel=True, rngs=rngs),
        {"kernel": (0.25, True), "bias": (1, False)},
    ),
    "embedding": (lambda w, rngs: nnx.Embed(7, w, rngs=rngs), {"embedding": (1, True)}),
    "norm": (lambda w, rngs: nnx.LayerNorm(w, rngs=rngs), {"scale": (1, False), "bias": (1, False)}),
    "lora": (lambda w, rngs: nnx.LoRA(w, 4, w, rngs=rngs), {"lora_a": (0.25, True), "lora_b": (1, True)}),
    "structured": (
        lambda w, rngs: lo.nn.flax.Linear(lo.dense(w, w), rngs=rngs),
        {"matrix": (0.25, True), "bias": (1, False)},
    ),
}


@pytest.mark.parametrize("name", FLAX)
@pytest.mark.parametrize("stacked", [False, True])
def test_trial_11_flaxs_modules(name, stacked):
    build, expected = FLAX[name]

    def model(width):
        def make(rngs):
            return build(width, rngs)

        return flax_stacked(make) if stacked else nnx.eval_shape(lambda: make(nnx.Rngs(0)))

    wide, narrow = model(64), model(16)
    assert lo.nn.flax.lr_multipliers(wide, base=narrow) == {key: rate for key, (rate, _) in expected.items()}
    mask = lo.nn.flax.decay_mask(wide)
    assert mask == {key: decayed for key, (_, decayed) in expected.items()}
    assert leaves(lo.nn.optax.decay_mask(nnx.state(wide, nnx.Param))) == leaves(mask)  # by name and shape alone, here


def test_trial_11_biases_of_attention_are_not_decayed():
    attention = nnx.eval_shape(lambda: nnx.MultiHeadAttention(2, 8, rngs=nnx.Rngs(0)))
    for mask in (lo.nn.flax.decay_mask(attention), lo.nn.optax.decay_mask(nnx.state(attention, nnx.Param))):
        for path, decayed in jax.tree_util.tree_leaves_with_path(mask):
            assert decayed == ("kernel" in str(path))


@pytest.mark.full
def test_trial_11_a_mask_of_a_model_in_flaxs_optimizer():
    model = nnx.Dict(attention=nnx.MultiHeadAttention(2, 8, rngs=nnx.Rngs(0)))
    before = jax.tree.map(jnp.array, nnx.state(model, nnx.Param))
    tx = optax.adamw(0.1, weight_decay=0.5, mask=lo.nn.flax.decay_mask(model))
    nnx.Optimizer(model, tx, wrt=nnx.Param).update(model, jax.tree.map(jnp.zeros_like, before))
    assert jnp.allclose(model.attention.query.kernel[...], 0.95 * before["attention"]["query"]["kernel"][...])
    assert jnp.array_equal(model.attention.query.bias[...], before["attention"]["query"]["bias"][...])


class Own(eqx.Module):
    pos_embed: jax.Array
    mix: jax.Array
    experts: dict

    def __init__(self, width):
        self.pos_embed, self.mix = jnp.zeros((1, 17, width)), jnp.zeros((width, 2 * width))
        self.experts = {"up": jnp.zeros((4, 2 * width, width))}


class OwnFlax(nnx.Module):
    def __init__(self, width):
        self.pos_embed, self.mix = nnx.Param(jnp.zeros((1, 17, width))), nnx.Param(jnp.zeros((width, 2 * width)))
        self.experts = nnx.Dict(up=nnx.Param(jnp.zeros((4, width, 2 * width))))


@pytest.mark.parametrize(("module", "model"), [(lo.nn.equinox, Own), (lo.nn.flax, OwnFlax)], ids=["equinox", "flax"])
def test_trial_08_a_models_own_arrays_in_jax(module, model):
    for base in (model(16), 16):
        with pytest.warns(UserWarning, match=r"unknown whether.*: mix \(64, 128\)\."):
            found = module.lr_multipliers(model(64), base=base)
        assert sorted(leaves(found)) == [0.25, 1, 1]
        told = module.lr_multipliers(model(64), base=base, matrices={"mix": "in out"})
        assert sorted(leaves(told)) == [0.25, 0.25, 1]
    assert sorted(leaves(module.decay_mask(model(64), matrices={"mix": None}))) == [False, False, True]


# ---------------------------------------------------------------- optax


def run(tx, params, steps=3):
    state = tx.init(params)
    moved = []
    for _ in range(steps):
        updates, state = tx.update(jax.tree.map(jnp.ones_like, params), state, params)
        moved.append([float(-update[0]) for update in leaves(updates)])
    return moved


def schedule(step):
    return 0.5**step


OPTAX = {
    "schedule": lambda scale: optax.chain(optax.sgd(schedule), scale),
    "schedule behind": lambda scale: optax.chain(scale, optax.scale_by_learning_rate(schedule)),
    "inject_hyperparams": lambda scale: optax.chain(optax.inject_hyperparams(optax.sgd)(learning_rate=schedule), scale),
    "inject_hyperparams of all": lambda scale: optax.inject_hyperparams(
        lambda learning_rate: optax.chain(optax.sgd(learning_rate), scale)
    )(schedule),
    "scale_by_schedule": lambda scale: optax.chain(scale, optax.scale_by_schedule(lambda step: -schedule(step))),
    "multi_transform": lambda scale: optax.chain(
        optax.multi_transform({"x": optax.sgd(schedule), "y": optax.sgd(schedule)}, {"a": "x", "b": "y"}), scale
    ),
    "masked": lambda scale: optax.chain(optax.masked(optax.sgd(schedule), {"a": True, "b": True}), scale),
    "apply_if_finite": lambda scale: optax.apply_if_finite(optax.chain(optax.sgd(schedule), scale), 3),
    "MultiSteps": lambda scale: optax.MultiSteps(optax.chain(optax.sgd(schedule), scale), every_k_schedule=1),
}


@pytest.mark.parametrize("name", OPTAX)
def test_trial_12_multipliers_survive_optaxs_schedules(name):
    params = {"a": jnp.ones(1), "b": jnp.ones(1)}
    moved = run(OPTAX[name](lo.nn.optax.scale_by_tree({"a": 4.0, "b": 0.5})), params)
    assert moved == [[4.0, 0.5], [2.0, 0.25], [1.0, 0.125]]


def test_trial_12_a_rate_set_by_hand_in_inject_hyperparams():
    params = {"a": jnp.ones(1), "b": jnp.ones(1)}
    tx = optax.inject_hyperparams(
        lambda learning_rate: optax.chain(optax.sgd(learning_rate), lo.nn.optax.scale_by_tree({"a": 4.0, "b": 0.5}))
    )(1.0)
    state = tx.init(params)
    state.hyperparams["learning_rate"] = jnp.asarray(0.25)
    updates, _ = tx.update(params, state, params)
    assert [float(-update[0]) for update in leaves(updates)] == [1.0, 0.125]
