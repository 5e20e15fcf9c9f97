"""Plans: every way to group the tensors of an expression gives the same product, and the one that is chosen is the cheapest."""

import itertools
import sys
import time
from dataclasses import replace

import numpy as np
import opt_einsum
import pytest
from cases import CASES
from helpers import TOLERANCE, as_numpy, assert_product, build, every_backend, every_case, on, uses

import linops as lo
from linops.operators import planned
from linops.operators.planned import network_of, run
from linops.plan import machine_of, natural_order
from linops.plan import plan as plans
from linops.plan.machine import Machine
from linops.plan.plan import Plans, plan_along
from linops.plan.search import cheapest, path

freezing = sys.modules["linops.rules.freeze"]
TORCH = machine_of("torch")
#: takes as long as there are MACs
COUNTING = Machine(call=0.0, block=0.0, flops=2.0, half=0.0, bandwidth=float("inf"), shuffled=float("inf"))


def groupings(count):
    """Every way to cut so many tensors into groups of neighbours; of more than four, a few."""
    if count > 4:
        return [((0, count - 1),), ((0, 1), (2, count - 1)), ((0, 0), (1, count - 2), (count - 1, count - 1))]
    cuts = [cut for size in range(count) for cut in itertools.combinations(range(1, count), size)]
    return [tuple((a, b - 1) for a, b in itertools.pairwise((0, *cut, count))) for cut in cuts]


def networks(operator):
    """The networks in an expression, with the operators."""
    found = [(node, network_of(node)) for _, node in operator._nodes()]
    return [(node, network) for node, network in found if network is not None and network.tensors]


@uses("complex128")
@every_case
def test_every_grouping_is_the_product(case):
    operator, _, array = build(case, "complex128")
    for node, network in networks(operator):
        x = array(node.shape[1], 3)
        leaves = [leaf for _, leaf in node.named_leaves()]
        for groups in groupings(len(network.tensors)):
            plan = plan_along(network, path(network, groups, 3, TORCH, 16))
            y = run(plan.program, [leaves[place] for place in network.leaves], x)
            assert_product(y.reshape(node.shape[0], 3), np.asarray(node.to_dense()), x, "complex128")


@uses("complex128")
@every_case
@pytest.mark.parametrize("batch", [1, 5, 1000])
def test_frozen_operators_are_the_same(case, batch, monkeypatch):
    operator, matrix, array = build(case, "complex128")
    if batch == 5:  # whatever it takes
        monkeypatch.setattr(Machine, "total", lambda self, steps, itemsize: sum(step.merges for step in steps))
        monkeypatch.setattr(freezing, "cheapest", lambda network, *_, **__: groupings(len(network.tensors))[1])
    frozen = lo.freeze(operator, batch)
    assert frozen.shape == operator.shape
    x = array(operator.shape[1], 4)
    assert_product(frozen @ x, matrix, x, "complex128")


def test_frozen_operators_are_as_announced():
    permute = lo.Permute.axes((8, 8), (1, 0))
    six = lo.Product(tuple(factor for _ in range(6) for factor in (permute, lo.BlockDiag(lo.spec(8, 8, 8)))))
    assert isinstance(lo.freeze(six), lo.Dense)
    twelve = lo.kron(*[lo.spec(2, 2)] * 12)
    assert 2 <= len(lo.freeze(twelve).tensors) <= 4
    diagonals = lo.Product((lo.Diagonal(lo.spec(4096)), *[lo.BlockDiag(lo.spec(256, 16, 16))] * 2, lo.Diagonal(lo.spec(4096))))
    assert repr(lo.freeze(diagonals, 256)) == repr(lo.BlockDiag(lo.spec(256, 16, 16)))
    for A in (six, twelve, diagonals):
        concrete = lo.freeze(A.init(seed=0, backend="torch"))
        assert lo.freeze(A).shape == concrete.shape
        assert repr(lo.freeze(A)).replace("symbolic", "torch") == repr(concrete)
    large = lo.btt(4096, 4096)
    assert lo.freeze(large, 256) is large
    assert lo.freeze(large @ lo.Permute.random(4096) @ large).factors[0] is large
    assert isinstance(lo.freeze(lo.btt(32, 32)), lo.Dense)


def test_most_operators_are_networks():
    expected = {"Dense", "Diagonal", "BlockDiag", "LowRank", "Kronecker", "TensorTrain", "BlockTensorTrain"}
    found = set()
    for case in CASES:
        found |= {type(node).__name__ for node, _ in networks(build(case)[0])}
    assert found >= expected | {"Butterfly", "Einsum", "Product"}


@pytest.fixture
def merging(monkeypatch):
    """Whatever is multiplied, all tensors are multiplied with each other first."""
    monkeypatch.setattr(planned, "PLANS", Plans(1000))
    monkeypatch.setattr(plans, "GAIN", 0.0)
    monkeypatch.setattr(plans, "cheapest", lambda network, *_: ((0, len(network.tensors) - 1),))


MERGED = (
    *("low_rank_tall", "kronecker_of_low_rank_and_products", "tensor_train_three_cores", "einsum_blast", "einsum_two_factors"),
    *("product_monarch", "product_diagonal_low_rank", "circulant_in_a_product", "nested_sum_of_products"),
)


@every_backend
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("case", MERGED)
def test_conformance_of_plans(case, backend, dtype, merging):
    operator, matrix, _ = build(case, dtype)
    skip = {"compile": "the natural order"} if backend == "torch" else {}
    report = lo.testing.check_operator(operator, matrix, backend=backend, rtol=TOLERANCE[dtype], skip=skip)
    assert "products" in report.names("passed") or "vectors_and_matrices" in report.names("passed")


