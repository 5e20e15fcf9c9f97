"""The mixture over BTT ranks: what it computes and costs, its balance loss, and that compilers take it."""

import copy
import io
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

import linops as lo
from linops.nn.routing import BLOCKS, placed, sizes
from linops.nn.torch import BTTMixture


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def operators(layer):
    """The experts as operators."""
    leaves = [layer.get_parameter(name) for name in layer.nonlinear.structure.names]
    return [layer.nonlinear.structure.fill(one) for one in zip(*leaves)]


def by_hand(layer, x):
    """What the layer is to compute, row by row."""
    experts = operators(layer)
    expected = []
    for row in x:
        scores = layer.gate @ row
        best = scores.argsort(descending=True)[: layer.nonlinear.active]
        gates = scores[best].exp() / scores[best].exp().sum()
        expected.append(sum(gate * (experts[e].to_dense() @ row) for gate, e in zip(gates, best)) + layer.bias)
    return torch.stack(expected)


@pytest.mark.parametrize("active", [1, 2, 4])
@pytest.mark.parametrize("shape", [(12, 20), (7, 11)])
def test_forward_is_the_formula(active, shape):
    m, n = shape
    layer = BTTMixture(m, n, 4, active, 0, dtype=torch.float64, allow_dearer=True)
    nn.init.normal_(layer.bias)
    x = torch.randn(50, n, dtype=torch.float64)
    torch.testing.assert_close(layer(x), by_hand(layer, x))
    torch.testing.assert_close(layer(x[:6].reshape(2, 3, n)), layer(x[:6]).reshape(2, 3, m))
    torch.testing.assert_close(layer(x[0]), layer(x[:1])[0])
    assert layer(x[:0]).shape == (0, m)


def test_gradients():
    layer = BTTMixture(6, 8, 3, 2, dtype=torch.float64, allow_dearer=True)
    x = torch.randn(5, 8, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in layer.named_parameters()]
    given = [one.detach().requires_grad_() for one in layer.parameters()]

    def function(x, *values):
        return torch.func.functional_call(layer.eval(), dict(zip(names, values)), (x,))

    assert torch.autograd.gradcheck(function, (x, *given))


def test_all_ranks_at_equal_scores_are_a_btt_of_that_rank():
    layer = BTTMixture(12, 20, 3, 3, bias=False, allow_dearer=True)
    nn.init.zeros_(layer.gate)
    first, second = zip(*(expert.cores for expert in operators(layer)))
    # the rank is the slow axis of the first core's rows, and the fast axis of the second core's columns, after the
    # input axis
    whole = lo.BlockTensorTrain([torch.cat(first, 1), torch.stack(second, -1).flatten(2)])
    assert whole.ranks == (3,)
    x = torch.randn(5, 20)
    torch.testing.assert_close(3 * layer(x), (whole @ x.T).T)


@pytest.mark.parametrize("active", [1, 2])
def test_macs_are_what_torch_counts_but_for_padding(active):
    layer = BTTMixture(64, 64, 8, active)
    with FlopCounterMode(display=False) as counter:
        layer(torch.randn(256, 64))
    rows, scores = 256 * active, 256 * 8 * 64
    size, blocks = sizes(rows, 8)
    exact, run = 256 * layer.nonlinear.macs - scores, counter.get_total_flops() // 2 - scores
    assert run * rows == exact * size * blocks
    assert run <= exact * (BLOCKS + 1) / BLOCKS + 64 * blocks * 64


