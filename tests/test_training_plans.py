"""Plans for training: which order runs where gradients are wanted, what it costs, and that gradients are right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from helpers import TOLERANCE, each, on, randoms

import linops as lo
from linops.operators import choosing, planned
from linops.operators.planned import Forked, Planned, network_of
from linops.plan import Machine, Step, natural_order
from linops.plan import plan as plans
from linops.plan.contraction import OPERAND
from linops.plan.gradient import backward, gradients, marked
from linops.plan.plan import Plans, marked_naturally, plan_along
from linops.plan.search import path
from linops.plan.step import copy_step, matmul_step

PRODUCT = lo.dense(6, 5) @ lo.Dense(lo.spec(5, 7)) @ lo.dense(7, 4)
OPERATORS = {
    "product": PRODUCT,
    "btt": lo.btt(8, 12, rank=2, allow_dearer=True),
    "low rank": lo.low_rank(6, 8, rank=3, allow_dearer=True),
    "kronecker": lo.kron(lo.spec(3, 2), lo.spec(2, 4), lo.spec(2, 2)),
    "tensor train": lo.tensor_train(8, 8, rank=2, cores=3, allow_dearer=True),
    "monarch": lo.monarch(16, 16, allow_dearer=True),
    "butterfly": lo.butterfly(8, 8, allow_dearer=True),
    "blast": lo.blast(12, 12, allow_dearer=True),
    "diagonal": lo.Diagonal(lo.spec(8)) @ lo.BlockDiag(lo.spec(2, 4, 4)) @ lo.Diagonal(lo.spec(8)),
}


@pytest.fixture
def merging_in_training(monkeypatch):
    """Where gradients are wanted, all tensors are multiplied with each other first; else the natural order runs."""
    taken = []

    def choose(network, batch, machine, itemsize, natural, wanted=0):
        taken.append(wanted)
        count = len(network.tensors)
        groups = ((0, count - 1),)
        return plan_along(network, path(network, groups, batch, machine, itemsize)) if wanted and count > 1 else None

    monkeypatch.setattr(choosing, "PLANS", Plans(1000))
    monkeypatch.setattr(planned, "choose", choose)
    return taken


def numbers(dtype, *shape, seed=0):
    return randoms(str(seed), dtype)(*shape)


def torch_gradients(A, x, frozen=(), operand=True):
    """Gradients of x and of all leaves, None where not wanted, of Re(c · A x)."""
    leaves = [leaf.detach().requires_grad_(place not in frozen) for place, (_, leaf) in enumerate(A.named_leaves())]
    x = x.detach().requires_grad_(operand)
    y = A.with_leaves(leaves) @ x
    weights = torch.from_numpy(numbers("float64", *y.shape, seed=9))
    loss = (y.real * weights + y.imag * weights.flip(0)).sum() if y.is_complex() else (y * weights).sum()
    loss.backward()
    return [tensor.grad for tensor in (x, *leaves)]


CASES = [(name, dtype) for name in OPERATORS for dtype in ("float64", "complex128")]


@pytest.mark.parametrize(("name", "dtype"), each(4, CASES))
def test_torch_gradients_are_those_of_the_natural_order(name, dtype, merging_in_training):
    A = OPERATORS[name].init(seed=0, backend="torch", dtype=dtype)
    x = torch.from_numpy(numbers(dtype, A.shape[1], 3))
    found = torch_gradients(A, x)
    with natural_order():
        expected = torch_gradients(A, x)
    assert any(merging_in_training)
    for one, other in zip(found, expected):
        torch.testing.assert_close(one, other, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def test_torch_asks_what_gradients_are_wanted_of(merging_in_training, monkeypatch):
    A = PRODUCT.init(seed=0, backend="torch", dtype="float64")
    x, asked, ask = torch.from_numpy(numbers("float64", 4, 3)), [], planned.backends.gradients_wanted
    monkeypatch.setattr(planned.backends, "gradients_wanted", lambda *given: asked.append(ask(*given)) or asked[-1])
    A @ x
    assert asked == [0]
    for wanted, frozen, operand in ((0b1111, (), True), (0b1110, (), False), (0b0101, (0, 2), True)):
        gradients = torch_gradients(A, x, frozen, operand)
        assert asked[-1] == wanted
        assert wanted in merging_in_training
        assert [grad is not None for grad in gradients] == [bool(wanted >> place & 1) for place in range(4)]
    with torch.no_grad():
        asked.clear()
        A.with_leaves([leaf.requires_grad_() for _, leaf in A.named_leaves()]) @ x
    assert not asked


def jax_loss(A, x):
    y = A @ x
    weights = numbers("float64", *y.shape, seed=9)
    return (y.real * weights + y.imag * weights[::-1]).sum()


TRANSFORMS = {
    "grad": lambda loss: jax.grad(loss, argnums=(0, 1)),
    "jit of grad": lambda loss: jax.jit(jax.grad(loss, argnums=(0, 1))),
    "grad of jit": lambda loss: jax.grad(jax.jit(loss), argnums=(0, 1)),
    "grad of checkpoint": lambda loss: jax.grad(jax.checkpoint(loss), argnums=(0, 1)),
    "forward mode": lambda loss: jax.jacfwd(loss, argnums=1),
    "second derivatives": lambda loss: jax.jacfwd(jax.grad(loss, argnums=0), argnums=1),
}


@pytest.mark.parametrize(("name", "dtype"), each(6, CASES))
def test_jax_gradients_are_those_of_the_natural_order(name, dtype, merging_in_training):
    A = OPERATORS[name].init(seed=0, backend="jax", dtype=dtype)
    x = jnp.asarray(numbers(dtype, A.shape[1], 3))
    with natural_order():
        expected = jax.jit(jax.grad(jax_loss, argnums=(0, 1)))(A, x)
    merging_in_training.clear()
    found = jax.jit(jax.grad(jax_loss, argnums=(0, 1)))(A, x)
    assert any(merging_in_training)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
        np.testing.assert_allclose(one, other, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("transform", each(3, list(TRANSFORMS)))
def test_jax_differentiates_in_every_way(transform, merging_in_training):
    A = OPERATORS["low rank"].init(seed=0, backend="jax", dtype="float64")
    x = jnp.asarray(numbers("float64", A.shape[1], 3))
    with natural_order():
        expected = TRANSFORMS[transform](jax_loss)(A, x)
    found = TRANSFORMS[transform](jax_loss)(A, x)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


def test_jax_takes_the_plan_when_it_differentiates(merging_in_training):
    """A product that is traced is in the natural order; its gradient, though asked for later, is along a plan."""
    A = PRODUCT.init(seed=0, backend="jax")
    x, (first, *rest) = jnp.ones((4, 3), "float32"), [leaf for _, leaf in A.named_leaves()]
    assert str(jax.make_jaxpr(lambda A, x: A @ x)(A, x)).count("dot_general") == 3
    merging_in_training.clear()
    loss = jax.jit(lambda leaf: (A.with_leaves([leaf, *rest]) @ x).sum())
    jax.jit(jax.grad(loss)).lower(first)
    assert merging_in_training[-1] == 0b0010  # of one leaf alone
    y = jax.vmap(lambda x: A @ x)(jnp.stack([x, x]))
    np.testing.assert_allclose(y[1], A @ x, rtol=1e-5, atol=1e-5)


def test_eager_jax_and_numpy_want_no_gradients(merging_in_training):
    for backend in ("jax", "numpy"):
        A = PRODUCT.init(seed=0, backend=backend)
        A @ on(backend, numbers("float32", 4, 3))
    assert set(merging_in_training) == {0}


@pytest.mark.full
@pytest.mark.parametrize("layout", ["vector", "rows", "stack"])
def test_every_layout_is_differentiated(layout, merging_in_training):
    A = lo.low_rank(6, 8, rank=3, allow_dearer=True).init(seed=0, backend="jax", dtype="float64")
    shape, product = {
        "vector": ((8,), lambda A, x: A @ x),
        "rows": ((5, 8), lambda A, x: x @ A.T),
        "stack": ((2, 8, 5), lambda A, x: A @ x),
    }[layout]
    x = jnp.asarray(numbers("float64", *shape))
    gradient = jax.grad(lambda A, x: (product(A, x) ** 2).sum(), argnums=(0, 1))
    with natural_order():
        expected = gradient(A, x)
    for one, other in zip(jax.tree.leaves(gradient(A, x)), jax.tree.leaves(expected)):
        np.testing.assert_allclose(one, other, rtol=1e-9)


def test_compiled_and_exported_layers_run_the_natural_order(merging_in_training):
    layer = lo.low_rank(6, 8, rank=3, allow_dearer=True).init(seed=0, backend="torch").to_layer(bias=False)
    merging_in_training.clear()
    program = torch.export.export(layer, (torch.ones(5, 8),))
    assert not merging_in_training
    torch.testing.assert_close(program.module()(torch.ones(5, 8)), layer(torch.ones(5, 8)))


# ---------------------------------------------------------------- what the steps of gradients cost


def test_gradients_of_a_product_take_its_macs_each():
    step = matmul_step(3, 4, 5, 6)
    both = list(gradients(step, True, True))
    assert [one.macs for one in both] == [step.macs] * 2
    assert [(one.rows, one.columns, one.batch) for one in both] == [(4, 6, 5), (5, 4, 6)]
    assert [one.outputs for one in both] == [step.weights, step.inputs]
    assert not list(gradients(step, False, False))


def test_one_matrix_of_a_stack_sums_its_gradients():
    step = matmul_step(3, 4, 5, 6, weights=20)
    first, second, _ = gradients(step, True, True)
    assert (first.outputs, second.kind, second.inputs, second.outputs) == (60, "sum", 60, 20)


def test_a_view_is_a_copy_on_the_way_back():
    (back,) = gradients(Step("view", "axes", viewed=10), True, False)
    assert (back.kind, back.inputs) == ("copy", 10)
    (back,) = gradients(copy_step("axes", weights=7), True, True)
    assert (back.kind, back.weights, back.outputs) == ("copy", 7, 7)


def test_nothing_flows_back_beyond_the_first_that_asks():
    """A frozen first factor and an operand without gradient have no backward pass at all."""
    steps = [matmul_step(1, 2, 3, 10), matmul_step(1, 4, 2, 10), matmul_step(1, 5, 4, 10)]
    back = backward(marked(steps, False, iter([False, True, True])))
    assert [step.gradient for step in back] == ["grad A", "grad x", "grad A"]
    assert len(backward(marked(steps, True, iter([False] * 3)))) == 3


@pytest.mark.parametrize("name", OPERATORS)
def test_macs_are_those_of_cost(name):
    A = OPERATORS[name]
    steps = A._natural_steps(7)
    back = backward([(step, True, True) for step in steps])
    with natural_order():
        assert sum(step.macs for step in back) == A.cost(7).backward.macs
    assert len(marked_naturally(network_of(A), steps, 1)) == len(steps)


def test_explain_shows_both_passes():
    A = lo.btt(256, 256, rank=4)
    text = A.explain(256, order="natural", training=True)
    assert text.count("grad A: bmm") == text.count("grad x: bmm") == 2
    assert "a training step" in text.split("\nstep")[0]
    assert text.splitlines()[-1].split()[1] == f"{3 * A.cost(256).macs:,}"
    assert "grad" not in A.explain(256)
    text = lo.toeplitz(64, 64).explain(4096, training=True)
    assert "grad A: matmul" in text
    assert "grad A: tile" in text  # what it tiles is the leaf
    assert "grad x: tile" not in text
    assert "grad A: rfft" in lo.circulant(64, 64).explain(order="natural", training=True)
    assert max(map(len, text.split("\nstep")[0].splitlines())) <= 80
    assert "by a plan (in the natural order 19,949,760 FLOPs); a training step" in text.split("\nstep")[0]


def test_training_may_take_another_order_than_a_forward_pass():
    """Where what is kept leaves the cache, one product with the matrix is faster than two with half its MACs."""
    A = lo.btt(256, 256, rank=4)
    small = Machine(1e-6, 1e-8, 1e11, 8, 1e10, 1e10, 1e10, cache=1 << 20)
    target = lo.plan.Target("torch", "cpu", small, "slow memory")
    assert "by a plan" not in A.explain(4096, target=target)
    assert "by a plan" in A.explain(4096, target=target, training=True)
    assert "by a plan" not in A.explain(4096, target=target, order="natural", training=True)


def test_frozen_leaves_change_the_plan():
    """A product is made once for two gradients of it, but dear where only the operand asks for one."""
    A = OPERATORS["low rank"]
    assert len({A._everything, *A._wishes}) == 3
    assert A._wishes == (1, 0b110, 0b111)
    assert Forked(None, 3).forward is None
    assert plans.trains.get() is False


def test_products_of_blocks_are_exported_for_any_number_of_vectors():
    """Where sizes are symbols, nothing is decided by them."""
    (batch,) = jax.export.symbolic_shape("b")
    for A in (lo.btt(64, 64), lo.kron(lo.spec(8, 8), lo.spec(8, 8))):
        A = A.init(seed=0, backend="jax")
        exported = jax.export.export(jax.jit(lambda x, A=A: A @ x))(jax.ShapeDtypeStruct((64, batch), np.float32))
        x = numbers("float32", 64, 300)
        np.testing.assert_allclose(exported.call(x), A @ jnp.asarray(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("batch", [16, 300])
def test_one_matrix_of_a_stack_is_the_same_repeated(batch):
    """From some vectors on JAX repeats it; the products and their gradients are the same."""
    A = lo.kron(lo.spec(8, 4), lo.spec(4, 8)).init(seed=0, backend="jax", dtype="float64")
    x = jnp.asarray(numbers("float64", 32, batch))
    found = jax.jit(jax.grad(jax_loss, argnums=(0, 1)))(A, x)
    expected = jax.jit(jax.grad(lambda A, x: jax_loss(lo.Dense(A.to_dense()), x), argnums=(0, 1)))(A, x)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


def test_a_product_searches_once_at_most(monkeypatch):
    """Whether the natural order runs whatever is wanted is found over several products; then nothing is looked for."""
    monkeypatch.setattr(choosing, "PLANS", Plans(1000))
    searched = []
    monkeypatch.setattr(Planned, "_make", lambda self, size, target, wanted: searched.append(wanted))
    A, x = lo.btt(36, 36, rank=3).init(seed=0, backend="torch"), torch.ones(36, 5)
    A = A.structure.fill([leaf.requires_grad_() for _, leaf in A.named_leaves()])
    for count in (1, 2, 3, 4, 4):
        A @ x
        assert len(searched) == count
    assert sorted(searched) == [0, 1, 0b110, 0b111]
    monkeypatch.setattr(Planned, "_plan_for", None)
    A @ x


def test_frozen_leaves_take_their_own_plan(monkeypatch):
    """Where it is another than that of any other gradients."""
    monkeypatch.setattr(choosing, "PLANS", Plans(1000))
    own = plan_along(network_of(lo.btt(49, 49, rank=3)), ((1, 0), (0, OPERAND)))
    monkeypatch.setattr(Planned, "_make", lambda self, size, target, wanted: own if wanted == 0b100 else None)
    A, x = lo.btt(49, 49, rank=3).init(seed=0, backend="torch"), torch.ones(49, 5)
    leaves = [leaf for _, leaf in A.named_leaves()]
    leaves[1].requires_grad_()
    A = A.structure.fill(leaves)
    for _ in range(6):
        assert A._plan_at(5, x) is own
    torch.testing.assert_close(A @ x, A.to_dense() @ x)
    with torch.no_grad():
        assert A._plan_at(5, x) is None
