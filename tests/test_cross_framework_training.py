"""One MLP in PyTorch, Flax and Equinox: the same names, rates, checkpoints and losses."""

from dataclasses import replace

import numpy as np
import pytest

import linops as lo

torch = pytest.importorskip("torch")
jax = pytest.importorskip("jax")
nnx = pytest.importorskip("flax.nnx")
eqx = pytest.importorskip("equinox")
optax = pytest.importorskip("optax")

WIDTH, CLASSES = 24, 5
WHERE = {"up": lo.btt, "down": lo.low_rank}
BASE = {"up": 16, "down": 16, "head": 12}


class TorchMLP(torch.nn.Module):
    def __init__(self, width=WIDTH, dtype=torch.float64):
        super().__init__()
        self.norm = torch.nn.LayerNorm(width, dtype=dtype)
        self.up = torch.nn.Linear(width, 2 * width, dtype=dtype)
        self.down = torch.nn.Linear(2 * width, width, dtype=dtype)
        self.head = torch.nn.Linear(width, CLASSES, dtype=dtype)

    def forward(self, x):
        return self.head(x + self.down(torch.tanh(self.up(self.norm(x)))))


class FlaxMLP(nnx.Module):
    def __init__(self, width=WIDTH, dtype="float64"):
        options = {"param_dtype": dtype, "rngs": nnx.Rngs(0)}
        self.norm = nnx.LayerNorm(width, epsilon=1e-5, use_fast_variance=False, **options)
        self.up = nnx.Linear(width, 2 * width, **options)
        self.down = nnx.Linear(2 * width, width, **options)
        self.head = nnx.Linear(width, CLASSES, **options)

    def __call__(self, x):
        return self.head(x + self.down(jax.numpy.tanh(self.up(self.norm(x)))))


class EquinoxMLP(eqx.Module):
    norm: eqx.nn.LayerNorm
    up: eqx.nn.Linear
    down: eqx.nn.Linear
    head: eqx.nn.Linear

    def __init__(self, width=WIDTH, dtype="float64"):
        keys = jax.random.split(jax.random.key(0), 3)
        self.norm = eqx.nn.LayerNorm(width, dtype=dtype)
        self.up = eqx.nn.Linear(width, 2 * width, dtype=dtype, key=keys[0])
        self.down = eqx.nn.Linear(2 * width, width, dtype=dtype, key=keys[1])
        self.head = eqx.nn.Linear(width, CLASSES, dtype=dtype, key=keys[2])

    def __call__(self, x):
        return self.head(x + self.down(jax.numpy.tanh(self.up(self.norm(x)))))


def structured(weight_norm=False):
    """The three models, structured alike, with PyTorch's numbers."""
    torch.manual_seed(0)
    ours = TorchMLP()
    options = {"where": WHERE, "weight_norm": weight_norm}
    reports = [lo.nn.replace_linear_(ours, None, **options)]
    flax = FlaxMLP()
    reports.append(lo.nn.flax.replace_linear(flax, None, rngs=nnx.Rngs(0), **options))
    equinox, report = lo.nn.equinox.replace_linear(EquinoxMLP(), None, key=jax.random.key(0), **options)
    reports.append(report)
    with torch.no_grad():
        for parameter in ours.parameters():  # biases, gains and norms too
            parameter.add_(0.1 * torch.randn_like(parameter))
    state = ours.state_dict()
    lo.nn.flax.load_state_dict(flax, state)
    return ours, flax, lo.nn.equinox.load_state_dict(equinox, state), reports


def batches():
    random = np.random.default_rng(0)
    return [(random.standard_normal((16, WIDTH)), random.integers(0, CLASSES, 16)) for _ in range(20)]


def train_torch(model, optimizer):
    losses = []
    for x, y in batches():
        loss = torch.nn.functional.cross_entropy(model(torch.from_numpy(x)), torch.from_numpy(y))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def cross_entropy(y, labels):
    return optax.softmax_cross_entropy_with_integer_labels(y, labels).mean()


def train_flax(model, tx):
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer, x, y):
        loss, gradient = nnx.value_and_grad(lambda model: cross_entropy(model(x), y))(model)
        optimizer.update(model, gradient)
        return loss

    return [float(step(model, optimizer, x, y)) for x, y in batches()]


def train_equinox(model, tx):
    state = tx.init(eqx.filter(model, eqx.is_inexact_array))

    @eqx.filter_jit
    def step(model, state, x, y):
        loss, gradient = eqx.filter_value_and_grad(lambda model: cross_entropy(jax.vmap(model)(x), y))(model)
        updates, state = tx.update(gradient, state, eqx.filter(model, eqx.is_inexact_array))
        return eqx.apply_updates(model, updates), state, loss

    losses = []
    for x, y in batches():
        model, state, loss = step(model, state, x, y)
        losses.append(float(loss))
    return losses


def torch_optimizer(model, optimizer, decay):
    groups = lo.nn.param_groups(model, 0.01, 0.1, optimizer=optimizer, base=BASE, decay=decay)
    return torch.optim.AdamW(groups) if optimizer == "adamw" else torch.optim.SGD(groups, momentum=0.9)