@pytest.mark.parametrize("count", [1, 7, 40, 333])
def test_every_row_has_a_place_in_a_block_of_its_expert(count):
    random = np.random.default_rng(count)
    for chosen in (random.integers(5, size=count), np.zeros(count, int), np.full(count, 4)):
        size, blocks = sizes(count, 5)
        places, owners, counts = placed(chosen, np.arange(5), size, np.arange(blocks))
        assert len(set(places)) == count
        assert places.max() < size * blocks
        assert np.array_equal(owners[places // size], chosen)
        assert np.array_equal(counts, np.bincount(chosen, minlength=5))


# ---------------------------------------------------------------- balance


def test_balance_is_its_formula_and_moves_the_gate_alone():
    layer = BTTMixture(16, 16, 4, 1, balance=0.5, allow_dearer=True)
    layer(x := torch.randn(64, 16))
    loss = lo.nn.balance_loss(layer)
    scores = x @ layer.gate.T
    shares = nn.functional.one_hot(scores.argmax(-1), 4).float().mean(0)
    expected = 0.5 * 4 * (shares * scores.softmax(-1).mean(0)).sum()
    torch.testing.assert_close(loss, expected)
    assert loss > 0.5 * 0.999  # the least, where all are used alike
    loss.backward()
    (gradient,) = torch.autograd.grad(expected, layer.gate)
    torch.testing.assert_close(layer.gate.grad, gradient)
    assert [name for name, one in layer.named_parameters() if one.grad is not None] == ["gate"]


def test_balance_of_no_rows_is_zero():
    layer = BTTMixture(64, 64, experts=4)
    layer(torch.zeros(0, 64))
    loss = lo.nn.balance_loss(layer)
    loss.backward()
    assert (loss.item(), layer.gate.grad.abs().max().item()) == (0, 0)


def test_balance_is_summed_and_taken_once():
    model = nn.Sequential(BTTMixture(32, 32, 4, 1), nn.GELU(), BTTMixture(32, 32, 4, 2), BTTMixture(32, 32, balance=0))
    x = torch.randn(64, 32)
    first = model[0](x)
    with pytest.warns(
        UserWarning, match=r"balance_loss: a structured layer is a mixture in training mode that has not"
    ):
        one = lo.nn.balance_loss(model)
    model[2](nn.functional.gelu(first))
    with pytest.warns(UserWarning, match="is not in the sum"):
        both = one + lo.nn.balance_loss(model)
    model(x)
    torch.testing.assert_close(lo.nn.balance_loss(model), both)
    model[2].eval()(model[0](x))
    torch.testing.assert_close(lo.nn.balance_loss(model), one)
    model.train()
    for run in (lambda: None, lambda: model.eval()(x), lambda: torch.no_grad()(model.train())(x)):
        run()
        with pytest.raises(RuntimeError, match="none of the model's 2 mixtures has run in training mode"):
            lo.nn.balance_loss(model)
    assert lo.nn.balance_loss(nn.Linear(2, 2)).item() == 0
    with pytest.raises(TypeError, match=r"with_balance_loss of lo\.nn\.flax"):
        lo.nn.balance_loss([1])


def test_balance_names_what_ran_under_a_reentrant_checkpoint():
    model = nn.Sequential(nn.Linear(32, 32), nn.Linear(32, 32))
    lo.nn.replace_linear_(model, "btt_mixture:experts=4:active=1")
    y = model[0](torch.randn(4, 32))
    checkpoint(model[1], y, use_reentrant=True)
    with pytest.warns(UserWarning, match=r"balance_loss: layer '1' is a mixture .*use_reentrant=False"):
        lo.nn.balance_loss(model)


def test_balance_within_torch_func_and_after_it():
    layer, x = BTTMixture(32, 32, 4, 1), torch.randn(4, 32)
    parameters = {name: one.detach() for name, one in layer.named_parameters()}

    def balance(parameters):
        torch.func.functional_call(layer, parameters, (x,))
        return lo.nn.balance_loss(layer)

    found = torch.func.grad(balance)(parameters)["gate"]
    layer(x)
    lo.nn.balance_loss(layer).backward()
    torch.testing.assert_close(found, layer.gate.grad)
    for left in (torch.func.grad(lambda x: layer(x).sum()), torch.func.vmap(layer, randomness="same")):
        left(x)
        with pytest.raises(RuntimeError, match=r"of torch\.func within the function transformed"):
            lo.nn.balance_loss(layer)


def test_evaluation_drops_what_was_kept():
    layer = BTTMixture(32, 32, 4, 1)
    layer(torch.randn(4, 32))
    assert layer.eval()._balance is None


def test_balance_that_nobody_takes_is_said_once():
    layer, x = BTTMixture(32, 32, 4, 1), torch.randn(4, 32)
    layer(x)
    with pytest.warns(UserWarning, match=r"add it to every loss"):
        layer(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer(x)
        BTTMixture(32, 32, 4, 1, balance=0)(x)


def test_balance_under_checkpoints():
    layer, x = BTTMixture(32, 32, 4, 2), torch.randn(64, 32, requires_grad=True)
    layer(x).square().sum().backward(retain_graph=True)
    lo.nn.balance_loss(layer).backward()
    expected, layer.gate.grad = layer.gate.grad, None
    loss = checkpoint(layer, x, use_reentrant=False).square().sum() + lo.nn.balance_loss(layer)
    loss.backward()
    torch.testing.assert_close(layer.gate.grad, expected)
    checkpoint(layer, x, use_reentrant=True).square().sum().backward()
    assert layer._balance is None
    with pytest.raises(RuntimeError, match="use_reentrant=False"):
        lo.nn.balance_loss(layer)


def test_balance_keeps_experts_in_use():
    """Of a gate that sends all rows to one expert at the start."""

    def used(balance):
        torch.manual_seed(0)
        layer = BTTMixture(32, 32, 4, 1, balance=balance)
        x = torch.randn(512, 32) + 0.5
        layer.gate.data[0] += 0.3
        target = lo.btt(32, 32, rank=2).init(seed=1, backend="torch").to_layer(bias=False)(x).detach()
        optimizer = torch.optim.AdamW(lo.nn.param_groups(layer, lr=1e-2))
        for _ in range(60):
            loss = (layer(x) - target).square().mean() + lo.nn.balance_loss(layer)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return (x @ layer.gate.T).argmax(-1).bincount(minlength=4).min().item()

    assert used(0.0) == 0
    assert used(1.0) > 40


# ---------------------------------------------------------------- copies and compilers


def test_copies_leave_the_graph_behind():
    layer, x = BTTMixture(32, 32, 4, 2), torch.randn(8, 32)
    y = layer(x)
    twin = copy.deepcopy(layer)
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    for one in (twin, torch.load(file, weights_only=False)):
        assert one._balance is None
        assert torch.equal(one(x), y)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_dtypes(dtype):
    layer, x = BTTMixture(64, 64, 4, 2).eval(), torch.randn(64, 64)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        y = layer(x)
    wide = copy.deepcopy(layer).double()
    torch.testing.assert_close(wide(x.double()).float(), layer(x), rtol=1e-4, atol=1e-5)
    narrow = copy.deepcopy(layer).to(dtype)(x.to(dtype))
    assert narrow.dtype == dtype
    assert (y.dtype == torch.bfloat16) == (dtype == torch.bfloat16)


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.full)])
def test_compiles_whole(backend):
    model = nn.Sequential(BTTMixture(64, 64, 4, 2), nn.GELU(), lo.nn.torch.Chain(64, 64, rank=4))
    compiled, x = torch.compile(model, fullgraph=True, backend=backend), torch.randn(64, 64)
    (compiled(x).square().mean() + lo.nn.balance_loss(compiled)).backward()
    gradients = [one.grad for one in model.parameters()]
    model.zero_grad()
    (model(x).square().mean() + lo.nn.balance_loss(model)).backward()
    for ours, theirs in zip(gradients, model.parameters()):
        torch.testing.assert_close(ours, theirs.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dynamic", [pytest.param(False, marks=pytest.mark.full), True])
def test_exports(dynamic):
    model = nn.Sequential(BTTMixture(64, 64, 4, 2), nn.GELU(), lo.nn.torch.Chain(64, 64, rank=4)).eval()
    shapes = ({0: torch.export.Dim("batch", min=2, max=4096)},) if dynamic else None
    program = torch.export.export(model, (torch.randn(32, 64),), dynamic_shapes=shapes).module()
    for count in (2, 32, 77) if dynamic else (32,):
        x = torch.randn(count, 64)
        torch.testing.assert_close(program(x), model(x), rtol=1e-5, atol=1e-6)


def test_fx_sees_one_node():
    model = nn.Sequential(BTTMixture(64, 64, 4, 2), nn.GELU())
    traced, x = torch.fx.symbolic_trace(model), torch.randn(4, 64)
    assert torch.equal(traced(x), model.eval()(x))
    assert [node.op for node in traced.graph.nodes] == ["placeholder", "call_module", "call_module", "output"]
