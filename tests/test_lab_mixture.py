"""The mixture over BTT ranks: what it computes and costs, that experts stay in use, and that it learns."""

import copy

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import linops as lo
from linops.lab.mixture import RankMixture


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("active", [1, 2, 4])
def test_forward_is_the_formula(active):
    layer = RankMixture(12, 20, experts=4, active=active).double()
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(7, 20, dtype=torch.float64)
    expected = []
    for row in x:
        scores = layer.gate.weight @ row
        best = scores.argsort(descending=True)[:active]
        gates = scores[best].exp() / scores[best].exp().sum()
        expected.append(
            sum(gate * (layer.experts[e].operator.to_dense() @ row) for gate, e in zip(gates, best)) + layer.bias
        )
    torch.testing.assert_close(layer(x), torch.stack(expected))
    torch.testing.assert_close(layer(x.reshape(7, 1, 20)), layer(x).reshape(7, 1, 12))


def test_all_ranks_at_equal_scores_are_a_btt_of_that_rank():
    layer = RankMixture(12, 20, experts=3, active=3, bias=False)
    torch.nn.init.zeros_(layer.gate.weight)
    first, second = zip(*(expert.operator.cores for expert in layer.experts))
    # the rank is the slow axis of the first core's rows, and the fast axis of the second core's columns, after the
    # input axis
    whole = lo.BlockTensorTrain([torch.cat(first, 1), torch.stack(second, -1).flatten(2)])
    assert whole.ranks == (3,)
    x = torch.randn(5, 20)
    torch.testing.assert_close(3 * layer(x), (whole @ x.T).T)


@pytest.mark.parametrize("active", [1, 2])
def test_macs_are_what_torch_counts(active):
    layer = RankMixture(64, 64, experts=8, active=active)
    with FlopCounterMode(display=False) as counter:
        layer(torch.randn(32, 64))
    assert counter.get_total_flops() == 2 * 32 * layer.macs


def test_balance_moves_the_gate_alone():
    layer = RankMixture(16, 16, experts=4, active=1, balance=1.0)
    x = torch.randn(64, 16)
    (0 * layer(x)).sum().backward()
    assert layer.gate.weight.grad.abs().max() > 0
    assert all(not parameter.grad.any() for parameter in layer.experts.parameters() if parameter.grad is not None)
    scores = layer.gate(x)
    shares = torch.nn.functional.one_hot(scores.argmax(-1), 4).float().mean(0)
    expected = torch.autograd.grad(4 * (shares * scores.softmax(-1).mean(0)).sum(), layer.gate.weight)
    torch.testing.assert_close(layer.gate.weight.grad, expected[0])
    layer.zero_grad()
    (0 * layer.eval()(x)).sum().backward()
    assert not layer.gate.weight.grad.any()


def test_learns_with_the_rates_of_its_factors():
    layer = RankMixture(32, 32, experts=4, active=2, zero_init=True)
    x = torch.randn(512, 32)
    target = lo.btt(32, 32, rank=2).init(seed=1, backend="torch").to_layer(bias=False)(x).detach()
    assert not layer(x).any()
    groups = lo.nn.param_groups(layer, lr=1e-2)
    rates = {name: group["lr"] for group in groups for name in group["names"]}
    assert rates["experts.0.cores_0"] == 1e-2 * lo.lr_multipliers(lo.btt(32, 32))["cores_0"]
    optimizer = torch.optim.AdamW(groups)
    losses = []
    for _ in range(100):
        loss = (layer(x) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    used = layer.gate(x).topk(2).indices.flatten().bincount(minlength=4)
    assert used.min() > 0
    twin = copy.deepcopy(layer)
    twin.load_state_dict(layer.state_dict())
    torch.testing.assert_close(twin(x), layer(x))


@pytest.mark.parametrize(("experts", "active"), [(2, 3), (2, 0)])
def test_wrong_numbers_are_errors(experts, active):
    with pytest.raises(ValueError, match=f"{active} of {experts} experts"):
        RankMixture(8, 8, experts=experts, active=active)
