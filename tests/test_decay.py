"""Decay of products: the matrix of every layer shrinks as a dense one's does, whatever it is made of."""

import numpy as np
import pytest
import torch
from layer_cases import OPERATORS
from torch import nn

import linops as lo
from linops.scaling import shares

FAMILIES = ("low_rank", "btt", "btt_rank", "btt_three", "kronecker_three", "monarch", "tensor_train_three", "blast")
FAMILIES += ("low_rank_sparse",)  # whose values Muon leaves to AdamW
EXPRESSIONS = {
    "product of sums": lambda: (
        (lo.LowRank(lo.spec(9, 2), lo.spec(2, 9)) + lo.Dense(lo.spec(9, 9))) @ lo.Dense(lo.spec(9, 9))
    ),
    "sum of products": lambda: lo.kron(lo.spec(3, 3), lo.spec(3, 3)) + lo.low_rank(9, 9, rank=2),
    "grid": lambda: lo.Block(
        [[lo.dense(3, 3), lo.low_rank(3, 4, rank=1)], [lo.low_rank(2, 3, rank=1), lo.dense(2, 4)]]
    ),
    "power": lambda: lo.Dense(lo.spec(4, 4)) ** 3,
    "transposed": lambda: lo.btt(27, 27, rank=2, cores=3).T,
}


@pytest.mark.parametrize("name", [*(name for name in OPERATORS if name != "function"), *EXPRESSIONS])
def test_leaves_scaled_by_their_shares_scale_the_operator(name):
    """Of everything: families, padded ones, sums, products of sums, block matrices, powers."""
    operator = {**OPERATORS, **EXPRESSIONS}[name]().init(seed=0, dtype="float64")
    found = shares(operator)
    scaled = operator.with_leaves([leaf * 0.7 ** found[key] for key, leaf in operator.named_leaves()])
    np.testing.assert_allclose(scaled.to_dense(), 0.7 * operator.to_dense(), rtol=1e-12, atol=1e-15)


def test_shares_are_equal_where_leaves_are_multiplied():
    assert shares(lo.btt(27, 27, rank=2, cores=3)) == dict.fromkeys(("cores_0", "cores_1", "cores_2"), 1 / 3)
    assert shares(EXPRESSIONS["product of sums"]()) == pytest.approx(
        {"factors_0_terms_0_U": 1 / 3, "factors_0_terms_0_V": 1 / 3, "factors_0_terms_1_matrix": 2 / 3}
        | {"factors_1_matrix": 1 / 3}
    )


def test_what_has_no_size_of_its_own_has_no_share():
    reflected = lo.Householder(lo.spec(2, 4)) @ lo.Dense(lo.spec(4, 4))
    assert shares(reflected) == {"factors_0_v": 0.0, "factors_1_matrix": 1.0}


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon"])
@pytest.mark.parametrize("name", FAMILIES)
def test_products_decay_as_dense_matrices_do(name, optimizer):
    """With gradients of zero, 20 steps at lr · weight_decay = .002: (1 − .002)^20 to first order in a step."""
    torch.manual_seed(0)
    operator = OPERATORS[name]()
    model = nn.Sequential(lo.nn.torch.Linear(operator), nn.Linear(operator.shape[0], 3)).double()
    before = model[0].operator.to_dense().detach(), model[1].weight.detach().clone()
    rates = {"adamw_lr": 0.003, "adamw": "1"} if optimizer == "muon" else {}
    groups = lo.nn.param_groups(model, 0.02, 0.1, optimizer=optimizer, base=4, decay="product", **rates)
    step = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD, "muon": lo.nn.torch.Muon}[optimizer](groups)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for _ in range(20):
        step.step()
    head = 0.003 if optimizer == "muon" else 0.02  # what is left to AdamW decays by AdamW's rate
    by_muon = any(
        name.startswith("0.") for group in groups if group.get("algorithm") == "muon" for name in group["names"]
    )
    rate = 0.02 if optimizer != "muon" or by_muon else head  # of layers whose leaves are all left to it, too
    expected = before[0] * (1 - rate * 0.1) ** 20
    torch.testing.assert_close(model[0].operator.to_dense(), expected, rtol=4e-5, atol=1e-12)
    torch.testing.assert_close(model[1].weight, before[1] * (1 - head * 0.1) ** 20)


def test_entries_of_a_matrix_decay_and_what_multiplies_elementwise_does_not():
    """Also those of one axis: sparse values, bands, circulants. By layer of torch; Flax and Equinox have the rule."""
    operators = {
        "sparse": (lo.low_rank_sparse(12, 8, rank=2, density=0.2), {"terms_0_U", "terms_0_V", "terms_1_values"}),
        "semi": (lo.low_rank_semi_structured(12, 8, 2), {"terms_0_U", "terms_0_V", "terms_1_values"}),
        "circulant": (lo.circulant(8, 8), {"c"}),
        "toeplitz": (lo.toeplitz(8, 8), {"c", "r"}),
        "bands": (OPERATORS["tridiagonal"](), {"lower", "diag", "upper"}),
        "diagonal": (lo.dense(8, 8) @ lo.Diagonal(lo.spec(8)), {"factors_0_matrix"}),
    }
    for operator, expected in operators.values():
        groups = lo.nn.param_groups(operator.to_layer(), 0.1, 0.5, decay="product", optimizer="muon")
        decayed = {name: group for group in groups if group["weight_decay"] for name in group["names"]}
        assert set(decayed) == expected
        for name in expected & {"terms_1_values"}:  # by AdamW, and as much as the dense matrix that it stands beside
            assert decayed[name]["algorithm"] == "adamw"
            assert decayed[name]["lr"] * decayed[name]["weight_decay"] == pytest.approx(0.05)


