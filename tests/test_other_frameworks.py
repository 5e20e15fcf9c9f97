"""Functions for PyTorch, given models and optimisers of Flax and Equinox: an error that names the way there."""

import equinox as eqx
import jax
import optax
import pytest
from flax import nnx
from torch import nn

import linops as lo

MODELS = {
    "flax": nnx.Linear(4, 4, rngs=nnx.Rngs(0)),
    "equinox": eqx.nn.Linear(4, 4, key=jax.random.key(0)),
    "flax structured": lo.nn.flax.Linear(lo.btt(4, 4), rngs=nnx.Rngs(0)),
    "equinox structured": lo.nn.equinox.Linear(lo.btt(4, 4), key=jax.random.key(0)),
}
CALLS = {
    "estimate": (lambda model: lo.nn.estimate(model, 1), "there is no estimate: give the operators"),
    "estimate of families": (lambda model: lo.nn.estimate(model, 1, families=["btt"]), "give the operators"),
    "freeze_": (lo.nn.freeze_, r"lo\.nn\.(flax|equinox)\.freeze"),
    "to_dense_": (lo.nn.to_dense_, r"lo\.nn\.(flax|equinox)\.to_dense"),
    "clip_grad_norm_": (lambda model: lo.nn.clip_grad_norm_(model, 1.0), r"optax\.clip_by_global_norm"),
    "watch": (lo.nn.watch, r"lo\.linalg\.norm\(after - before, 2\)"),
    "muon.Muon": (lo.nn.muon.Muon, r"lo\.nn\.flax\.muon and lo\.nn\.equinox\.muon"),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("model", MODELS)
def test_a_model_of_another_framework(name, model):
    call, way = CALLS[name]
    with pytest.raises(TypeError, match=f"Linear.*{way}"):
        call(MODELS[model])


@pytest.mark.parametrize("name", ["flax structured", "equinox structured"])
def test_operators_of_its_layers_are_estimated(name):
    found = lo.nn.estimate({"up": MODELS[name].operator, "head": lo.dense(4, 4)}, 1)
    assert found.num_params == MODELS[name].operator.num_params + 16


def test_optimisers_of_another_framework():
    optimizers = [nnx.Optimizer(MODELS["flax"], optax.adam(0.1), wrt=nnx.Param), optax.adam(0.1)]
    for optimizer in optimizers:
        for call in (
            lo.nn.keep_rates,
            lambda one: lo.nn.set_lr(one, 0.1),
            lambda one: lo.nn.watch(nn.Linear(2, 2), one),
        ):
            with pytest.raises(TypeError, match=r"expected an optimiser, got .*lo\.nn\.flax\.adamw or muon"):
                call(optimizer)
