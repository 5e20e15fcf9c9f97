"""Gradients of chains of tensors in one compiled call: those of plain products, recorded as torch records its own."""

import gc
from itertools import product

import pytest
import torch
from chain_cases import OPERATORS, TOLERANCE, close, concrete, plain
from kernel_modes import kept_mode, use_compiled
from torch.autograd import grad, gradcheck, gradgradcheck
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

import linops as lo
from linops.kernels import building, chain
from linops.operators.chained import network_of

NO_CHAINS = "monarch that is no network", "product with a transform"
#: as all tests that compile kernels
pytestmark = pytest.mark.full


mode = pytest.fixture(autouse=True)(kept_mode)


@pytest.fixture
def compiled():
    """Kernels are used wherever they can be."""
    use_compiled(building.chain_module)


def ran(y):
    """Whether a product was recorded by the compiled kernel."""
    return y.grad_fn is not None and y.grad_fn.name() == "LinopsChainBackward"


def recorded(name, dtype=torch.float64):
    """An operator and its leaves, of which gradients are recorded."""
    A = concrete(name, dtype)
    return A, [leaf.requires_grad_() for _, leaf in A.named_leaves()]


def numbers(*shape, dtype=torch.float64, seed=1):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def calls(function):
    """The operations of torch that a function runs."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        function()
    return {event.key for event in profile.key_averages()}


# ---------------------------------------------------------------- numbers


def layouts(n, k, dtype):
    """Operands that lie in memory in several ways, and whether they are rows."""
    x = numbers(n, k, dtype=dtype)
    if k == 1:
        yield x[:, 0], False
    yield from [(x, False), (x.T.contiguous().T, False), (numbers(n, 2 * k + 3, dtype=dtype)[:, 1 : 2 * k : 2], False)]
    yield from [(x.T.contiguous(), True), (x.T, True), (numbers(k, n + 2, dtype=dtype)[:, 1:-1], True)]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", OPERATORS)
def test_gradients_are_those_of_plain_products(compiled, name, dtype):
    A, leaves = recorded(name, dtype)
    for k in (1, 2, 3, 5, 8, 9, 16, 17, 33, 64):
        for x, rows in layouts(A.shape[1], k, dtype):
            x = x.detach().requires_grad_()

            def run(x=x, rows=rows):
                y = A._linear(x) if rows else A @ x
                return y, *grad(y, [x, *leaves], numbers(*y.shape, dtype=dtype, seed=2))

            found = run()
            assert ran(found[0]) or name in NO_CHAINS
            for one, expected in zip(found, plain(run), strict=True):
                close(one, expected)


@pytest.mark.parametrize("name", ["kronecker", "monarch"])
def test_gradients_are_those_of_the_matrix(compiled, name):
    A, leaves = recorded(name)
    x, g = numbers(A.shape[1], 4).requires_grad_(), numbers(A.shape[0], 4, seed=2)
    y = A @ x
    assert ran(y)
    M = plain(A.todense)
    for found, expected in zip(grad(y, [x, *leaves], g), grad(M @ x, [x, *leaves], g)):
        close(found, expected)


@pytest.mark.parametrize("name", ["kronecker of three", "butterfly", "btt", "blast", "one block"])
def test_gradients_of_some(compiled, name):
    A, leaves = recorded(name)
    x = numbers(A.shape[1], 3)
    operands = [x, *leaves]
    for wanted in product([False, True], repeat=min(len(operands), 4)):
        wanted = [*wanted, *[wanted[-1]] * (len(operands) - len(wanted))]
        for operand, one in zip(operands, wanted):
            operand.requires_grad_(one)
        some = [operand for operand in operands if operand.requires_grad]
        y = A @ x
        assert ran(y) == any(wanted)
        for given in [[one] for one in some] + ([some] if some else []):
            found = grad(y, given, torch.ones_like(y), retain_graph=True)
            expected = plain(lambda given=given: grad((A @ x).sum(), given))
            for one, other in zip(found, expected, strict=True):
                close(one, other)


@pytest.mark.parametrize(
    "make",
    [
        lambda a: lo.kron(lo.Dense(a), lo.Dense(a)),
        lambda a: lo.Dense(a) @ lo.Dense(a) @ lo.Dense(a),
        lambda a: lo.Power(lo.Dense(a), 3) @ lo.Dense(a),
    ],
)
@pytest.mark.parametrize("k", [1, 4, 33])
def test_a_leaf_that_is_there_twice_gets_the_sum(compiled, make, k):
    a = numbers(5, 5).requires_grad_()
    A = make(a)
    x = numbers(A.shape[1], k)
    y = A @ x
    assert ran(y)
    y.square().sum().backward()
    close(a.grad, plain(lambda: grad((A @ x).square().sum(), a)[0]))


@pytest.mark.parametrize("k", [1, 3, 20])
def test_a_leaf_of_two_steps_gets_the_sum(compiled, k):
    """As `Power` has them, in whichever order it is multiplied."""
    a, x = numbers(4, 4).requires_grad_(), numbers(4, k).requires_grad_()
    cube = chain._chain_of(("ba", "cb", "dc"), (0, 0, 0), "a", "d", tuple((axis, 4) for axis in "abcd"), 1)
    y = cube.product("compiled", None, (a,), x, False)
    for once in (False, True):
        found = grad(y, [a, x], torch.ones_like(y), retain_graph=True, create_graph=once)
        for one, expected in zip(found, grad(a @ a @ a @ x, [a, x], torch.ones_like(y)), strict=True):
            close(one, expected)


@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize("name", ["squares", "kronecker of products", "kronecker of a diagonal", "one block"])
def test_gradients_of_gradients(compiled, name, rows):
    A, leaves = recorded(name)
    x = numbers(*((2, A.shape[1]) if rows else (A.shape[1], 2))).requires_grad_()

    def run(x, *leaves):
        y = A.with_leaves(leaves)._linear(x) if rows else A.with_leaves(leaves) @ x
        assert ran(y)
        return y

    assert gradcheck(run, (x, *leaves))
    assert gradgradcheck(run, (x, *leaves))


@pytest.mark.parametrize("name", ["btt", "butterfly"])
def test_a_penalty_of_gradients(compiled, name):
    A, leaves = recorded(name)
    x = numbers(A.shape[1], 5).requires_grad_()

    def run():
        first = grad((A @ x).tanh().sum(), [x, *leaves], create_graph=True)
        return grad(sum(one.square().sum() for one in first), [x, *leaves])

    for found, expected in zip(run(), plain(run), strict=True):
        close(found, expected)


# ---------------------------------------------------------------- as torch records


def test_both_passes_are_one_call(compiled):
    A, leaves = recorded("butterfly")
    x = numbers(32, 3).requires_grad_()
    y = A @ x
    g = torch.ones_like(y)
    multiplying = {"aten::mm", "aten::bmm", "aten::matmul", "aten::mul"}
    once = calls(lambda: grad(y, [x, *leaves], g, retain_graph=True))
    assert "LinopsChainBackward" in once
    assert not multiplying & once
    assert "aten::bmm" in calls(lambda: grad(y, [x, *leaves], g, create_graph=True))


def test_a_graph_is_used_once_unless_it_is_retained(compiled):
    for some in ([0], [1], [2], [0, 1, 2]):
        A, leaves = recorded("kronecker")
        x = numbers(A.shape[1], 3)
        operands = [x, *leaves]
        for place, operand in enumerate(operands):
            operand.requires_grad_(place in some)
        y = (A @ x).sum()
        wanted = [operands[place] for place in some]
        first = grad(y, wanted, retain_graph=True)
        for one, other in zip(first, grad(y, wanted)):
            assert torch.equal(one, other)
        with pytest.raises(RuntimeError, match="second time"):
            grad(y, wanted)


def test_what_is_changed_in_place_is_an_error_where_it_is_needed(compiled):
    A, leaves = recorded("kronecker")
    x = numbers(A.shape[1], 3).requires_grad_()
    for changed in (x, *leaves):
        y = A @ x
        with torch.no_grad():
            changed.mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()
    for leaf in leaves:
        leaf.requires_grad_(False)
    y = A @ x
    expected = plain(lambda: grad((A @ x).sum(), x)[0])
    with torch.no_grad():
        x.mul_(2)
    close(grad(y.sum(), x)[0], expected)


def test_what_is_changed_in_place_is_no_error_where_it_is_not_needed(compiled):
    A, leaves = recorded("kronecker")
    x = numbers(A.shape[1], 3)
    y = A @ x
    expected = plain(lambda: grad((A @ x).sum(), leaves))
    with torch.no_grad():
        leaves[network_of(A).leaves[0]].mul_(2)  # which acts first: no other gradient needs it
    for found, other in zip(grad(y.sum(), leaves), expected):
        close(found, other)


def test_the_product_may_be_changed_in_place(compiled):
    A, leaves = recorded("btt")
    x = numbers(20, 3).requires_grad_()

    def run():
        y = A @ x
        y.mul_(2).add_(1)
        y[3:5].zero_()
        return grad(y.sum(), [x, *leaves])

    for found, expected in zip(run(), plain(run)):
        close(found, expected)


def test_operands_that_are_views(compiled):
    A, leaves = recorded("btt")
    base = numbers(3, 20, 4).requires_grad_()

    def run():
        y = A @ base[1]
        z = A._linear(base[:, :, 2])
        return y, *grad(y.sum() + z.square().sum(), [base, *leaves])

    found = run()
    assert ran(found[0])
    for one, expected in zip(found, plain(run)):
        close(one, expected)


def test_hooks(compiled):
    A, leaves = recorded("kronecker")
    x = numbers(A.shape[1], 3).requires_grad_()

    def run():
        seen = []
        y = A @ x
        y.retain_grad()
        handles = [y.register_hook(lambda g: 2 * g), y.grad_fn.register_hook(lambda *_: seen.append("node"))]
        handles += [leaf.register_hook(lambda g: seen.append(g) or 3 * g) for leaf in leaves]
        handles += [
            leaf.register_post_accumulate_grad_hook(lambda leaf: seen.append(leaf.grad.clone())) for leaf in leaves
        ]
        y.sum().backward()
        for handle in handles:
            handle.remove()
        found = [y.grad, x.grad, *[leaf.grad for leaf in leaves], *[one for one in seen if type(one) is not str]]
        assert seen.count("node") >= 1
        for leaf in (x, *leaves):
            leaf.grad = None
        return found

    found, expected = run(), plain(run)
    assert len(found) == len(expected) == 2 + 3 * len(leaves)
    for one, other in zip(found[: 2 + len(leaves)], expected):
        close(one, other)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("way", ["compiled", "auto"])
def test_checkpoints(compiled, monkeypatch, way, reentrant):
    monkeypatch.setenv("LINOPS_MACHINE", "")
    chain._chain_of.cache_clear()
    monkeypatch.setattr(chain, "seconds", lambda ways: [2.0, 1.0])
    lo.kernels.use(way)
    A, leaves = recorded("btt")
    x = numbers(20, 7).requires_grad_()

    def run():
        y = checkpoint(lambda x: (A @ (A @ x)[:20].tanh()).tanh(), x, use_reentrant=reentrant)
        with torch.no_grad():
            A @ x
        z = A @ x  # after which it is known that the kernel is faster
        (y.sum() + z.sum()).backward()
        found = [operand.grad for operand in (x, *leaves)]
        for operand in (x, *leaves):
            operand.grad = None
        return y, z, *found

    found = run()
    assert ran(found[1])
    for one, expected in zip(found, plain(run), strict=True):
        close(one, expected)


def test_hooks_of_what_is_saved(compiled):
    A, leaves = recorded("butterfly")
    x = numbers(32, 4).requires_grad_()
    packed = []

    def run():
        with torch.autograd.graph.saved_tensors_hooks(lambda t: packed.append(t.shape) or t.clone(), lambda t: t):
            y = A @ x
        return y, *grad(y.sum(), [x, *leaves])

    found = run()
    assert ran(found[0])
    assert len(packed) == 2 + len(leaves)  # x, what lies between, the leaves
    for one, expected in zip(found, plain(run)):
        close(one, expected)

    def strange():
        """What is unpacked lies in another order."""
        with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t.T.contiguous().T if t.ndim == 2 else t):
            y = B @ x
        return grad(y.sum(), [x, *leaves])

    B, leaves = recorded("kronecker")
    x = numbers(B.shape[1], 3).requires_grad_()
    for one, expected in zip(strange(), plain(strange), strict=True):
        close(one, expected)


def test_anomalies_are_found(compiled):
    A, _ = recorded("kronecker")
    x = numbers(A.shape[1], 3).requires_grad_()
    with torch.autograd.set_detect_anomaly(True):
        y = A @ x
        with (
            pytest.warns(UserWarning, match="Error detected in LinopsChainBackward"),
            pytest.raises(RuntimeError, match="'LinopsChainBackward' returned nan"),
        ):
            y.backward(torch.full_like(y, torch.nan))


def test_without_gradients(compiled):
    A, leaves = recorded("btt")
    x = numbers(20, 3).requires_grad_()
    with torch.no_grad():
        assert not (A @ x).requires_grad
    with torch.inference_mode():
        made = torch.ones_like(x)
        assert (A @ x).is_inference()
    assert not (A @ x.detach()).grad_fn.next_functions[0][0]  # none is recorded of x
    with pytest.raises(RuntimeError, match="Inference tensors cannot be saved"):
        A @ made
    for leaf in leaves:
        leaf.requires_grad_(False)
    assert (A @ x.detach()).grad_fn is None


@pytest.mark.parametrize("name", ["btt", "butterfly", "kronecker of three", "block diagonal"])
def test_gradients_of_which_more_than_numbers_is_asked(compiled, name):
    A, leaves = recorded(name)
    x = numbers(A.shape[1], 3).requires_grad_()
    operands = [x, *leaves]
    many = numbers(4, A.shape[0], 3)

    def batched():
        return grad(A @ x, operands, many, is_grads_batched=True)

    def counted():
        y = A @ x
        with FlopCounterMode(display=False) as counter:
            found = grad(y, operands, torch.ones_like(y))
        assert counter.get_total_flops() > 0
        return found

    def expanded():
        return grad((A @ x).sum(), operands)

    def of_other_strides():
        y = A @ x
        return grad(y, operands, numbers(3, A.shape[0]).T)

    def negative():
        y = A @ x
        return grad(y, operands, torch._neg_view(torch.ones_like(y)))

    def hessian():
        return [torch.autograd.functional.hessian(lambda x: (A @ x).tanh().sum(), x[:, :1].detach())]

    def none():
        y = A @ x
        return grad((y * 0 + x.sum()).sum(), x)

    for way in (batched, counted, expanded, of_other_strides, negative, hessian, none):
        for found, expected in zip(way(), plain(way), strict=True):
            close(found.resolve_neg(), expected.resolve_neg())
    with torch.autograd.forward_ad.dual_level():
        y = A @ x
        g = torch.autograd.forward_ad.make_dual(torch.ones_like(y), torch.ones_like(y))
        found = grad(y, x, g)[0]
        primal, tangent = torch.autograd.forward_ad.unpack_dual(found)
        close(tangent, primal)
    y = A @ x
    with torch.autocast("cpu", torch.bfloat16):
        grad(y, operands, torch.ones_like(y))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch's own look for it
@pytest.mark.parametrize("rows", [False, True])
def test_compiled_graphs_of_gradients(compiled, rows):
    from torch._dynamo import compiled_autograd

    A, leaves = recorded("btt")
    x = numbers(*((3, 20) if rows else (20, 3))).requires_grad_()

    def run():
        y = A._linear(x) if rows else A @ x
        y.square().sum().backward()
        found = [operand.grad for operand in (x, *leaves)]
        for operand in (x, *leaves):
            operand.grad = None
        return found

    with compiled_autograd._enable(torch.compile(backend="eager", fullgraph=True)):
        found = [run(), run()]
    for each in found:
        for one, expected in zip(each, plain(run)):
            close(one, expected)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", ["btt", "butterfly", "kronecker", "block diagonal"])
def test_layers(compiled, name, bias):
    layer = concrete(name, torch.float32).to_layer(bias=bias)
    x = numbers(2, 8, layer.in_features, dtype=torch.float32).requires_grad_()
    parameters = [*layer.parameters()]
    assert all(type(parameter) is torch.nn.Parameter for parameter in parameters)

    def run():
        y = layer(x)
        return y, *grad(y.square().sum(), [x, *parameters])

    found = run()
    names, nodes = set(), [found[0].grad_fn]
    while nodes:
        node = nodes.pop()
        names.add(node.name())
        nodes += [next for next, _ in node.next_functions if next is not None]
    assert "LinopsChainBackward" in names
    for one, expected in zip(found, plain(run), strict=True):
        close(one, expected)


def test_threads(compiled):
    """Several threads go back through one graph, and through their own."""
    from concurrent.futures import ThreadPoolExecutor

    A, leaves = recorded("btt")
    x = numbers(20, 16).requires_grad_()
    y = A @ x
    expected = plain(lambda: grad((A @ x).sum(), [x, *leaves]))

    def shared(_):
        return grad(y.sum(), [x, *leaves], retain_graph=True)

    def own(_):
        lo.kernels.use("compiled")
        return grad((A @ x).sum(), [x, *leaves])

    with ThreadPoolExecutor(4) as pool:
        for found in [*pool.map(shared, range(40)), *pool.map(own, range(40))]:
            for one, other in zip(found, expected):
                close(one, other)


def test_chains_outlive_what_made_them(compiled):
    x = numbers(36, 3).requires_grad_()

    def run():
        A, leaves = recorded("blast")
        return A @ x, [x, *leaves]

    y, operands = run()
    chain._chain_of.cache_clear()
    gc.collect()
    expected = plain(lambda: grad((run()[0]).sum(), x))
    for found, other in zip(grad(y.sum(), operands), expected):
        close(found, other)


# ---------------------------------------------------------------- what is measured


def test_auto_measures_each_set_of_gradients(compiled, monkeypatch):
    monkeypatch.setenv("LINOPS_MACHINE", "")
    chain._chain_of.cache_clear()
    timed = []
    monkeypatch.setattr(chain, "seconds", lambda ways: timed.append([len(way()) for way in ways]) or [2.0, 1.0])
    lo.kernels.use("auto")
    A, leaves = recorded("btt")
    x = numbers(20, 7).requires_grad_()
    assert ran(A @ x)
    assert ran(A @ x)
    assert ran(A @ x.detach())
    with torch.no_grad():
        A @ x
    assert timed == [[4, 4], [3, 3], [1, 1]]  # the product and the gradients
    cases = [case.split(" gradients ")[1].split()[0] for case in lo.kernels.status().chosen]
    assert cases == ["x,0,1", "0,1", "none"]
    assert x.grad is None
    assert all(leaf.grad is None for leaf in leaves)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t):
        assert not ran(A @ x)
    monkeypatch.setattr(chain, "seconds", lambda ways: [1.1, 1.0])
    B, _ = recorded("kronecker")
    assert not ran(B @ numbers(B.shape[1], 3))


def test_auto_measures_what_runs(compiled, monkeypatch):
    monkeypatch.setenv("LINOPS_MACHINE", "")
    chain._chain_of.cache_clear()
    lo.kernels.use("auto")
    A, _ = recorded("butterfly", torch.float32)
    A @ numbers(32, dtype=torch.float32)
    (times,) = building.measured().why.values()
    assert {*times} == {"plain", "compiled"}
    assert all(0 < seconds < 1 for seconds in times.values())


@pytest.mark.parametrize("of", ["leaf", "operand"])
@pytest.mark.usefixtures("compiled")
def test_what_was_kept_may_have_other_numbers_by_the_backward_pass(of):  # as where parameters are moved away meanwhile
    blocks, x = torch.randn(16, 16, 16, requires_grad=True), torch.randn(256, 4, requires_grad=True)
    y = lo.BlockDiag(blocks) @ x
    assert ran(y)
    swapped, other = (blocks, x) if of == "leaf" else (x, blocks)
    swapped.data = torch.zeros(1)
    with pytest.raises((RuntimeError, IndexError)):
        grad(y.sum(), other)