def transformation(multipliers, optimizer, decay):
    scale, mask = lo.nn.optax.scale_by_tree(multipliers), lo.nn.optax.decay_mask
    if optimizer == "sgd":  # which decays through the gradient
        return optax.chain(
            optax.add_decayed_weights(0.1, mask), optax.trace(0.9), scale, optax.scale_by_learning_rate(0.01)
        )
    if decay == "coupled":
        return optax.chain(optax.adamw(0.01, weight_decay=0.1, mask=mask), scale)
    return optax.chain(
        optax.scale_by_adam(), scale, optax.add_decayed_weights(0.1, mask), optax.scale_by_learning_rate(0.01)
    )


@pytest.mark.full
@pytest.mark.parametrize(
    ("optimizer", "decay", "weight_norm"),
    [
        ("adamw", "coupled", False),
        ("adamw", "independent", False),
        ("sgd", "coupled", False),
        ("adamw", "coupled", True),
    ],
)
def test_same_losses(optimizer, decay, weight_norm):
    ours, flax, equinox, _ = structured(weight_norm)
    expected = train_torch(ours, torch_optimizer(ours, optimizer, decay))
    assert expected[-1] != pytest.approx(expected[0], rel=1e-2)
    flax_rates = lo.nn.flax.lr_multipliers(flax, optimizer, BASE)
    equinox_rates = lo.nn.equinox.lr_multipliers(equinox, optimizer, BASE)
    np.testing.assert_allclose(train_flax(flax, transformation(flax_rates, optimizer, decay)), expected, rtol=1e-6)
    np.testing.assert_allclose(
        train_equinox(equinox, transformation(equinox_rates, optimizer, decay)), expected, rtol=1e-6
    )
    for name, parameter in lo.nn.flax.state_dict(flax).items():
        np.testing.assert_allclose(parameter, ours.state_dict()[name], rtol=1e-6, atol=1e-9, err_msg=name)


def test_labels_give_the_same_losses():
    ours, flax, equinox, _ = structured()
    expected = train_torch(ours, torch.optim.Adam(lo.nn.param_groups(ours, 0.01, optimizer="adam", base=BASE)))
    for model, module, train in ((flax, lo.nn.flax, train_flax), (equinox, lo.nn.equinox, train_equinox)):
        multipliers = module.lr_multipliers(model, "adam", BASE)
        groups = {number: optax.adam(0.01 * number) for number in set(jax.tree.leaves(multipliers))}
        assert len(groups) > 3
        np.testing.assert_allclose(
            train(model, optax.partition(groups, lo.nn.optax.labels(multipliers))), expected, rtol=1e-6
        )


@pytest.mark.parametrize(
    "options",
    [
        {"weight_decay": 0.1, "base": BASE, "adamw": "head"},
        pytest.param({"weight_decay": 0.1, "decay": "independent", "adamw_lr": 0.002}, marks=pytest.mark.full),
        pytest.param({"nesterov": False, "momentum": 0.8, "betas": (0.8, 0.9)}, marks=pytest.mark.full),
    ],
    ids=["coupled", "independent", "plain"],
)
def test_muon_gives_the_same_losses_and_parameters(options):
    ours, flax, equinox, _ = structured()
    own = {name: options[name] for name in ("nesterov", "momentum", "betas") if name in options}
    rest = {name: value for name, value in options.items() if name not in own}
    optimizer = lo.nn.torch.Muon(lo.nn.param_groups(ours, 0.02, optimizer="muon", **rest), **own)
    assert {"muon", "adamw"} == {group["algorithm"] for group in optimizer.param_groups}
    expected = train_torch(ours, optimizer)
    assert expected[-1] != pytest.approx(expected[0], rel=1e-2)
    found = train_flax(flax, lo.nn.flax.muon(flax, 0.02, **options))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    for name, parameter in lo.nn.flax.state_dict(flax).items():
        np.testing.assert_allclose(parameter, ours.state_dict()[name], rtol=1e-5, atol=1e-5, err_msg=name)
    lr = 0.02 if "adamw_lr" in options else optax.constant_schedule(0.02)
    np.testing.assert_allclose(train_equinox(equinox, lo.nn.equinox.muon(equinox, lr, **options)), expected, rtol=1e-5)


@pytest.mark.full
def test_what_muon_refuses():
    *_, equinox, _ = structured()
    with pytest.raises(ValueError, match="decay='none'"):
        lo.nn.equinox.muon(equinox, 0.02, decay="none")
    with pytest.raises(ValueError, match="stands beside a number lr"):
        lo.nn.equinox.muon(equinox, optax.constant_schedule(0.02), adamw_lr=0.01)
    with pytest.raises(ValueError, match="are no matrices"):
        lo.nn.optax.scale_by_muon().init({"a": np.ones(3)})
    tx = lo.nn.equinox.muon(equinox, 0.02, weight_decay=0.1)
    params = eqx.filter(equinox, eqx.is_inexact_array)
    with pytest.raises(ValueError, match="needs the parameters"):
        tx.update(params, tx.init(params))


