"""Chains of tensors in one compiled call: what they multiply, and where products run as ever."""

import copy
import pickle
from string import ascii_lowercase

import numpy as np
import pytest
import torch
from chain_cases import OPERATORS, TOLERANCE, close, concrete, plain
from kernel_modes import kept_mode, use_compiled
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode

import linops as lo
import linops.nn.torch
from linops.kernels import building, chain, choice
from linops.operators.planned import network_of

#: vectors: registers, parts of them, one more than those
COUNTS = (1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 31)


mode = pytest.fixture(autouse=True)(kept_mode)


@pytest.fixture
def compiled():
    """Kernels are used wherever they can be."""
    use_compiled(building.chain_module)


@pytest.fixture
def ran(monkeypatch):
    """What the compiled kernel computed."""
    found, product = [], chain.Chain.product

    def noted(*arguments):
        y = product(*arguments)
        if y is not None:
            found.append(y)
        return y

    monkeypatch.setattr(chain.Chain, "product", noted)
    return found


# ---------------------------------------------------------------- without a compiler


@pytest.mark.parametrize("name", OPERATORS)
def test_steps_are_the_product(name):
    A = OPERATORS[name]().init(seed=0)
    network = network_of(A)
    if network is None:
        assert name in ("product with a transform", "monarch that is no network")
        return
    leaves, size, x = [leaf for _, leaf in A.named_leaves()], network.sizes, np.arange(1.0, A.shape[1] + 1)
    held = x
    for place, step in zip(network.leaves, chain.steps_of(network.tensors, network.into, network.out), strict=True):
        blocks, rows, columns, rest = step.groups
        a, y = leaves[place].ravel(), np.zeros(int(np.prod([size[axis] for axis in step.after])))
        tables = {
            (group, layout): np.array(chain.offsets(group, layout, size))
            for group in step.groups
            for layout in (step.own, step.held, step.after)
            if {*group} <= {*layout}
        }
        for b, r, s in np.ndindex(*(len(tables[group, step.after]) for group in (blocks, rows, rest))):
            at = tables[blocks, step.own][b] + tables[rows, step.own][r] + tables[columns, step.own]
            of = tables[blocks, step.held][b] + tables[columns, step.held] + tables[rest, step.held][s]
            to = tables[blocks, step.after][b] + tables[rows, step.after][r] + tables[rest, step.after][s]
            y[to] += a[at] @ held[of]
        held = y
    np.testing.assert_allclose(held, A @ x, rtol=1e-10)


def test_what_is_no_chain():
    assert chain.steps_of(["ba"], "ac", "b") is None  # a sum over an axis that no tensor has
    assert chain.steps_of(["aa"], "a", "a") is None
    assert chain.chain_of(None, 0) is None
    many = tuple(ascii_lowercase)
    assert chain.chain_of(network_of(lo.kron(*[lo.dense(1, 1) for _ in many]).init(0)), 1000) is None


def test_products_that_ask_for_nothing_look_no_further(monkeypatch):
    monkeypatch.setattr(choice.STATE, "asked", False)
    A = concrete("btt")
    A @ torch.ones(20, dtype=torch.float64)
    assert "_chain" not in A.__dict__
    lo.kernels.use("off")
    assert not choice.STATE.asked


def test_numpy_takes_none():
    lo.kernels.use("compiled")
    A = lo.btt(24, 20).init(seed=0)
    assert np.array_equal(A @ np.ones(20), plain(lambda: A @ np.ones(20)))
    assert "_chain" not in A.__dict__


# ---------------------------------------------------------------- with one

full = pytest.mark.full


