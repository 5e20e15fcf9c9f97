"""What the optimisers for JAX are given: numbers in their range, schedules, and what JAX traces."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import linops as lo

NAN = float("nan")
NOT_POSITIVE = [-1, NAN, float("inf"), "0.02", None, 1j, True, jnp.ones(2), jnp.asarray(-1.0)]
BAD = {
    "lr": NOT_POSITIVE,
    "weight_decay": [*NOT_POSITIVE, optax.constant_schedule(0.1)],
    "eps": [one for one in NOT_POSITIVE if one is not None],
    "betas": [(1.0, 0.9), (0.9, -1), (0.9, NAN), (0.9,), 0.9, None, ("0.9", "0.9")],
    "base": [0, -64, NAN, "64", {"*": 0}],
    "depth": [{"*": 0}, {"*": "2"}, 2.0],
}
OF_MUON = {"momentum": [-0.1, 1, NAN, "0.9", None], "adamw_lr": [-1, NAN, "0.02"], "every": [0, -1, 1.5]}
MAKERS = {
    "flax": (lo.nn.flax, lambda: lo.nn.flax.Linear(lo.btt(4, 4), rngs=nnx.Rngs(0))),
    "equinox": (lo.nn.equinox, lambda: lo.nn.equinox.Linear(lo.btt(4, 4), key=jax.random.key(0))),
}


@pytest.mark.parametrize("framework", MAKERS)
@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_numbers_out_of_their_range_are_refused(framework, optimizer):
    module, layer = MAKERS[framework]
    layer = layer()
    for name, values in (BAD | (OF_MUON if optimizer == "muon" else {})).items():
        for value in values:
            with pytest.raises(ValueError, match=rf"^{optimizer}\({name}=.*: expected"):
                getattr(module, optimizer)(layer, **{"lr": 0.1, name: value})


@pytest.mark.parametrize("framework", MAKERS)
def test_base_widths_of_multipliers_are_positive(framework):
    module, layer = MAKERS[framework]
    with pytest.raises(ValueError, match=r"^lr_multipliers\(base=0\)"):
        module.lr_multipliers(layer(), "adamw", base=0)


def test_parts_for_chains_refuse_them_too():
    for value in (-1, NAN, "0.1", None):
        with pytest.raises(ValueError, match=r"^add_decay\(weight_decay="):
            lo.nn.optax.add_decay(value, {"a": 1.0})
        with pytest.raises(ValueError, match=r"^scale_by_muon\(momentum="):
            lo.nn.optax.scale_by_muon(value)


@pytest.mark.parametrize("optimizer", [pytest.param("muon", marks=pytest.mark.full), "adamw"])
@pytest.mark.parametrize(
    "lr",
    [0.1, np.float32(0.1), jnp.asarray(0.1), optax.constant_schedule(0.1)],
    ids=["float", "numpy", "jax", "schedule"],
)
def test_rates_are_numbers_of_any_library_or_schedules(optimizer, lr):
    layer = MAKERS["equinox"][1]()
    tx = getattr(lo.nn.equinox, optimizer)(layer, lr, eps=0)
    updates, _ = tx.update(layer, tx.init(layer), layer)
    expected = getattr(lo.nn.equinox, optimizer)(layer, 0.1, eps=1e-30)
    expected, _ = expected.update(layer, expected.init(layer), layer)
    for found, right in zip(jax.tree.leaves(updates), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(found[right != 0], right[right != 0], rtol=1e-5)


def test_a_rate_that_jax_traces():
    layer = MAKERS["equinox"][1]()

    @jax.jit
    def step(lr):
        tx = lo.nn.equinox.muon(layer, lr)
        return jax.tree.leaves(tx.update(layer, tx.init(layer), layer)[0])[0]

    np.testing.assert_allclose(step(0.2), 2 * step(0.1), rtol=1e-5)
    injected = optax.inject_hyperparams(lambda lr: lo.nn.equinox.adamw(layer, lr))(lr=0.1)
    state = injected.init(layer)
    state.hyperparams["lr"] = jnp.asarray(0.2)
    assert np.isfinite(jax.tree.leaves(injected.update(layer, state, layer)[0])[0]).all()


@pytest.mark.parametrize(
    ("optimizer", "given"),
    [
        ("adamw", {"weight_decay": 0.1, "eps": 1e-6}),
        pytest.param("muon", {"weight_decay": 0.1, "momentum": 0.9}, marks=pytest.mark.full),
        pytest.param("muon", {"lr": 0.1, "adamw_lr": 0.01}, marks=pytest.mark.full),
    ],
)
def test_other_numbers_that_jax_traces(optimizer, given):
    layer = MAKERS["equinox"][1]()

    def updated(given):
        tx = getattr(lo.nn.equinox, optimizer)(layer, **{"lr": 0.1} | given)
        return jax.tree.leaves(tx.update(layer, tx.init(layer), layer)[0])

    for found, right in zip(jax.jit(updated)(given), updated(given), strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("value", [jnp.array([0.5]), jnp.array(0.5), np.array([0.5]), np.float32(0.5)], ids=repr)
def test_arrays_of_one_number_are_numbers(value):
    layer = lo.nn.flax.Linear(lo.btt(4, 4), rngs=nnx.Rngs(0))
    params = nnx.state(layer, nnx.Param)
    for given in ({"lr": value}, {"weight_decay": value}, {"eps": value}, {"base": value * 8}, {"adamw_lr": value}):
        updates = []
        for one in (given, {name: 4.0 if name == "base" else 0.5 for name in given}):
            tx = lo.nn.flax.muon(layer, **({"lr": 0.1} | one))
            updates.append(jax.tree.leaves(tx.update(params, tx.init(params), params)[0]))
        for found, expected in zip(*updates, strict=True):
            np.testing.assert_array_equal(found, expected)
