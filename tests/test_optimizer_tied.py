"""Renormalised steps of layers that share a leaf, against derivatives of dense matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch import nn

import linops as lo
from linops.nn.torch import muon
from linops.partners import initial_norms

LR = 0.01


def parts(first, second):
    """Two operators of one structure; the numbers of the second are of another size."""
    one, other = (lo.btt(16, 16).init(seed=seed, dtype="float64") for seed in (0, 1))
    return tuple(
        operator.with_leaves([factor * leaf for _, leaf in operator.named_leaves()])
        for operator, factor in ((one, first), (other, second))
    )


def share(operator, moves):
    """min(k, d / ‖Δ‖₂) with d = 1: Δ is the derivative of the dense matrix, exactly, as it is linear in each leaf."""
    operator = operator.to(backend="torch")
    names = [name for name, _ in operator.named_leaves()]
    leaves = tuple(leaf.double() for _, leaf in operator.named_leaves())
    along = tuple(torch.as_tensor(moves.get(name, np.zeros(leaf.shape))) for name, leaf in zip(names, leaves))
    _, change = torch.func.jvp(lambda *own: operator.with_leaves(own).to_dense(), leaves, along)
    return min(2.0, 1 / torch.linalg.matrix_norm(change, 2).item())


def direction(gradient, rate):
    """r · D of a leaf, after a first step."""
    return rate * muon.orthogonalize(torch.from_numpy(np.array(gradient))).numpy()


def tied(first, second, shared):
    """Two layers of PyTorch, with leaves of the first in the second, and gradients."""
    one, other = (lo.nn.torch.Linear(operator, bias=False) for operator in parts(first, second))
    for name in shared:
        setattr(other, name, getattr(one, name))
    model = nn.Sequential(one, nn.Tanh(), other)
    model(
        torch.randn(32, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ).square().sum().backward()
    return model


def moved(model, groups):
    """What a step moves each parameter by, over the rate, and r · D of each."""
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    rates = {name: group["lr_multiplier"] for group in groups for name in group["names"]}
    muon.Muon(groups).step()
    moves = {name: (before[name] - parameter.detach()).numpy() / LR for name, parameter in model.named_parameters()}
    return moves, {name: direction(dict(model.named_parameters())[name].grad.numpy(), rates[name]) for name in moves}


@pytest.mark.parametrize(("first", "second"), [(2, 1), (1.5, 4)])
def test_a_shared_leaf_moves_as_one_of_the_first_layer_and_the_second_by_the_rest_alone(first, second):
    model = tied(first, second, ["cores_0"])
    one, other = (layer.operator._map(lambda leaf: leaf.detach().clone()) for layer in (model[0], model[2]))
    moves, along = moved(model, lo.nn.param_groups(model, LR, optimizer="muon"))
    assert {*moves} == {"0.cores_0", "0.cores_1", "2.cores_1"}
    of_first = share(one, {"cores_0": along["0.cores_0"], "cores_1": along["0.cores_1"]})
    of_second = share(other, {"cores_1": along["2.cores_1"]})
    assert abs(of_first / of_second - 1) > 0.1  # so that one could not pass for the other
    for name, expected in (("0.cores_0", of_first), ("0.cores_1", of_first), ("2.cores_1", of_second)):
        np.testing.assert_allclose(moves[name], expected * along[name], rtol=0.03, err_msg=name)


def test_layers_that_share_all_leaves_move_as_one():
    model = tied(2, 1, ["cores_0", "cores_1"])
    operator = model[2].operator._map(lambda leaf: leaf.detach().clone())
    moves, along = moved(model, lo.nn.param_groups(model, LR, optimizer="muon"))
    expected = share(operator, {name.removeprefix("0."): one for name, one in along.items()})
    assert len(moves) == 2
    for name, move in moves.items():
        np.testing.assert_allclose(move, expected * along[name], rtol=0.03)


def test_under_adamw_a_leaf_is_divided_by_the_growth_of_the_shared_leaf_too():
    """The first step of AdamW is the gradient's sign."""
    model = tied(1, 1, ["cores_0"])
    with torch.no_grad():
        model[0].cores_0.mul_(5)
    norms = {
        name: torch.linalg.matrix_norm(parameter.detach(), 2).max().item()
        for name, parameter in model.named_parameters()
    }
    initial = initial_norms(model[0].structure.operator)
    drawn = {f"{place}.{name}": norm for place in (0, 2) for name, norm in initial.items()}
    groups = lo.nn.param_groups(model, LR, renormalize=True)
    moves, _ = moved(model, groups)
    rates = {name: group["lr_multiplier"] for group in groups for name in group["names"]}
    other = {"0.cores_0": "0.cores_1", "0.cores_1": "0.cores_0", "2.cores_1": "0.cores_0"}
    for name, move in moves.items():
        expected = rates[name] * min(1, drawn[other[name]] / norms[other[name]])
        np.testing.assert_allclose(np.abs(move), expected, rtol=0.15, err_msg=name)
        assert (expected < rates[name] / 3) == (name != "0.cores_0")


class Tied(nnx.Module):
    """Two layers of Flax that share a leaf."""

    def __init__(self, first, second):
        self.one, self.other = (lo.nn.flax.Linear(operator, bias=False) for operator in parts(first, second))
        self.other.cores_0 = self.one.cores_0


@pytest.mark.full
@pytest.mark.parametrize(("first", "second"), [(2, 1), (1.5, 4)])
def test_in_flax_the_first_layer_is_measured_and_the_second_keeps_static_steps(first, second):
    model = Tied(first, second)
    one = model.one.structure.operator.with_leaves([model.one.cores_0.get_value(), model.one.cores_1.get_value()])
    params = nnx.as_pure(nnx.state(model, nnx.Param))
    gradients = jax.tree.map(lambda leaf: jnp.cos(7 * leaf + 1), params)
    tx = lo.nn.flax.muon(model, LR)
    updates, _ = tx.update(gradients, tx.init(params), params)
    rates = lo.nn.param_groups(tied(first, second, ["cores_0"]), LR, optimizer="muon")
    (rate,) = {group["lr_multiplier"] for group in rates}
    along = jax.tree.map(lambda gradient: direction(gradient, rate), gradients)
    of_first = share(lo.aslinearoperator(one), along["one"])
    assert abs(of_first - 1) > 0.2
    for path, expected in ((("one", "cores_0"), of_first), (("one", "cores_1"), of_first), (("other", "cores_1"), 1.0)):
        found = -updates[path[0]][path[1]] / LR
        np.testing.assert_allclose(found, expected * along[path[0]][path[1]], rtol=0.03, err_msg=str(path))
    with pytest.raises(ValueError, match=r"'other' is not trained as to 'cores_0'"):
        lo.nn.flax.muon(model, LR, renormalize=True)
