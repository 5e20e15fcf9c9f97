"""Structures that are no linear maps in Flax NNX and Equinox: the numbers, rates and files of PyTorch."""

import copy
import warnings
from functools import partial

import equinox as eqx
import jax
import numpy as np
import optax
import pytest
import torch
from flax import nnx
from torch import nn

import linops as lo
from linops.nn.jax_nonlinear import balance_of
from linops.nn.nonlinear import MAKERS

BOTH = ("chain:rank=4:activation=gelu", "btt_mixture:experts=4:active=2")
FRAMEWORKS = ("flax", "equinox")
WHERE = {"flax": "layers.[02]", "equinox": "layers.[02]", "torch": "layers.[02]"}


class Torch(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 64), nn.GELU(), nn.Linear(64, 10))

    def forward(self, x):
        return self.layers(x)


class Equinox(eqx.Module):
    layers: list

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


def gelu(x):
    return jax.nn.gelu(x, approximate=False)


def flax(width=64):
    rngs = nnx.Rngs(0)
    return nnx.Sequential(
        nnx.Linear(width, 2 * width, rngs=rngs),
        gelu,
        nnx.Linear(2 * width, width, rngs=rngs),
        gelu,
        nnx.Linear(width, 10, rngs=rngs),
    )


def equinox(width=64):
    keys = jax.random.split(jax.random.key(0), 3)
    linear = partial(eqx.nn.Linear, dtype="float32")  # where x64 is on
    return Equinox(
        [
            linear(width, 2 * width, key=keys[0]),
            gelu,
            linear(2 * width, width, key=keys[1]),
            gelu,
            linear(width, 10, key=keys[2]),
        ]
    )


DENSE = {"flax": flax, "equinox": equinox, "torch": Torch}


def swap(framework, model, target, where=None, **options):
    where = WHERE[framework] if where is None else where
    if framework == "flax":
        report = lo.nn.flax.replace_linear(model, target, where=where, rngs=nnx.Rngs(1), **options)
    elif framework == "equinox":
        model, report = lo.nn.equinox.replace_linear(model, target, where=where, key=jax.random.key(1), **options)
    else:
        report = lo.nn.replace_linear_(model, target, where=where, **options)
    return model, report


def swapped(framework, target, **options):
    return swap(framework, DENSE[framework](), target, **options)[0]


def module(framework):
    return lo.nn if framework == "torch" else getattr(lo.nn, framework)


def run(framework, model, x):
    """The outputs for rows as NumPy has them."""
    if framework == "torch":
        return model.eval()(torch.from_numpy(x)).detach().numpy()
    if framework == "flax":
        model.eval()
        return np.asarray(model(x))
    return np.asarray(jax.vmap(model)(x))


@pytest.fixture
def x():
    return np.random.default_rng(0).standard_normal((32, 64), "float32")


# ---------------------------------------------------------------- numbers and files


@pytest.mark.full
@pytest.mark.parametrize("target", BOTH)
@pytest.mark.parametrize(
    ("source", "goal"),
    [
        ("torch", "flax"),
        ("flax", "equinox"),
        ("equinox", "torch"),
        ("torch", "equinox"),
        ("flax", "torch"),
        ("equinox", "flax"),
    ],
)
def test_one_file_for_all_frameworks(source, goal, target, tmp_path, x):
    path = tmp_path / "model.safetensors"
    ours = swapped(source, target)
    module(source).save(ours, path)
    other = module(goal).load(DENSE[goal](), path)
    again = module(goal).load(other, path)
    assert again.layers[0].nonlinear == ours.layers[0].nonlinear
    np.testing.assert_allclose(run(goal, other, x), run(source, ours, x), rtol=1e-4, atol=1e-5)


@pytest.mark.full
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_load_is_bit_for_bit_and_of_abstract_models(framework, tmp_path, x):
    path = tmp_path / "model.safetensors"
    for target in BOTH:
        ours = swapped(framework, target)
        module(framework).save(ours, path)
        abstract = nnx.eval_shape(flax) if framework == "flax" else eqx.filter_eval_shape(equinox)
        for dense in (abstract, swapped(framework, target), swapped(framework, target)):
            assert np.array_equal(run(framework, module(framework).load(dense, path), x), run(framework, ours, x))


