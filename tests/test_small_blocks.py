"""Chains of many small factors: neighbours are multiplied with each other where that pays."""

import numpy as np
import pytest
import torch
from helpers import as_numpy, every_backend, on

import linops as lo
from linops.operators.planned import network_of
from linops.plan import natural_order, target_of
from linops.plan.contraction import OPERAND, sizes_of
from linops.plan.outer import layout
from linops.plan.plan import actions_along, plan_along
from linops.plan.search import path
from linops.running import multiply

CHAINS = {
    "butterfly": lambda: lo.butterfly(64, 64),
    "kronecker": lambda: lo.kron(*[lo.spec(2, 2)] * 6),
    "train": lambda: lo.TensorTrain([lo.spec(1, 2, 2, 2), *[lo.spec(2, 2, 2, 2)] * 4, lo.spec(2, 2, 2, 1)]),
}
#: (chain, vectors) that torch's plain loops take longest for
LOOPED = [("butterfly", 1024, 16), ("butterfly", 1024, 64), ("butterfly", 256, 99), ("kronecker", 4096, 16)]


def merging(A, groups):
    """The actions on a plan with these groups."""
    network = network_of(A)
    along = path(network, groups, 16, target_of("torch").machine, 4)
    found = actions_along(network, along)
    return [(action, action.kernel(sizes_of(network.sizes))) for action in found]


@every_backend
@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("groups", [((0, 2), (3, 5)), ((0, 1), (2, 2), (3, 5))])
def test_products_of_merged_factors(chain, groups, backend):
    A = CHAINS[chain]().init(seed=0, backend=backend, dtype="float32")
    x, network = on(backend, np.random.default_rng(1).standard_normal((64, 5)).astype("float32")), network_of(A)
    plan = plan_along(network, path(network, groups, 5, target_of(backend).machine, 4))
    found = multiply(plan, [leaf for _, leaf in A.named_leaves()], x).reshape(64, 5)
    np.testing.assert_allclose(as_numpy(found), as_numpy(A._natural(x)), rtol=1e-4, atol=1e-4)


def test_gradients_reach_the_factors_through_merges():
    A = lo.butterfly(256, 256).init(seed=0, backend="torch")
    leaves = [leaf.requires_grad_() for _, leaf in A.named_leaves()]
    x = torch.randn(256, 64, requires_grad=True)
    assert A._plan(64) is not None
    found = torch.autograd.grad((A @ x).square().sum(), [x, *leaves])
    with natural_order():
        expected = torch.autograd.grad((A @ x).square().sum(), [x, *leaves])
    for one, other in zip(found, expected):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("family", "n", "batch"), LOOPED)
def test_what_torch_would_loop_over_is_merged(family, n, batch):
    A = lo.butterfly(n, n) if family == "butterfly" else lo.kron(*[lo.spec(2, 2)] * 12)
    products = [step for step in A._lower(batch) if step.blocks and not step.merges]
    assert len(products) <= 4
    assert all(step.rows * step.columns * step.batch >= 400 for step in products)


def test_one_vector_goes_through_the_factors_of_a_butterfly():
    assert lo.butterfly(1024, 1024)._plan(1) is None


def test_merged_blocks_lie_with_their_number_innermost_and_are_copied_once():
    found = merging(lo.butterfly(1024, 1024), ((0, 2), (3, 5), (6, 9)))
    assert [action.kind for action, _ in found].count("outer") == 7
    for action, kernel in found:
        if action.onto == OPERAND:
            assert kernel.copies
            assert len(kernel.dims) == 3


def test_merged_matrices_lie_as_they_act():
    for action, kernel in merging(lo.kron(*[lo.spec(2, 2)] * 6), ((0, 2), (3, 5))):
        assert not kernel.copies
        assert action.onto != OPERAND or kernel.turn is None


def test_layouts():
    def size(axes):
        return 2 ** len(axes)

    assert layout(["ac", "bd"], "cd", "ab", "ab", size) == "abcd"
    assert layout(["xyzwa", "xyzwb"], "xyzwb", "xyzwa", "a", size) == "abxyzw"
    assert layout(["xa", "xb"], "xb", "xa", "a", size) == "xab"


def test_plans_of_merges_are_counted():
    """MACs of the products, and multiplications of the merges."""
    steps = lo.kron(*[lo.spec(2, 2)] * 12)._lower(16)
    merges = [step for step in steps if step.merges]
    assert [step.other_flops for step in merges] == [step.outputs for step in merges] == [16, 16, 256] * 3
    assert sum(step.macs for step in steps) == 3 * 16 * 4096 * 16


@every_backend
def test_single_numbers_are_merged(backend):
    array = on(backend, np.full((1, 1), 3.0))
    A = lo.Diagonal(array[0]) @ lo.Dense(array)
    for batch in (1, 8):
        assert np.array_equal(as_numpy(lo.freeze(A, batch) @ on(backend, np.ones((1, 5)))), np.full((1, 5), 9.0))
