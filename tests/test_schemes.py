"""Layers drawn by a scheme: of the norm of their shape at the start and whenever drawn anew, in files too."""

import equinox as eqx
import jax
import numpy as np
import pytest
import torch
from flax import nnx
from torch import nn

import linops as lo
from linops.nn.recipe import Layer, as_document, from_plain
from linops.safetensors import opened

SCHEMES = ("orthogonal", "spectral")


def norm(layer):
    """The spectral norm over √(out/in), which the schemes make one."""
    dense = layer.operator.to_dense()
    dense = dense.detach().double().numpy() if isinstance(dense, torch.Tensor) else np.asarray(dense, "float64")
    return np.linalg.norm(dense, 2) / np.sqrt(dense.shape[0] / dense.shape[1])


def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 144), nn.GELU(), nn.Linear(144, 64), nn.Linear(64, 10))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_torch_draws_by_it_again_and_again(scheme, tmp_path):
    model = mlp()
    with torch.no_grad():
        model[2].weight.mul_(0.1)  # small on purpose
    lo.nn.replace_linear_(model, "btt", where=["0", "2"], scheme=scheme)
    kept = norm(model[2])
    assert norm(model[0]) == pytest.approx(1, rel=1e-3)
    assert kept == pytest.approx(0.1, rel=0.2)
    before = model[0].cores_0.detach().clone()
    for layer in (model[0], model[2]):
        layer.reset_parameters()
    assert not torch.equal(before, model[0].cores_0)
    assert (norm(model[0]), norm(model[2])) == (pytest.approx(1, rel=1e-3), pytest.approx(kept, rel=1e-3))
    assert f"scheme={scheme!r}" in repr(model[0])
    lo.nn.save(model, tmp_path / "m")
    for start in (mlp(), lo.nn.load(mlp(), tmp_path / "m")):
        loaded = lo.nn.load(start, tmp_path / "m")
        assert loaded[0].scheme == scheme
        torch.testing.assert_close(loaded[0].cores_0, model[0].cores_0, rtol=0, atol=0)
    other = mlp()
    lo.nn.replace_linear_(other, "btt", where=["0", "2"])  # of another scheme
    layer = other[0]
    assert lo.nn.load(other, tmp_path / "m")[0] is layer, "of another scheme, and still the layer that it was"
    other[2].reset_parameters()
    layer.reset_parameters()
    assert norm(other[0]) == pytest.approx(1, rel=1e-3)
    assert norm(other[2]) == pytest.approx(kept, rel=1e-3), "the file has the model's own scale"


@pytest.mark.parametrize("family", ["btt", "chain", "btt_mixture"])
def test_files_have_what_starts_at_zero_and_a_models_own_scale(family, tmp_path):
    model = mlp()
    with torch.no_grad():
        model[0].weight.zero_()
        model[2].weight.mul_(0.1)
    lo.nn.replace_linear_(model, family, where=["0", "2"])
    small = {name: leaf.std().item() for name, leaf in model[2].named_parameters() if leaf.ndim > 1}
    lo.nn.save(model, tmp_path / "m")
    swapped = mlp()
    lo.nn.replace_linear_(swapped, family, where=["0", "2"])
    for start in (mlp(), swapped):  # built from the file, or there
        layers = [start[0], start[2]]
        lo.nn.load(start, tmp_path / "m")
        assert (start is swapped) == (layers == [start[0], start[2]])
        for place in (0, 2):
            start[place].reset_parameters()
        assert not start[0].eval()(torch.ones(64)).any()
        for name, std in small.items():
            assert start[2].get_parameter(name).std().item() == pytest.approx(std, rel=0.3)
        again = tmp_path / f"again {start is swapped}"
        lo.nn.save(start, again)
        assert opened(again).metadata["linops"] == opened(tmp_path / "m").metadata["linops"]
    plain = mlp()
    lo.nn.replace_linear_(plain, family, where=["0", "2"])
    lo.nn.save(plain, tmp_path / "plain")
    lo.nn.load(swapped, tmp_path / "plain")
    swapped[0].reset_parameters()
    assert swapped[0].eval()(torch.ones(64)).any(), "of a file without zeros"


@pytest.mark.parametrize(
    "starts", [3, [], [{}, {}], [{"x": 1}], [{"U": -1}], [{"U": True}], [{"U": float("inf")}], [{"U": 10**400}], [[]]]
)
def test_starts_of_a_recipe_are_factors_of_leaves(starts):
    structure = lo.low_rank(4, 4).structure
    plain = as_document({"a": Layer((structure,), starts=({"U": 0.5},))})
    assert from_plain(plain)["a"].starts == ({"U": 0.5},)
    plain["layers"]["a"]["starts"] = starts
    if starts == []:
        assert from_plain(plain)["a"].starts == ()
    else:
        with pytest.raises(ValueError, match="layer 'a' of the recipe: starts "):
            from_plain(plain)


def test_seeds_dtypes_zeros_and_the_meta_device():
    def layer(**options):
        torch.manual_seed(3)
        return lo.nn.torch.Linear(lo.monarch(64, 64), scheme="orthogonal", **options)

    torch.testing.assert_close(layer().operator.to_dense(), layer().operator.to_dense(), rtol=0, atol=0)
    assert norm(layer(dtype=torch.bfloat16)) == pytest.approx(1, rel=2e-2)
    assert norm(layer(zero_init=True)) == 0
    empty = layer(device="meta").to_empty(device="cpu")
    empty.reset_parameters()
    assert norm(empty) == pytest.approx(1, rel=1e-3)
    parts = nn.Sequential(nn.Linear(16, 48))
    lo.nn.replace_linear_(parts, "btt", parts={"0": 3}, scheme="spectral")
    assert [norm(part) for part in parts[0]] == pytest.approx([1, 1, 1], rel=1e-3)