@full
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", OPERATORS)
def test_products_are_those_of_plain_products(compiled, ran, name, dtype):
    A = concrete(name, dtype)
    m, n = A.shape
    generator = torch.Generator().manual_seed(1)
    for k in (*COUNTS, 33, 64):
        x = torch.randn(n, k, dtype=dtype, generator=generator)
        wide = torch.randn(n, 2 * k + 3, dtype=dtype, generator=generator)[:, 1 : 2 * k + 1 : 2]
        stack = torch.randn(2, n, k, dtype=dtype, generator=generator)
        for given in (x, wide, x.T.contiguous().T, stack):
            close(A @ given, plain(lambda given=given: A @ given))
        close(A @ x[:, 0], plain(lambda x=x: A @ x[:, 0]))
        for rows in (x.T.contiguous(), x.T, wide.T, stack.mT.contiguous()):
            close(A._linear(rows), plain(lambda rows=rows: A._linear(rows)))
        ys = torch.randn(k, m, dtype=dtype, generator=generator)
        close(ys @ A, plain(lambda ys=ys: ys @ A))
    assert len(ran) > 60
    empty = torch.zeros(n, 0, dtype=dtype)
    assert (A @ empty).shape == (m, 0)


@full
def test_large_ones_are_right_too(compiled, ran):
    for A in (lo.butterfly(1024, 1024), lo.kron(lo.dense(70, 65), lo.dense(33, 40)), lo.btt(512, 512, rank=4)):
        A = A.init(seed=0, backend="torch")
        for k in (1, 6, 16):
            x = torch.randn(A.shape[1], k)
            close(A @ x, plain(lambda A=A, x=x: A @ x))
    assert len(ran) == 9


@full
def test_numbers_that_are_not_finite_stay_so(compiled, ran):
    A = concrete("butterfly", torch.float32)
    for number in (torch.inf, torch.nan):
        for k in (1, 4):
            x = torch.ones(32, k)
            x[3, 0] = number
            expected = plain(lambda x=x: A @ x)
            assert torch.equal((A @ x).isfinite(), expected.isfinite())
    assert ran


@full
@pytest.mark.parametrize("name", ["btt", "butterfly", "kronecker of three", "block diagonal"])
@pytest.mark.parametrize("recorded", [False, True])
def test_where_more_than_numbers_is_asked_for_products_run_as_ever(compiled, ran, name, recorded):
    A = concrete(name, torch.float32)
    n = A.shape[1]
    x = torch.randn(n, 3, requires_grad=recorded)
    ways = {
        "vmap": lambda: torch.func.vmap(lambda column: A @ column, in_dims=1, out_dims=1)(x),
        "vmap of the operator": lambda: torch.func.vmap(lambda _: A @ x[:, 0])(torch.ones(2)),
        "jvp": lambda: torch.func.jvp(lambda x: A @ x, (x,), (x,))[1],
        "grad": lambda: torch.func.grad(lambda x: (A @ x).square().sum())(x),
        "negative": lambda: A @ torch._neg_view(x),
        "function mode": lambda: _under(torch.overrides.BaseTorchFunctionMode(), lambda: A @ x),
        "device": lambda: _under(torch.device("cpu"), lambda: A @ x),
        "flops": lambda: _under(FlopCounterMode(display=False), lambda: A @ x),
        "compiled": lambda: torch.compile(lambda x: A @ x, fullgraph=True, backend="aot_eager")(x),
        "traced": lambda: make_fx(lambda x: A @ x)(x)(x),
    }
    for way, each in ways.items():
        found, expected = each(), plain(each)
        close(found.detach().resolve_neg(), expected.detach().resolve_neg())
        assert not ran, way
    with torch.autograd.forward_ad.dual_level():
        dual = A @ torch.autograd.forward_ad.make_dual(x, x)
        assert torch.autograd.forward_ad.unpack_dual(dual).tangent is not None
    with torch.autocast("cpu", torch.bfloat16):
        assert (A @ x).dtype is plain(lambda: A @ x).dtype
    assert not ran
    with pytest.raises(RuntimeError):
        A @ x.double()
    B, z = A.to(dtype=torch.complex64), x.to(torch.complex64)
    assert (B @ z - plain(lambda: B @ z)).norm() <= 1e-5 * (B @ z).norm()
    assert not ran
    half = A.to(dtype=torch.bfloat16)
    assert torch.equal(half @ x.bfloat16(), plain(lambda: half @ x.bfloat16()))
    assert not ran
    assert (A.to(device="meta") @ x.to("meta")).is_meta
    with FlopCounterMode(display=False) as counter:
        A @ x
    flops = counter.get_total_flops()
    with lo.kernels.use("off"), FlopCounterMode(display=False) as counter:
        A @ x
    assert flops == counter.get_total_flops() > 0