@pytest.mark.full
def test_sparse_values_decay_in_jax():
    import jax
    from flax import nnx

    operator = lo.low_rank_sparse(12, 8, rank=2, density=0.2)
    layers = (
        (lo.nn.equinox, lo.nn.equinox.Linear(operator, key=jax.random.key(0))),
        (lo.nn.flax, lo.nn.flax.Linear(operator, rngs=nnx.Rngs(0))),
    )
    for module, layer in layers:
        found = jax.tree_util.tree_leaves_with_path(module.decay_mask(layer))
        assert {jax.tree_util.keystr(path[-1:]) for path, decays in found if not decays} <= {".bias", "['bias']"}
        assert sum(jax.tree.leaves(module.decay_shares(layer))) == 2  # U and V a half each, the values a whole


def test_frozen_factors_leave_their_share_to_the_others():
    layer = lo.low_rank(8, 6, rank=2).to_layer()
    layer.V.requires_grad_(False)
    (group,) = [group for group in lo.nn.param_groups(layer, 0.1, 0.5, decay="product") if "U" in group["names"]]
    assert group["lr"] * group["weight_decay"] == pytest.approx(0.05)


def test_adam_has_no_such_decay():
    with pytest.raises(ValueError, match=r"decay='product'.*adam decays through the gradient"):
        lo.nn.param_groups(nn.Linear(2, 2), 0.1, 0.1, optimizer="adam", decay="product")


def _decayed(module, params, shares, multipliers):
    import jax
    import optax

    tx = optax.chain(
        optax.scale_by_adam(),
        lo.nn.optax.scale_by_tree(multipliers),
        lo.nn.optax.add_decay(0.1, shares),
        optax.scale_by_learning_rate(0.02),
    )
    state = tx.init(params)
    for _ in range(3):
        updates, state = tx.update(jax.tree.map(jax.numpy.zeros_like, params), state, params)
        params = optax.apply_updates(params, updates)
    return params


@pytest.mark.full
def test_optax_decays_as_param_groups_do():
    import equinox as eqx
    import jax
    from flax import nnx

    operator = OPERATORS["btt_three"]().init(seed=0)
    torch_layer = lo.nn.torch.Linear(operator)
    optimizer = torch.optim.AdamW(lo.nn.param_groups(torch_layer, 0.02, 0.1, decay="product"))
    for parameter in torch_layer.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for _ in range(3):
        optimizer.step()
    expected = {name: parameter.detach().numpy() for name, parameter in torch_layer.named_parameters()}

    ours = lo.nn.equinox
    layer = ours.Linear(operator)
    found = _decayed(
        ours, eqx.filter(layer, eqx.is_inexact_array), ours.decay_shares(layer), ours.lr_multipliers(layer)
    )
    for name, leaf in found.operator.named_leaves():
        np.testing.assert_allclose(leaf, expected[name], rtol=1e-6)

    ours = lo.nn.flax
    layer = ours.Linear(operator)
    params = nnx.as_pure(nnx.state(layer, nnx.Param))
    found = _decayed(ours, params, ours.decay_shares(layer), ours.lr_multipliers(layer))
    assert found.keys() == expected.keys()
    for name, leaf in found.items():
        np.testing.assert_allclose(leaf, expected[name], rtol=1e-6)
    tx = lo.nn.optax.add_decay(lambda step: 0.1, {"a": 1.0})
    with pytest.raises(ValueError, match="add_decay: needs the parameters"):
        tx.update({"a": jax.numpy.ones(1)}, tx.init({}))


@pytest.mark.full
def test_muon_of_jax_shares_decay_as_torchs_does():
    import equinox as eqx
    import jax
    import optax

    operator = OPERATORS["tensor_train_three"]().init(seed=0)  # whose cores are AdamW's
    for made in (operator, OPERATORS["btt_three"]().init(seed=0)):
        theirs = lo.nn.torch.Linear(made)
        groups = lo.nn.param_groups(theirs, 0.02, 0.1, optimizer="muon", decay="product", adamw_lr=0.003)
        for parameter in theirs.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer = lo.nn.torch.Muon(groups)
        ours = lo.nn.equinox.Linear(made)
        tx = lo.nn.equinox.muon(ours, 0.02, 0.1, decay="product", adamw_lr=0.003)
        params = eqx.filter(ours, eqx.is_inexact_array)
        state = tx.init(params)
        for _ in range(3):
            optimizer.step()
            updates, state = tx.update(jax.tree.map(jax.numpy.zeros_like, params), state, params)
            params = optax.apply_updates(params, updates)
        for name, leaf in params.operator.named_leaves():
            np.testing.assert_allclose(leaf, getattr(theirs, name).detach().numpy(), rtol=1e-5)
