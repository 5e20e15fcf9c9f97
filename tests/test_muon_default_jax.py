"""Muon of Flax and Equinox as it is by default: torch's steps, and static ones where layers cannot be measured."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx
from layer_steps import by_equinox, by_flax, differs
from torch import nn

import linops as lo

STEPS = 20
OPERATORS = {
    "btt": lambda: lo.btt(24, 16),
    "low_rank": lambda: lo.low_rank(24, 16, rank=2),
    "product": lambda: lo.monarch(24, 16, blocks=2) @ lo.btt(16, 16),
    "butterfly": lambda: lo.butterfly(16, 16),
}


def grown(operator):
    """The operator with larger numbers than are drawn, and a batch."""
    drawn = operator.init(seed=0, dtype="float32")
    random = np.random.default_rng(1)
    x, y = (random.standard_normal((32, size)).astype("float32") for size in operator.shape[::-1])
    return drawn.with_leaves([(1.5 * leaf).astype("float32") for _, leaf in drawn.named_leaves()]), x, y


def of_torch(operator, x, y, **options):
    layer = lo.nn.torch.Linear(operator)
    optimizer = lo.nn.torch.Muon(lo.nn.param_groups(layer, 0.02, 0.1, "muon", **options))
    for _ in range(STEPS):
        optimizer.zero_grad()
        nn.functional.mse_loss(layer(torch.from_numpy(x)), torch.from_numpy(y)).backward()
        optimizer.step()
    return {name: parameter.detach().numpy() for name, parameter in layer.named_parameters()}


def of_equinox(operator, x, y):
    layer = lo.nn.equinox.Linear(operator)
    return by_equinox(layer, lo.nn.equinox.muon(layer, 0.02, 0.1), x, y, STEPS)


def of_flax(operator, x, y):
    layer = lo.nn.flax.Linear(operator)
    return by_flax(layer, lo.nn.flax.muon(layer, 0.02, 0.1), x, y, STEPS)


class Layers(nnx.Module):
    """Layers by name."""

    def __init__(self, *names):
        for seed, name in enumerate(names):
            setattr(self, name, lo.nn.flax.Linear(lo.btt(16, 16), rngs=nnx.Rngs(seed)))


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        pytest.param(name, steps, marks=() if (name, steps) == ("btt", of_flax) else pytest.mark.full)
        for name in OPERATORS
        for steps in (of_flax, of_equinox)
    ],
)
def test_twenty_steps_of_the_defaults_are_those_of_torch(name, steps):
    drawn = grown(OPERATORS[name]())
    expected = of_torch(*drawn)
    assert differs(steps(*drawn), expected) < 1e-5
    assert differs(of_torch(*drawn, renormalize=False), expected) > 1e-2


def updates_of(tx, params, with_params=True):
    """Updates from gradients of some numbers."""
    gradients = jax.tree.map(lambda leaf: jnp.cos(7 * leaf + 1), params)
    return jax.tree.leaves(tx.update(gradients, tx.init(params), *([params] if with_params else []))[0])


def are_equal(one, other):
    return all(np.array_equal(*pair) for pair in zip(one, other, strict=True))


def test_a_layer_that_is_trained_in_part_has_static_steps_which_need_no_parameters():
    layer = lo.nn.flax.Linear(lo.btt(16, 16), rngs=nnx.Rngs(0))
    wrt = nnx.All(nnx.Param, nnx.PathContains("cores_1"))
    params = nnx.as_pure(nnx.state(layer, wrt))
    found = updates_of(lo.nn.flax.muon(layer, 0.02, wrt=wrt), params, with_params=False)
    assert are_equal(found, updates_of(lo.nn.flax.muon(layer, 0.02, wrt=wrt, renormalize=False), params))
    with pytest.raises(ValueError, match=r"muon\(renormalize=True\): layer '' is not trained as to 'cores_0'"):
        lo.nn.flax.muon(layer, 0.02, wrt=wrt, renormalize=True)


@pytest.mark.full
def test_beside_it_a_layer_that_is_trained_as_a_whole_is_measured():
    model = Layers("part", "whole")
    for leaf in (model.whole.cores_0, model.whole.cores_1):
        leaf.set_value(3 * leaf.get_value())
    wrt = nnx.All(nnx.Param, nnx.Not(nnx.All(nnx.PathContains("part"), nnx.PathContains("cores_0"))))
    params = nnx.as_pure(nnx.state(model, wrt))
    found, static = (updates_of(lo.nn.flax.muon(model, 0.02, wrt=wrt, **one), params) for one in NO)
    names = ["/".join(step.key for step in path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    changed = {name for name, one, other in zip(names, found, static) if not np.array_equal(one, other)}
    assert changed == {"whole/cores_0", "whole/cores_1"}


NO = ({}, {"renormalize": False})


@pytest.mark.full
def test_a_leaf_that_two_layers_share_counts_for_one_and_the_other_has_static_steps():
    model = Layers("one", "other")
    model.other.cores_0 = model.one.cores_0
    params = nnx.as_pure(nnx.state(model, nnx.Param))
    assert all(np.isfinite(one).all() for one in updates_of(lo.nn.flax.muon(model, 0.02), params))
    nnx.Optimizer(model, lo.nn.flax.muon(model, 0.02), wrt=nnx.Param).update(model, nnx.state(model, nnx.Param))


@pytest.mark.parametrize("module", [lo.nn.flax, lo.nn.equinox], ids=lambda module: module.__name__)
def test_updates_without_parameters_are_told_both_ways_out(module):
    options = {"rngs": nnx.Rngs(0)} if module is lo.nn.flax else {"key": jax.random.key(0)}
    layer = module.Linear(lo.btt(16, 16), **options)
    params = nnx.as_pure(nnx.state(layer, nnx.Param)) if module is lo.nn.flax else layer
    tx = module.muon(layer, 0.02)
    with pytest.raises(ValueError, match=r"update needs the parameters.*update\(updates, state, params\).*=False"):
        tx.update(params, tx.init(params))
    static = module.muon(layer, 0.02, renormalize=False)
    static.update(params, static.init(params))


@pytest.mark.full
def test_other_layers_are_static():
    """Those that are left to AdamW, of a single leaf, with an empty one; and no parameters are needed."""
    empty = (lo.Dense(lo.spec(8, 0)) @ lo.Dense(lo.spec(0, 8))).init(seed=0)
    for operator, options in (
        (lo.btt(16, 16).init(seed=0), {"adamw": ""}),
        (lo.block_diag(16, 16, blocks=2).init(seed=0), {}),
        (empty, {}),
    ):
        layer = jax.tree.map(lambda leaf: 3 * leaf, lo.nn.equinox.Linear(operator))
        params = eqx.filter(layer, eqx.is_inexact_array)
        found = updates_of(lo.nn.equinox.muon(layer, 0.02, **options), params, with_params=False)
        assert are_equal(found, updates_of(lo.nn.equinox.muon(layer, 0.02, renormalize=False, **options), params))
    layer = lo.nn.equinox.Linear(lo.btt(16, 16).init(seed=0))
    with pytest.raises(ValueError, match="needs the parameters"):
        updates_of(lo.nn.equinox.muon(layer, 0.02, adamw="", renormalize=True), layer, with_params=False)


@pytest.mark.full
def test_complex_layers_step_as_torchs():
    drawn = lo.btt(16, 16).init(seed=0, dtype="complex128")
    drawn = drawn.with_leaves([3 * leaf for _, leaf in drawn.named_leaves()])
    ours, theirs = lo.nn.equinox.Linear(drawn, bias=False), lo.nn.torch.Linear(drawn, bias=False)
    optimizer = lo.nn.torch.Muon(lo.nn.param_groups(theirs, 0.02, optimizer="muon"))
    tx = lo.nn.equinox.muon(ours, 0.02)
    gradient = jax.tree.map(lambda leaf: jnp.cos(7 * leaf + 1), ours)
    for name, leaf in gradient.operator.named_leaves():
        getattr(theirs, name).grad = torch.from_numpy(np.asarray(leaf).copy())
    state = tx.init(ours)
    for _ in range(3):
        optimizer.step()
        updates, state = jax.jit(tx.update)(gradient, state, ours)
        ours = optax.apply_updates(ours, updates)
    for name, leaf in ours.operator.named_leaves():
        np.testing.assert_allclose(leaf, getattr(theirs, name).detach().numpy(), rtol=1e-9, atol=1e-11)
    wide = jax.random.normal(jax.random.key(0), (3, 4, 16), "complex128")
    values = jnp.linalg.svd(lo.nn.optax.orthogonalize(wide), compute_uv=False)
    assert 0.6 < values.min() < values.max() < 1.3
    for size in (1e-6, 1e-9, 1e-20, 1e-24, 1e-37, 0):  # of gradients that vanish; XLA drops subnormal numbers
        drawn = np.random.default_rng(0).standard_normal((2, 8, 5)).astype("float32") * np.float32(size)
        found = lo.nn.optax.orthogonalize(jnp.asarray(drawn))
        expected = lo.nn.torch.muon.orthogonalize(torch.from_numpy(drawn)).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-12 + 1e-5 * abs(expected).max())


@pytest.mark.parametrize("make", [lambda A: A**4, lambda A: 3 * A])
def test_a_single_leaf_that_is_multiplied_steps_as_torchs(make):
    drawn = make(lo.Dense(np.random.default_rng(0).standard_normal((8, 8)) / 3))
    ours, theirs = lo.nn.equinox.Linear(drawn, bias=False), lo.nn.torch.Linear(drawn, bias=False)
    optimizer = lo.nn.torch.Muon(lo.nn.param_groups(theirs, 0.02, optimizer="muon"))
    tx = lo.nn.equinox.muon(ours, 0.02)
    gradient = jax.tree.map(lambda leaf: jnp.cos(7 * leaf + 1), ours)
    for name, leaf in gradient.operator.named_leaves():
        getattr(theirs, name).grad = torch.from_numpy(np.asarray(leaf).copy())
    state, before = tx.init(ours), theirs.to_dense().weight.detach().clone()
    optimizer.step()
    assert torch.linalg.matrix_norm(theirs.to_dense().weight - before, 2) < 1.4 * 0.02
    updates, state = jax.jit(tx.update)(gradient, state, ours)
    ours = optax.apply_updates(ours, updates)
    for name, leaf in ours.operator.named_leaves():
        np.testing.assert_allclose(leaf, getattr(theirs, name).detach().numpy(), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("of", [lambda part: lo.nn.equinox.muon(part, 0.02), lo.nn.equinox.lr_multipliers])
def test_a_part_of_a_layer_of_equinox_is_an_error_with_a_way_out(of):
    net = lo.nn.equinox.Linear(lo.btt(16, 16).init(seed=0))
    frozen = eqx.tree_at(lambda layer: layer.operator.cores[0], jax.tree.map(lambda _: False, net), True)
    part, _ = eqx.partition(net, jax.tree.map(lambda one: not one, frozen))
    with pytest.raises(ValueError, match=r"lacks 'cores.0'.*optax.set_to_zero"):
        of(part)
    tx = optax.chain(lo.nn.equinox.muon(net, 0.02), optax.masked(optax.set_to_zero(), frozen))
    updates, _ = tx.update(jax.tree.map(jnp.ones_like, net), tx.init(net), net)
    moved = [bool(jnp.abs(leaf).max() > 0) for leaf in jax.tree.leaves(updates)]
    assert moved == [not one for one in jax.tree.leaves(frozen)]