def _under(context, function):
    with context:
        return function()


@full
def test_leaves_that_do_not_lie_in_order_take_plain_products(compiled, ran):
    A = lo.Dense(torch.randn(5, 6).T) @ lo.Dense(torch.randn(5, 7))
    x = torch.randn(7, 3)
    close(A @ x, plain(lambda: A @ x))
    assert not ran


@full
@pytest.mark.parametrize("freed", ["leaf", "operand"])
def test_memory_that_was_freed_is_an_error_as_ever(compiled, freed):
    """As FSDP frees that of weights."""
    A, x = lo.Dense(torch.randn(6, 5)) @ lo.Dense(torch.randn(5, 7)), torch.randn(7)
    A @ x
    (x if freed == "operand" else next(leaf for _, leaf in A.named_leaves())).untyped_storage().resize_(0)
    with pytest.raises(RuntimeError, match="not allocated"):
        A @ x


def test_nothing_is_compiled_for_products_that_it_cannot_run(monkeypatch):
    asked = []
    monkeypatch.setattr(chain, "chain_module", lambda: asked.append(1))
    chain._chain_of.cache_clear()
    lo.kernels.use("compiled")
    A = concrete("btt", torch.float32)
    for B, x in [
        (A.to(dtype=torch.bfloat16), torch.ones(20, dtype=torch.bfloat16)),
        (A.to(dtype=torch.complex64), torch.ones(20, dtype=torch.complex64)),
        (A.to(device="meta"), torch.ones(20, device="meta")),
        (A, torch.ones(20, chain.MOST + 1)),
    ]:
        assert (B @ x).shape[0] == 24
    assert not asked
    assert torch.equal(A @ torch.ones(20), plain(lambda: A @ torch.ones(20)))
    assert asked
    chain._chain_of.cache_clear()


@full
def test_operators_are_copied_with_what_they_remember(compiled, ran):
    A = concrete("butterfly")
    x = torch.randn(32, dtype=torch.float64)
    y = A @ x
    for B in (copy.deepcopy(A), pickle.loads(pickle.dumps(A))):
        assert torch.equal(B @ x, y)
    layer = linops.nn.torch.Linear(lo.butterfly(32, 32), bias=False)
    with torch.no_grad():
        z = layer(torch.ones(3, 32))
        for parameter in layer.parameters():
            parameter.mul_(2)
        close(layer(torch.ones(3, 32)), z * 2**5)
    assert len(ran) == 5
    assert torch.equal(pickle.loads(pickle.dumps(layer))(torch.ones(3, 32)), layer(torch.ones(3, 32)))


@full
@pytest.mark.parametrize(("faster", "count"), [(True, 3), (False, 0)])
def test_auto_measures_once_a_class(compiled, ran, monkeypatch, faster, count):
    monkeypatch.setenv("LINOPS_MACHINE", "")
    chain._chain_of.cache_clear()
    timed = []
    monkeypatch.setattr(chain, "seconds", lambda ways: timed.append(1) or [2.0, 1.0 if faster else 1.9])
    lo.kernels.use("auto")
    A, x = concrete("btt"), torch.randn(20, 7, dtype=torch.float64)
    B = concrete("btt")
    for given in (x, x[:, :4].contiguous()):
        close(A @ given, plain(lambda given=given: A @ given))
    B @ x
    assert len(timed) == 1
    assert len(ran) == count
    assert [*lo.kernels.status().chosen.values()] == ["compiled" if faster else "plain"]
    if not faster:  # then it does not run
        with monkeypatch.context() as without:
            without.setattr(B._chain, "_run", None)
            B @ x
    A @ x[:, 0]
    A._linear(x.T)
    assert len(timed) == 3