def test_frozen_layers_keep_it():
    model = nn.Sequential(lo.nn.torch.Linear(lo.dense(16, 16) + lo.dense(16, 16), scheme="orthogonal"))
    assert lo.nn.freeze_(model).rows
    assert model[0].scheme == "orthogonal"


def test_frozen_layers_of_flax_keep_it():
    operator = lo.dense(16, 16) + lo.dense(16, 16)
    model = nnx.Sequential(lo.nn.flax.Linear(operator, scheme="orthogonal", rngs=nnx.Rngs(0)))
    lo.nn.flax.freeze(model)
    assert model.layers[0].scheme == "orthogonal"


@pytest.mark.full
@pytest.mark.parametrize("scheme", SCHEMES)
def test_flax_and_equinox_draw_by_it_and_files_say_so(scheme, tmp_path):
    flax = nnx.Sequential(nnx.Linear(64, 144, rngs=nnx.Rngs(0)), nnx.Linear(144, 64, rngs=nnx.Rngs(0)))
    lo.nn.flax.replace_linear(flax, "btt", where="layers.0", scheme=scheme, rngs=nnx.Rngs(1))
    assert norm(flax.layers[0]) == pytest.approx(1, rel=1e-3)
    equinox = eqx.nn.MLP(64, 64, 144, 1, key=jax.random.key(0))
    equinox, _ = lo.nn.equinox.replace_linear(equinox, "btt", where="layers.0", scheme=scheme, key=jax.random.key(1))
    assert norm(equinox.layers[0]) == pytest.approx(1, rel=1e-3)
    lo.nn.equinox.save(equinox, tmp_path / "m")
    torch_model = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(64, 144), nn.Linear(144, 64)])})
    lo.nn.flax.save(flax, tmp_path / "f")
    loaded = lo.nn.load(torch_model, tmp_path / "f")["layers"][0]
    assert loaded.scheme == scheme
    back = nnx.Sequential(nnx.Linear(64, 144, rngs=nnx.Rngs(0)), nnx.Linear(144, 64, rngs=nnx.Rngs(0)))
    assert lo.nn.flax.load(back, tmp_path / "f").layers[0].scheme == scheme
    other = nnx.Sequential(nnx.Linear(64, 144, rngs=nnx.Rngs(0)), nnx.Linear(144, 64, rngs=nnx.Rngs(0)))
    lo.nn.flax.replace_linear(other, "btt", where="layers.0", rngs=nnx.Rngs(1))  # of another scheme
    layer = other.layers[0]
    assert lo.nn.flax.load(other, tmp_path / "f").layers[0] is layer
    assert layer.scheme == scheme
    other = eqx.nn.MLP(64, 64, 144, 1, key=jax.random.key(0))
    other, _ = lo.nn.equinox.replace_linear(other, "btt", where="layers.0", key=jax.random.key(2))
    assert eqx.tree_equal(lo.nn.equinox.load(other, tmp_path / "m"), equinox)
    assert other.layers[0].scheme == "mup", "the model that was given stays as it was"
    low, _ = lo.nn.equinox.replace_linear(
        eqx.nn.MLP(64, 64, 144, 1, key=jax.random.key(0)), "low_rank", where="layers.0", key=jax.random.key(2)
    )
    with pytest.raises(ValueError, match=r"layer 'layers\.0' is LowRank\(.*\) 144×64 in the model and BlockTensorT"):
        lo.nn.equinox.load(low, tmp_path / "m")
    again = lo.nn.equinox.load(eqx.nn.MLP(64, 64, 144, 1, key=jax.random.key(2)), tmp_path / "m")
    assert eqx.tree_equal(again, equinox)


def test_a_key_of_jax_draws_by_it():
    layer = lo.nn.equinox.Linear(lo.low_rank(64, 16, rank=4), scheme="orthogonal", key=jax.random.key(0))
    assert norm(layer) == pytest.approx(1, rel=1e-3)


@pytest.mark.full
def test_jax_draws_by_it_within_transformations():
    def made(key):
        return lo.nn.equinox.Linear(lo.low_rank(64, 16, rank=4), scheme="orthogonal", key=key)

    key = jax.random.key(0)
    same = jax.tree.map(np.array_equal, eqx.filter_jit(made)(key), made(key))
    assert all(jax.tree.leaves(same))
    stacked = eqx.filter_vmap(made)(jax.random.split(key, 3))
    assert stacked.operator.U.shape == (3, 64, 4)
    assert not np.array_equal(stacked.operator.U[0], stacked.operator.U[1])
    assert eqx.filter_eval_shape(made, key).operator.U.shape == (64, 4)
    zero = lo.nn.equinox.Linear(lo.low_rank(64, 16, rank=4), scheme="orthogonal", zero_init=True, key=key)
    assert not zero.operator.U.any()
    assert zero.operator.V.any()


def test_no_other_scheme():
    with pytest.raises(ValueError, match=r"Linear\(scheme='normal'\): expected 'mup', 'orthogonal', 'spectral'"):
        lo.nn.torch.Linear(lo.btt(16, 16), scheme="normal")
    with pytest.raises(ValueError, match=r"replace_linear\(scheme='normal'"):
        lo.nn.replace_linear_(mlp(), "btt", scheme="normal")
    with pytest.raises(ValueError, match="'normal'"):
        lo.nn.equinox.Linear(lo.btt(16, 16), scheme="normal", key=jax.random.key(0))
