"""Muon and AdamW of Flax and Equinox step as torch's do, static and renormalised, in every family."""

import subprocess
import sys

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

M, N, STEPS = 24, 16, 20
FAMILIES = {
    name: lambda family=family: family(M, N, **({} if family is lo.dense else {"allow_dearer": True}))
    for name, family in lo.families.FAMILIES.items()
} | {
    "btt:cores=3": lambda: lo.btt(27, 27, rank=2, cores=3),
    "tensor_train:cores=3": lambda: lo.tensor_train(24, 27, rank=2, cores=3),
    "sum in a product": lambda: (lo.low_rank(M, N, rank=2) + lo.block_diag(M, N, blocks=4)) @ lo.btt(N, N),
    "power": lambda: lo.Dense(lo.spec(12, 12)) ** 2,
    "diagonal": lambda: lo.dense(M, N) @ lo.Diagonal(lo.spec(N)),
}
WAYS = [(optimizer, renormalize) for optimizer in ("muon", "adamw") for renormalize in (False, True)]
CASES = [(name, *way, dtype) for name in FAMILIES for way in WAYS for dtype in ("float32", "float64")]
#: what is in the default run
FEW = [("btt", optimizer, True, "float32") for optimizer in ("muon", "adamw")]


def grown(operator, dtype):
    """The operator with numbers, more than as it is drawn, so that renormalised steps are others."""
    drawn = operator.init(seed=0, dtype=dtype)
    return drawn.with_leaves([(1.5 * leaf).astype(dtype) for _, leaf in drawn.named_leaves()])


def stepped_in_torch(operator, optimizer, renormalize, x, y, steps=STEPS, **own):
    layer = lo.nn.torch.Linear(operator)
    options = {"weight_decay": 0.1, "decay": "product", "base": 8}
    groups = lo.nn.param_groups(layer, 0.02, optimizer=optimizer, renormalize=renormalize, **options)
    step = torch.optim.AdamW(groups) if optimizer == "adamw" and not renormalize else lo.nn.torch.Muon(groups, **own)
    x, y = torch.from_numpy(x), torch.from_numpy(y)
    for _ in range(steps):
        step.zero_grad()
        nn.functional.mse_loss(layer(x), y).backward()
        step.step()
    return {name: parameter.detach().numpy() for name, parameter in layer.named_parameters()}


def transformation(module, layer, optimizer, renormalize, **own):
    options = {"weight_decay": 0.1, "decay": "product", "base": 8, "renormalize": renormalize, **own}
    return getattr(module, optimizer)(layer, 0.02, **options)


def stepped_in_equinox(operator, optimizer, renormalize, x, y, steps=STEPS, **own):
    layer = lo.nn.equinox.Linear(operator)
    return by_equinox(layer, transformation(lo.nn.equinox, layer, optimizer, renormalize, **own), x, y, steps)


def stepped_in_flax(operator, optimizer, renormalize, x, y):
    layer = lo.nn.flax.Linear(operator)
    return by_flax(layer, transformation(lo.nn.flax, layer, optimizer, renormalize), x, y, STEPS)


def batch(operator, dtype):
    random = np.random.default_rng(1)
    return tuple(random.standard_normal((32, size)).astype(dtype) for size in operator.shape[::-1])


@pytest.mark.parametrize(
    ("name", "optimizer", "renormalize", "dtype"),
    [pytest.param(*case, marks=() if case in FEW else pytest.mark.full) for case in CASES],
)
def test_twenty_steps_are_those_of_torch(name, optimizer, renormalize, dtype):
    operator = grown(FAMILIES[name](), dtype)
    x, y = batch(operator, dtype)
    expected = stepped_in_torch(operator, optimizer, renormalize, x, y)
    found = stepped_in_equinox(operator, optimizer, renormalize, x, y)
    assert differs(found, expected) < (1e-5 if dtype == "float32" else 1e-10)


@pytest.mark.full
@pytest.mark.parametrize("renormalize", [False, True])
def test_flax_steps_as_torch_does(renormalize):
    operator = grown(lo.monarch(M, N, blocks=2) @ lo.btt(N, N), "float32")
    x, y = batch(operator, "float32")
    for optimizer in ("muon", "adamw"):
        expected = stepped_in_torch(operator, optimizer, renormalize, x, y)
        assert differs(stepped_in_flax(operator, optimizer, renormalize, x, y), expected) < 1e-5


@pytest.mark.full
@pytest.mark.parametrize("every", [1, 6])
@pytest.mark.parametrize("name", ["low_rank", "btt:cores=3"])
def test_what_is_measured_at_times_alone_is_so_in_both(name, every):
    operator = grown(FAMILIES[name](), "float32")
    x, y = batch(operator, "float32")
    expected = stepped_in_torch(operator, "muon", True, x, y, 40, every=every)
    assert differs(stepped_in_equinox(operator, "muon", True, x, y, 40, every=every), expected) < 1e-5
    for module in (lo.nn.equinox, lo.nn.flax):
        layer = module.Linear(operator)
        with pytest.raises(ValueError, match=r"muon\(every=0\): expected a number of steps"):
            module.muon(layer, 0.1, every=0)
        with pytest.raises(ValueError, match=r"muon\(every=3\): no steps are measured.*leave renormalize=False out"):
            module.muon(layer, 0.1, every=3, renormalize=False)


