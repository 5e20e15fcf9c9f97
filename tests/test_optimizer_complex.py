"""Complex parameters in PyTorch, Flax and Equinox: AdamW's as in torch.optim, Muon's orthogonalised as complex ones."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx
from torch import nn

import linops as lo
from linops.nn.torch import muon

STEPS = 5


def drawn(*shape, seed=0):
    random = np.random.default_rng(seed)
    return random.standard_normal(shape) + 1j * random.standard_normal(shape)


def layer_of(module, operator):
    return module.Linear(operator, bias=False)


def operator_of():
    """A circulant, which falls back to AdamW, times a matrix."""
    random = np.random.default_rng(0)
    return (
        (lo.circulant(4, 4) @ lo.dense(4, 4))
        .init(seed=0, dtype="complex128")
        .with_leaves([random.standard_normal(shape) + 1j * random.standard_normal(shape) for shape in ((4,), (4, 4))])
    )


def gradients(leaves, step):
    return [drawn(*leaf.shape, seed=10 * step + place) for place, leaf in enumerate(leaves)]


def in_torch(make):
    layer = layer_of(lo.nn.torch, operator_of())
    optimizer = make(layer)
    for step in range(STEPS):
        leaves = list(layer.parameters())
        for leaf, gradient in zip(leaves, gradients(leaves, step), strict=True):
            leaf.grad = torch.from_numpy(gradient)
        optimizer.step()
    return [leaf.detach().numpy() for leaf in layer.parameters()]


def in_jax(module, make):
    layer = layer_of(module, operator_of())
    params = nnx.as_pure(nnx.state(layer, nnx.Param)) if module is lo.nn.flax else eqx.filter(layer, eqx.is_array)
    tx = make(layer)
    state, tree = tx.init(params), jax.tree.structure(params)
    for step in range(STEPS):
        moves = tree.unflatten(map(jnp.asarray, gradients(jax.tree.leaves(params), step)))
        updates, state = tx.update(moves, state, params)
        params = optax.apply_updates(params, updates)
    assert all(leaf.shape in ((4,), (4, 4), ()) for leaf in jax.tree.leaves(optax.tree.get(state, "nu", [])))
    return jax.tree.leaves(params)


def are_close(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128], ids=str)
def test_what_is_left_to_adamw_steps_as_torchs(dtype):
    start = torch.from_numpy(drawn(6)).to(dtype)
    one, other = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    options = {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.3}
    optimizers = torch.optim.AdamW([one], **options), muon.Muon([{"params": [other], "algorithm": "adamw"}], **options)
    for step in range(STEPS):
        one.grad = torch.from_numpy(drawn(6, seed=step)).to(dtype)
        other.grad = one.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
        torch.testing.assert_close(other, one)


def test_groups_of_adamw_step_as_torchs_under_muon_too():
    def groups(layer):
        return lo.nn.param_groups(layer, 0.1, 0.2, optimizer="muon", adamw="")

    def theirs(layer):
        own = [{key: one[key] for key in ("params", "lr", "weight_decay")} for one in groups(layer)]
        return torch.optim.AdamW(own, betas=(0.9, 0.95))

    are_close(in_torch(lambda layer: muon.Muon(groups(layer))), in_torch(theirs))


@pytest.mark.parametrize("module", [lo.nn.flax, lo.nn.equinox], ids=lambda module: module.__name__)
def test_adamw_of_jax_steps_as_torchs(module):
    expected = in_torch(lambda layer: torch.optim.AdamW(lo.nn.param_groups(layer, 0.1, 0.2)))
    are_close(in_jax(module, lambda layer: module.adamw(layer, 0.1, 0.2)), expected)


@pytest.mark.parametrize("module", [lo.nn.flax, lo.nn.equinox], ids=lambda module: module.__name__)
def test_muon_of_jax_steps_as_torchs_where_a_leaf_falls_back_to_adamw(module):
    expected = in_torch(lambda layer: muon.Muon(lo.nn.param_groups(layer, 0.1, 0.2, "muon", renormalize=False)))
    are_close(in_jax(module, lambda layer: module.muon(layer, 0.1, 0.2, renormalize=False)), expected)


@pytest.mark.parametrize("shape", [(5, 5), (3, 7), (7, 3), (2, 4, 6)])
def test_a_complex_matrix_has_its_singular_values_moved_and_its_vectors_kept(shape):
    """With singular values s the direction is U p(s) Vᴴ: p is the iteration on numbers."""
    matrices = drawn(*shape)
    left, values, right = np.linalg.svd(matrices, full_matrices=False)
    moved = values / np.linalg.norm(values, axis=-1, keepdims=True)
    a, b, c = 3.4445, -4.7750, 2.0315
    for _ in range(5):
        moved = a * moved + b * moved**3 + c * moved**5
    expected = left @ (moved[..., None] * right)
    parameter = nn.Parameter(torch.zeros(shape, dtype=torch.complex128))
    parameter.grad = torch.from_numpy(matrices)
    muon.Muon([parameter], lr=1.0).step()
    np.testing.assert_allclose(-parameter.detach().numpy(), expected, atol=1e-10)
    tx = lo.nn.optax.scale_by_muon()
    found, _ = tx.update(jnp.asarray(matrices), tx.init(jnp.zeros(shape, "complex128")))
    np.testing.assert_allclose(found, expected, atol=1e-10)