@pytest.mark.full
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_load_that_fails_leaves_the_model(framework, tmp_path):
    path = tmp_path / "model.safetensors"
    module(framework).save(swapped(framework, BOTH[0]), path)
    other = DENSE[framework](32)
    with pytest.raises(ValueError, match="64×32 in the model and 128×64 in the file, Chain"):
        module(framework).load(other, path)
    assert isinstance(other.layers[0], (nnx.Linear, eqx.nn.Linear))


# ---------------------------------------------------------------- swaps and rates


@pytest.mark.full
@pytest.mark.parametrize("target", BOTH)
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_swap_reports_as_torch(framework, target):
    dense = DENSE[framework]()
    model, report = swap(framework, dense, target)
    torch.manual_seed(0)
    _, theirs = swap("torch", Torch(), target)
    for ours, other in zip(report.rows, theirs.rows):
        assert (ours.name, ours.structure, ours.fans) == (other.name, other.structure, other.fans)
        assert (ours.new_params, ours.new_macs, ours.old_params) == (other.new_params, other.new_macs, other.old_params)
        usual = 3**-0.5 if framework == "flax" else 1  # of nnx.Linear, over that of torch's
        assert ours.scale == pytest.approx(other.scale * usual, rel=0.3)
    assert report.totals == theirs.totals
    assert len(report.left) == 1
    kinds = {"chain": module(framework).Chain, "btt_mixture": module(framework).BTTMixture}
    assert type(model.layers[0]) is kinds[target.partition(":")[0]]


@pytest.mark.full
@pytest.mark.parametrize("target", BOTH)
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_drawn_as_structures_are(framework, target):
    """Standard deviations of leaves; zero stays zero; small stays small; within jit and eval_shape."""
    layer = swapped(framework, target).layers[0]
    stds = lo.initial_stds(layer.nonlinear.operator)
    leaves = layer.leaves if framework == "equinox" else {one: getattr(layer, one)[...] for one in layer.leaf_names}
    for name, std in stds.items():
        assert float(leaves[name].std()) == pytest.approx(std, rel=0.2)
    last = layer.nonlinear._output_leaves()[0]

    def scaled(factor):
        model = DENSE[framework]()
        if framework == "flax":
            model.layers[0].kernel.set_value(factor * model.layers[0].kernel.get_value())
        else:
            model = eqx.tree_at(lambda one: one.layers[0].weight, model, factor * model.layers[0].weight)
        model, report = swap(framework, model, target)
        new = model.layers[0]
        leaf = new.leaves[last] if framework == "equinox" else getattr(new, last).get_value()
        return report.rows[0], float(leaf.std() / leaves[last].std())

    row, ratio = scaled(0.0)
    assert row.zero_init
    assert ratio == 0
    row, ratio = scaled(0.1)
    assert row.kept_scale == pytest.approx(0.1, rel=0.1)
    assert ratio == pytest.approx(0.1, rel=0.1)
    if framework == "flax":
        shapes = nnx.eval_shape(lambda: swapped("flax", target))
        assert shapes.layers[0].bias.get_value().shape == (128,)
    else:
        assert eqx.filter_jit(lambda: swapped("equinox", target))().layers[0].bias.shape == (128,)


def _named(framework, model, tree):
    """Numbers of a tree by the names of parameters."""
    if framework == "flax":
        flat = nnx.to_flat_state(nnx.state(model, nnx.Param))
        names = [".".join(map(str, path)) for path, _ in flat]
    else:
        flat = jax.tree_util.tree_leaves_with_path(eqx.filter(model, eqx.is_inexact_array))
        names = [jax.tree_util.keystr(path, simple=True, separator=".").replace("leaves.", "") for path, _ in flat]
    return dict(zip([name.replace("kernel", "weight") for name in names], jax.tree.leaves(tree)))