@pytest.mark.full
def test_stacked_layers_step_as_each_does_alone():
    """Of `equinox.filter_vmap`, for scans over layers: one factor for each copy, by either rule."""
    operator = lo.low_rank(M, N, rank=2)
    alone = [lo.nn.equinox.Linear(operator.init(seed=seed, dtype="float64")) for seed in (0, 1)]
    alone[1] = jax.tree.map(lambda leaf: 3 * leaf, alone[1])
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *alone)
    gradients = [jax.tree.map(lambda leaf: jnp.cos(7 * leaf + 1), layer) for layer in alone]
    for optimizer in ("muon", "adamw"):
        found = []
        for layer, gradient in zip(
            (*alone, stacked), (*gradients, jax.tree.map(lambda *leaves: jnp.stack(leaves), *gradients))
        ):
            tx = getattr(lo.nn.equinox, optimizer)(layer, 0.1, renormalize=True)
            state = tx.init(layer)
            for _ in range(3):
                updates, state = jax.jit(tx.update)(gradient, state, layer)
            found.append(updates)
        for one, two, both in zip(*map(jax.tree.leaves, found)):
            np.testing.assert_allclose(both, jnp.stack([one, two]), rtol=1e-9, atol=1e-12)


@pytest.mark.full
def test_sharded_arrays_step_as_whole_ones():
    code = """
import os
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
import equinox as eqx, jax, jax.numpy as jnp, numpy as np, optax, linops as lo
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
operator = lo.btt(64, 64, rank=2).init(seed=0, backend="jax")
layer = lo.nn.equinox.Linear(operator)
layer = jax.tree.map(lambda leaf: 2 * leaf, layer)
gradient = jax.tree.map(lambda leaf: jnp.cos(7 * leaf + 1), layer)
for optimizer in ("muon", "adamw"):
    tx = getattr(lo.nn.equinox, optimizer)(layer, 0.1, renormalize=True)
    def run(layer, gradient):
        state = tx.init(layer)
        for _ in range(3):
            updates, state = tx.update(gradient, state, layer)
            layer = optax.apply_updates(layer, updates)
        return layer
    expected = jax.jit(run)(layer, gradient)
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = jax.make_mesh((4,), ("model",), axis_types=(kind,))
        places = lo.nn.shardings(layer, mesh, style="sharded")
        cut = jax.device_put((layer, gradient), (places, places))
        found = jax.jit(run)(*cut)
        for one, two, place in zip(*map(jax.tree.leaves, (found, expected, places))):
            np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)
            assert one.sharding.is_equivalent_to(place, one.ndim), (one.sharding, place)
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.full
def test_a_layer_that_is_trained_in_part():
    layer = lo.nn.flax.Linear(lo.btt(16, 16), rngs=nnx.Rngs(0))
    wrt = nnx.All(nnx.Param, nnx.PathContains("cores_1"))
    with pytest.raises(ValueError, match=r"muon\(renormalize=True\): layer '' is not trained as to 'cores_0'"):
        lo.nn.flax.muon(layer, 0.02, wrt=wrt, renormalize=True)
    tx = lo.nn.flax.adamw(layer, 0.02, wrt=wrt, renormalize=True)  # the other factor counts as it was drawn
    params = nnx.as_pure(nnx.state(layer, wrt))
    updates, _ = jax.jit(tx.update)(params, tx.init(params), params)
    assert [leaf.shape for leaf in jax.tree.leaves(updates)] == [layer.cores_1.shape]
    with pytest.raises(ValueError, match="needs the parameters"):
        tx.update(params, tx.init(params))


@pytest.mark.full
def test_epsilon_falls_with_width_and_depth_as_in_torch():
    """Gradients as small as ε, so that it shows in the steps."""

    class Model(nnx.Module):
        def __init__(self, width):
            self.blocks = nnx.List([lo.nn.flax.Linear(lo.btt(width, width), rngs=nnx.Rngs(0))])
            self.head = nnx.Linear(width, 4, rngs=nnx.Rngs(0))

    ours, options = Model(64), {"base": 16, "depth": {"blocks.*": 4.0}, "eps": 1e-4}
    theirs = nn.ModuleDict({"blocks": nn.ModuleList([lo.nn.torch.Linear(lo.btt(64, 64))]), "head": nn.Linear(64, 4)})
    lo.nn.flax.load_state_dict(ours, {name: one.detach().numpy() for name, one in theirs.state_dict().items()})
    step = torch.optim.AdamW(lo.nn.param_groups(theirs, 0.01, **options))
    for parameter in theirs.parameters():
        parameter.grad = torch.full_like(parameter, 1e-5)
    step.step()
    params = nnx.as_pure(nnx.state(ours, nnx.Param))
    tx = lo.nn.flax.adamw(ours, 0.01, **options)
    gradients = jax.tree.map(lambda leaf: jnp.full_like(leaf, 1e-5), params)
    updates, _ = jax.jit(tx.update)(gradients, tx.init(params), params)
    nnx.update(ours, optax.apply_updates(params, updates))
    for name, leaf in lo.nn.flax.state_dict(ours).items():
        np.testing.assert_allclose(leaf, theirs.state_dict()[name], rtol=1e-5, atol=1e-8, err_msg=name)
    with pytest.raises(ValueError, match=r"adamw\(depth=\[2\]\): expected patterns"):
        lo.nn.flax.adamw(ours, 0.01, depth=[2])