def chain(sizes):
    """A product of matrices (s_0, s_1), (s_1, s_2) … and its network."""
    operator = lo.Dense(lo.spec(sizes[0], sizes[1]))
    for pair in itertools.pairwise(sizes[1:]):
        operator = operator @ lo.Dense(lo.spec(*pair))
    return operator, network_of(operator)


@pytest.mark.parametrize("seed", range(20))
def test_chains_take_as_few_macs_as_opt_einsum_finds(seed):
    random = np.random.default_rng(seed)
    sizes, batch = [int(size) for size in random.integers(2, 200, random.integers(3, 8))], int(random.integers(2, 200))
    _, network = chain(sizes)
    groups = cheapest(network, batch, COUNTING, 4)
    macs = sum(step.macs for step in plan_along(network, path(network, groups, batch, COUNTING, 4)).steps(batch))
    shapes = [*itertools.pairwise(sizes), (sizes[-1], batch)]
    letters = [chr(97 + place) for place in range(len(sizes) + 1)]
    expression = ",".join(map("".join, itertools.pairwise(letters))) + f"->{letters[0]}{letters[-1]}"
    _, info = opt_einsum.contract_path(expression, *shapes, shapes=True, optimize="optimal")
    assert 2 * macs == info.opt_cost


def macs(operator, batch):
    """(MACs along the plan, MACs in the natural order)."""
    with natural_order():
        natural = operator.cost(batch).macs
    return operator.cost(batch).macs, natural


def test_a_wide_product_is_made_first_for_many_vectors():
    A = lo.dense(64, 1024) @ lo.Dense(lo.spec(1024, 1024))
    planned_, natural = macs(A, 1024)
    assert planned_ == 64 * 1024 * 1024 + 64 * 1024 * 1024
    assert natural > 8 * planned_
    assert macs(A, 1) == (64 * 1024 + 1024 * 1024,) * 2


def test_diagonals_and_blocks_become_one_for_many_vectors():
    B = lo.BlockDiag(lo.spec(32, 8, 8))
    A = lo.Product((lo.Diagonal(lo.spec(256)), B, B, lo.Diagonal(lo.spec(256))))
    assert [step.kind for step in A._lower(4096) if step.inputs > 10_000] == ["bmm"]


def test_small_factors_are_merged():
    A = lo.kron(*[lo.spec(2, 2)] * 12)
    assert len([step for step in A._lower(16) if step.inputs >= 4096 * 16]) <= 6


def test_what_is_not_a_network_stands_between_plans():
    A = lo.dense(16, 512) @ lo.Dense(lo.spec(512, 512)) @ lo.Permute.random(512) @ lo.low_rank(512, 512, rank=200)
    kinds = [step.kind for step in A._lower(512)]
    assert kinds == ["matmul", "matmul", "gather", "matmul", "matmul"]
    A = A.init(seed=0, dtype="float64")
    x = np.random.default_rng(0).standard_normal((512, 512))
    with natural_order():
        expected = A @ x
    np.testing.assert_allclose(A @ x, expected, rtol=1e-9, atol=1e-9)


@every_backend
def test_planned_products_are_the_natural_ones(backend):
    A = (lo.dense(8, 128) @ lo.Dense(lo.spec(128, 128, dtype="float32"))).init(seed=0, backend=backend)
    x = on(backend, np.random.default_rng(0).standard_normal((128, 300)).astype("float32"))
    assert macs(A, 300)[0] < macs(A, 300)[1]
    with natural_order():
        expected = as_numpy(A @ x)
    np.testing.assert_allclose(as_numpy(A @ x), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(as_numpy(A._linear(x.T)), expected.T, rtol=1e-4, atol=1e-4)


def test_mixed_precision_keeps_the_natural_order():
    A = lo.Dense(lo.spec(8, 128, dtype="float64")) @ lo.Dense(lo.spec(128, 128, dtype="float32"))
    assert macs(A, 512)[0] == macs(A, 512)[1]


def test_plans_are_made_once_and_bounded(monkeypatch):
    monkeypatch.setattr(planned, "PLANS", Plans(3))
    made = []
    monkeypatch.setattr(planned, "choose", lambda *_: made.append(None))
    for _ in range(2):  # another operator of the same structure
        A = lo.dense(4, 4) @ lo.dense(4, 4)
        for _ in range(2):
            A.cost(5), A.cost(6)
    assert len(made) == 1  # 5 and 6 are of one class
    for batch in (1, 2, 4, 8, 16, 32):
        A.cost(batch)
    assert len(planned.PLANS) == 3


def test_plans_are_quick():
    """Ten factors in 1 ms, a plan that is there in 1 µs: the least of several, with a factor of 5 for slow machines."""
    permute = lo.Permute.axes((8, 8), (1, 0))
    factors = [factor for _ in range(10) for factor in (permute, lo.BlockDiag(lo.spec(8, 8, 8)))]
    A = lo.Product(tuple(factors))

    def took(function, count):
        start = time.perf_counter()
        for _ in range(count):
            function()
        return (time.perf_counter() - start) / count

    network = network_of(A)
    assert min(took(lambda: plans.choose(network, 64, replace(TORCH), 4, A._natural_steps), 1) for _ in range(9)) < 5e-3
    A.cost(64)
    assert min(took(lambda: A._plan(64), 1000) for _ in range(9)) < 5e-6