@pytest.mark.parametrize("target", BOTH)
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_rates_are_those_of_torch(framework, target):
    model, theirs = swapped(framework, target), swapped("torch", target)
    with torch.device("meta"):
        sizes = [nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32), nn.GELU(), nn.Linear(32, 10)]
        base = nn.ModuleDict({"layers": nn.Sequential(*sizes)})
    narrow = DENSE[framework](32)
    for optimizer in ("adamw", "sgd"):
        groups = lo.nn.param_groups(theirs, 1.0, 0.5, optimizer, base, decay="product")
        expected = {name: one["lr"] for one in groups for name in one["names"]}
        decays = {name: one["lr"] * one["weight_decay"] * 2 for one in groups for name in one["names"]}
        rates = _named(framework, model, module(framework).lr_multipliers(model, optimizer, narrow))
        assert rates == pytest.approx(expected)
        assert _named(framework, model, module(framework).decay_shares(model)) == pytest.approx(decays)


@pytest.mark.full
@pytest.mark.parametrize("target", BOTH)
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_muon_steps_as_torch(framework, target, tmp_path, x):
    theirs, path = swapped("torch", target), tmp_path / "model.safetensors"
    lo.nn.save(theirs, path)
    ours = module(framework).load(DENSE[framework](), path)
    optimizer = lo.nn.muon.Muon(lo.nn.param_groups(theirs, 0.02, 0.1, "muon", decay="product"))
    for _ in range(3):
        optimizer.zero_grad()
        (theirs(torch.from_numpy(x)).square().mean() + lo.nn.balance_loss(theirs)).backward()
        optimizer.step()
    tx = module(framework).muon(ours, 0.02, 0.1, decay="product")
    if framework == "flax":

        def loss(model):
            y, balance = lo.nn.flax.with_balance_loss(model)(x)
            return (y**2).mean() + balance

        step = nnx.Optimizer(ours, tx, wrt=nnx.Param)
        for _ in range(3):
            step.update(ours, nnx.grad(loss)(ours))
    else:

        def loss(model):
            y, balance = lo.nn.equinox.with_balance_loss(jax.vmap(model))(x)
            return (y**2).mean() + balance

        state = tx.init(eqx.filter(ours, eqx.is_inexact_array))
        for _ in range(3):
            updates, state = tx.update(eqx.filter_grad(loss)(ours), state, eqx.filter(ours, eqx.is_inexact_array))
            ours = eqx.apply_updates(ours, updates)
    state = module(framework).state_dict(ours)
    for name, tensor in theirs.state_dict().items():
        np.testing.assert_allclose(np.asarray(state[name]), tensor.numpy(), rtol=1e-3, atol=2e-5, err_msg=name)


@pytest.mark.full
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_renormalised_adamw_steps_each_expert_as_torch(framework, tmp_path):
    theirs, paths = (
        swapped("torch", "btt_mixture:experts=4:active=1:rank=2"),
        [tmp_path / "model", tmp_path / "gradient"],
    )
    given = copy.deepcopy(theirs)
    with torch.no_grad():
        for one in given.parameters():
            one.normal_(generator=torch.Generator().manual_seed(one.numel()))
        for name, parameter in theirs.named_parameters():  # experts of several norms, larger than drawn
            if "cores" in name:
                parameter.mul_(torch.linspace(1, 4, 4)[:, None, None, None])
    for model, path in zip((theirs, given), paths):
        lo.nn.save(model, path)
    ours, gradient = (module(framework).load(DENSE[framework](), path) for path in paths)
    before = theirs.layers[0].cores_0.detach().clone()
    groups = lo.nn.param_groups(theirs, 0.01, renormalize=True)
    optimizer, tx = lo.nn.torch.Muon(groups), module(framework).adamw(ours, 0.01, renormalize=True)
    for parameter, one in zip(theirs.parameters(), given.parameters()):
        parameter.grad = one.detach()
    for _ in range(3):
        optimizer.step()
    if framework == "flax":
        step = nnx.Optimizer(ours, tx, wrt=nnx.Param)
        for _ in range(3):
            step.update(ours, nnx.state(gradient, nnx.Param))
    else:
        arrays = eqx.filter(ours, eqx.is_inexact_array)
        state = tx.init(arrays)
        for _ in range(3):
            updates, state = tx.update(eqx.filter(gradient, eqx.is_inexact_array), state, arrays)
            arrays = eqx.apply_updates(arrays, updates)
        ours = arrays
    found = module(framework).state_dict(ours)
    for name, tensor in theirs.state_dict().items():
        np.testing.assert_allclose(np.asarray(found[name]), tensor.numpy(), rtol=1e-4, atol=1e-6, err_msg=name)
    steps = (theirs.layers[0].cores_0 - before).abs().amax((1, 2, 3))
    assert steps[1] > 1.2 * steps[3] > 0, "an expert's step follows its own norms"