def torch_rates(model, optimizer, base):
    groups = lo.nn.param_groups(model, 1.0, optimizer=optimizer, base=base)
    return {name: group["lr_multiplier"] for group in groups for name in group["names"]}


@pytest.mark.parametrize("optimizer", ["adam", "lion", "sgd"])
@pytest.mark.parametrize("base", [None, 12, BASE, "model"])
@pytest.mark.parametrize("weight_norm", [False, True])
def test_same_rates(optimizer, base, weight_norm):
    ours, flax, equinox, _ = structured(weight_norm)
    bases = [base] * 3
    if base == "model":
        with torch.device("meta"):
            narrow = TorchMLP(8)
        bases = [narrow, nnx.eval_shape(lambda: FlaxMLP(8)), eqx.filter_eval_shape(EquinoxMLP, 8)]
    expected = torch_rates(ours, optimizer, bases[0])
    for module, model, model_base in ((lo.nn.flax, flax, bases[1]), (lo.nn.equinox, equinox, bases[2])):
        names = {id(array): name for name, array in module.state_dict(model).items()}
        multipliers = jax.tree.leaves(module.lr_multipliers(model, optimizer, model_base))
        arrays = jax.tree.leaves(
            nnx.as_pure(nnx.state(model, nnx.Param)) if module is lo.nn.flax else eqx.filter(model, eqx.is_array)
        )
        kernel = {"head.weight"}  # which Flax holds transposed
        found = {names.get(id(array), *kernel): number for array, number in zip(arrays, multipliers, strict=True)}
        assert found == expected


def test_reports_agree():
    *_, reports = structured()
    rows = [sorted(report, key=lambda row: row.name) for report in reports]
    scales = [row.scale for each in rows for row in each if not row.zero_init]
    assert all(0.1 < scale < 10 for scale in scales)
    alike = [[replace(row, scale=None, own_scale=None) for row in each] for each in rows]  # draws differ
    assert alike[0] == alike[1] == alike[2]
    assert reports[1].new_params < reports[1].old_params


@pytest.mark.full
def test_checkpoint_goes_round(tmp_path):
    safetensors = pytest.importorskip("safetensors")
    from safetensors.flax import load_file, save_file
    from safetensors.torch import load_file as load_torch
    from safetensors.torch import save_file as save_torch

    assert safetensors
    ours, flax, equinox, _ = structured()
    x = np.random.default_rng(1).standard_normal((3, WIDTH))
    expected = ours(torch.from_numpy(x)).detach().numpy()
    save_torch(ours.state_dict(), tmp_path / "torch.safetensors")
    other_flax, other_equinox = structured()[1:3]
    lo.nn.flax.load_state_dict(other_flax, load_file(tmp_path / "torch.safetensors"))
    np.testing.assert_allclose(other_flax(x), expected, rtol=1e-12)
    for number, state in enumerate([lo.nn.flax.state_dict(flax), lo.nn.equinox.state_dict(equinox)]):
        assert state.keys() == ours.state_dict().keys()
        save_file(state, tmp_path / f"{number}.safetensors")
        other = structured()[0]
        other.load_state_dict(load_torch(tmp_path / f"{number}.safetensors"))
        np.testing.assert_allclose(other(torch.from_numpy(x)).detach().numpy(), expected, rtol=1e-12)
        loaded = lo.nn.equinox.load_state_dict(other_equinox, load_file(tmp_path / f"{number}.safetensors"))
        np.testing.assert_allclose(jax.vmap(loaded)(x), expected, rtol=1e-12)


def test_wrong_checkpoints_are_errors():
    _, flax, equinox, _ = structured()
    for load, model in ((lo.nn.flax.load_state_dict, flax), (lo.nn.equinox.load_state_dict, equinox)):
        state = lo.nn.equinox.state_dict(equinox)
        with pytest.raises(ValueError, match=r"'up.bias' has shape \(1,\), expected \(48,\)"):
            load(model, state | {"up.bias": np.zeros(1)})
        del state["up.bias"]
        with pytest.raises(KeyError, match=r"missing .'up.bias'., unexpected .'other'."):
            load(model, state | {"other": np.zeros(1)})


def test_multipliers_of_another_model_are_an_error():
    tx = lo.nn.optax.scale_by_tree({"a": 1.0})
    with pytest.raises(ValueError, match="1 multipliers for 2 parameters"):
        tx.update({"a": np.ones(1), "b": np.ones(1)}, tx.init({}))


def test_unknown_optimizer_and_base_are_errors():
    _, flax, equinox, _ = structured()
    with pytest.raises(ValueError, match="optimizer='muon'"):
        lo.nn.equinox.lr_multipliers(equinox, "muon")
    with pytest.raises(ValueError, match="no counterpart of 'U' of layer 'down'"):
        lo.nn.flax.lr_multipliers(flax, base=nnx.Dict(norm=FlaxMLP().norm))