# ---------------------------------------------------------------- the balance loss


def _balances(x):
    """A mixture of each framework with the same numbers, and PyTorch's balance loss with its gradient."""
    layer = lo.nn.torch.BTTMixture(64, 64, 4, 1, balance=0.5)
    layer(torch.from_numpy(x))
    loss = lo.nn.balance_loss(layer)
    loss.backward()
    ours = lo.nn.flax.BTTMixture(64, 64, 4, 1, balance=0.5, rngs=nnx.Rngs(0))
    lo.nn.flax.load_state_dict(ours, layer.state_dict())
    other = lo.nn.equinox.BTTMixture(64, 64, 4, 1, balance=0.5, dtype="float32", key=jax.random.key(0))
    other = lo.nn.equinox.load_state_dict(other, layer.state_dict())
    return ours, other, float(loss.detach()), layer.gate.grad.numpy()


def test_balance_loss_is_that_of_torch(x):
    ours, other, expected, gradient = _balances(x)

    def flax_loss(model):
        return lo.nn.flax.with_balance_loss(model)(x)[1]

    value, gradients = nnx.jit(nnx.value_and_grad(flax_loss))(ours)
    assert float(value) == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(gradients.gate.get_value(), gradient, rtol=1e-3, atol=1e-6)
    assert not jax.tree.leaves(nnx.state(ours, nnx.Intermediate))
    assert not hasattr(ours, "__captures__")
    wraps = (
        lambda model: jax.vmap(model),
        lambda model: jax.jit(jax.vmap(jax.checkpoint(lambda row: model(row)))),
        lambda model: model,
    )
    for wrap in wraps:

        def eqx_loss(model, wrap=wrap):
            return lo.nn.equinox.with_balance_loss(wrap(model))(x)[1]

        value, gradients = eqx.filter_jit(eqx.filter_value_and_grad(eqx_loss))(other)
        assert float(value) == pytest.approx(expected, rel=1e-5)
        np.testing.assert_allclose(gradients.leaves["gate"], gradient, rtol=1e-3, atol=1e-6)


def test_balance_loss_of_no_rows_is_zero():
    layer = lo.nn.flax.BTTMixture(64, 64, 4, rngs=nnx.Rngs(0))
    assert float(balance_of(layer.nonlinear, jax.numpy.zeros((0, 4)))) == 0


def test_balance_loss_of_flax_asks_for_the_model(x):
    with pytest.raises(ValueError, match=r"the first argument, of type \w+, has no model in it; give a model"):
        lo.nn.flax.with_balance_loss(lambda x: x)(x)
    with pytest.raises(ValueError, match="the first argument is missing"):
        lo.nn.flax.with_balance_loss(lambda model: model(x))(model=None)


@pytest.mark.full
def test_balance_loss_of_flax_misses_no_mixture(x):
    layer = lo.nn.flax.BTTMixture(64, 64, 4, 1, balance=0.5, rngs=nnx.Rngs(0))
    other = nnx.Linear(64, 64, rngs=nnx.Rngs(0))
    summed = lo.nn.flax.with_balance_loss
    expected = float(summed(layer)(x)[1])
    assert expected > 0.49
    for wrap in (nnx.remat, nnx.jit):
        found = summed(lambda model, x, wrap=wrap: wrap(lambda model, x: model(x))(model, x))(layer, x)[1]
        assert float(found) == pytest.approx(expected, rel=1e-5)
    for closure in (lambda x: layer(x), lambda x: jax.vmap(layer)(x), nnx.jit(layer)):
        with pytest.raises(ValueError, match="has no model in it"):
            summed(closure)(x)
    with pytest.raises(ValueError, match="a mixture runs that is not of the model"):
        summed(lambda model, x: layer(model(x)))(other, x)
    assert layer(x).shape == other(x).shape  # outside nothing is asked for
    assert float(summed(lambda models, x: models[1](models[0](x)))((other, layer), x)[1]) > 0.49


@pytest.mark.full
def test_balance_loss_where_there_is_none(x):
    ours, other, expected, _ = _balances(x)
    twice, loss = lo.nn.flax.with_balance_loss(lambda model: model(x) + model(x))(ours)
    np.testing.assert_allclose(twice, 2 * ours(x), rtol=1e-5)
    assert float(loss) == pytest.approx(2 * expected, rel=1e-5)
    assert float(lo.nn.flax.with_balance_loss(flax())(x)[1]) == 0
    found, balance = lo.nn.equinox.with_balance_loss(lambda model: {"y": jax.vmap(model)(x), "name": "a"})(equinox())
    assert float(balance) == 0
    assert found["name"] == "a"
    assert found["y"].shape == (32, 10)
    with pytest.raises(ValueError, match="a mixture runs inside scan"):
        lo.nn.equinox.with_balance_loss(lambda model: jax.lax.map(model, x))(other)
    free = lo.nn.equinox.BTTMixture(64, 64, 4, balance=0, dtype="float32", key=jax.random.key(0))
    assert float(lo.nn.equinox.with_balance_loss(lambda model: jax.lax.map(model, x))(free)[1]) == 0


@pytest.mark.full
def test_rows_one_by_one_are_rows_together(x):
    _, other, _, _ = _balances(x)
    np.testing.assert_allclose(jax.vmap(other)(x), other(x), rtol=1e-4, atol=1e-6)
    assert other(x[0]).shape == (64,)
    assert other(x[:0]).shape == (0, 64)


@pytest.mark.full
def test_chains_train_by_optax(x):
    model = swapped("equinox", BOTH[0])
    params, static = eqx.partition(model, eqx.is_inexact_array)
    rates = lo.nn.optax.scale_by_tree(lo.nn.equinox.lr_multipliers(model))
    tx = optax.chain(optax.adamw(1e-2, mask=lo.nn.equinox.decay_mask(model)), rates)
    state, losses = tx.init(params), []

    @jax.jit
    def step(params, state):
        def loss(params):
            return ((jax.vmap(eqx.combine(params, static))(x) - x[:, :10]) ** 2).mean()

        value, gradients = jax.value_and_grad(loss)(params)
        updates, state = tx.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, value

    for _ in range(30):
        params, state, value = step(params, state)
        losses.append(float(value))
    assert losses[-1] < losses[0] / 2


# ---------------------------------------------------------------- what needs an operator


@pytest.mark.full
@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("kind", sorted(MAKERS))
def test_what_needs_an_operator(framework, kind):
    for options in ({"weights": "project"}, {"weight_norm": True}):
        with pytest.raises(ValueError, match=f"layer 'layers.0': {kind} is no linear map"):
            swapped(framework, kind, **options)
    linear = DENSE[framework]().layers[0]
    with pytest.raises(TypeError, match=f"{kind} is no linear map"):
        module(framework).from_linear(linear, kind)
    model = swapped(framework, kind)
    mesh = jax.make_mesh((1,), ("model",))
    assert all(one.spec == jax.sharding.PartitionSpec() for one in jax.tree.leaves(lo.nn.shardings(model, mesh)))
    wide = jax.sharding.AbstractMesh((2,), ("model",))
    with pytest.warns(UserWarning, match=r"'layers\.\*' \(2\) stay whole on each of 2 devices"):
        lo.nn.shardings(model, wide)
    with pytest.warns(UserWarning, match=r"to_dense left 'layers\.\*' \(2\) alone: no linear maps"):
        dense = module(framework).to_dense(model)
    assert type((dense or model).layers[0]) is type(model.layers[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        module(framework).freeze(model)
    with pytest.raises(TypeError, match="which needs"):
        (lo.nn.flax if framework == "flax" else lo.nn.equinox).Chain(64, 16, rank=4)


def test_general_layers_are_left():
    attention = nnx.MultiHeadAttention(4, 64, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"is an nnx\.LinearGeneral, for which there is no chain; exclude it"):
        lo.nn.flax.replace_linear(attention, "chain", rngs=nnx.Rngs(0))
