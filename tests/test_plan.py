"""Plans: every way to group an expression's tensors gives the same product, and the cheapest is chosen."""

import gc
import itertools
import sys
import threading
import weakref

import jax
import numpy as np
import opt_einsum
import pytest
import scipy.sparse
import torch
from cases import CASES
from helpers import TOLERANCE, as_numpy, assert_product, build, each, every_backend, every_case, on, uses

import linops as lo
from linops.operators import choosing, planned
from linops.operators.planned import network_of
from linops.plan import natural_order, target_of
from linops.plan import plan as plans
from linops.plan.contraction import one_by_one
from linops.plan.machine import Machine
from linops.plan.plan import Plans, plan_along
from linops.plan.search import cheapest, path
from linops.running import multiply

freezing = sys.modules["linops.freezing"]
TORCH = target_of("torch").machine
#: takes as long as there are MACs
COUNTING = Machine(
    call=0.0, block=0.0, flops=2.0, half=0.0, bandwidth=float("inf"), shuffled=float("inf"), fourier=float("inf")
)


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
            y = multiply(plan, leaves, x)
            assert_product(y.reshape(node.shape[0], 3), np.asarray(node.to_dense()), x, "complex128")


@uses("complex128")
@every_case
@pytest.mark.parametrize("batch", [1, 5, 1000])
def test_frozen_operators_are_the_same(case, batch, monkeypatch):
    operator, matrix, array = build(case, "complex128")
    if batch == 5:  # whatever it takes
        monkeypatch.setattr(
            Machine, "total", lambda self, steps, itemsize, kept=False: sum(step.merges for step in steps)
        )
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
    diagonals = lo.Product(
        (lo.Diagonal(lo.spec(4096)), *[lo.BlockDiag(lo.spec(256, 16, 16))] * 2, lo.Diagonal(lo.spec(4096)))
    )
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
    monkeypatch.setattr(choosing, "PLANS", Plans(1000))
    monkeypatch.setattr(plans, "PLAN_GAIN", 0.0)
    monkeypatch.setattr(plans, "TRAINING_GAIN", 0.0)
    monkeypatch.setattr(plans, "cheapest", lambda network, *_, **__: ((0, len(network.tensors) - 1),))


MERGED = (
    *(
        "low_rank_tall",
        "kronecker_of_low_rank_and_products",
        "tensor_train_three_cores",
        "einsum_blast",
        "einsum_two_factors",
    ),
    *("product_of_two", "product_diagonal_low_rank", "nested_sum_of_products"),
)


#: compiling takes JAX a second and more
RUNS = [
    (case, backend, dtype) for case in MERGED for backend in ("numpy", "torch") for dtype in ("float64", "complex128")
]
RUNS += [("einsum_blast", "jax", "complex128"), ("kronecker_of_low_rank_and_products", "jax", "float64")]


@pytest.mark.parametrize(("case", "backend", "dtype"), each(5, RUNS))
def test_conformance_of_plans(case, backend, dtype, merging):
    operator, matrix, _ = build(case, dtype)
    skip = {"compile": "the natural order"} if backend == "torch" else {}
    report = lo.testing.check_operator(operator, matrix, backend=backend, rtol=TOLERANCE[dtype], skip=skip)
    assert "vectors_and_matrices" in report.names("passed")
    nodes = [node for _, node in operator.to(backend=backend)._nodes()]
    nodes += [part for node in nodes if isinstance(node, lo.Product) for part in node._parts]
    assert any(node._plan(7) is not None for node in nodes if hasattr(node, "_plan"))  # so the plan was tested


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
    assert len([step for step in A._lower(256) if step.inputs >= 4096 * 256]) <= 6


def test_axes_that_no_blocks_read_as_they_lie_are_copied():
    monarch = lo.monarch(256, 256)
    kinds = [step.kind for step in (monarch @ monarch)._natural_steps(2048)]
    assert kinds == ["bmm", "view", "bmm", "copy"] * 2  # between two Monarch factors, and to return the result
    swap = lo.Permute.axes((64, 4), (1, 0))
    block = lo.BlockDiag(lo.spec(4, 64, 64))
    scaled = lo.Product((block, lo.Diagonal(lo.spec(256)), swap, block))
    assert [step.kind for step in scaled._natural_steps(2048)] == ["bmm", "copy", "scale", "bmm"]


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_as_many_products_in_one_matrix_save_the_passes_over_memory(backend):
    two = (lo.monarch(256, 256) @ lo.monarch(256, 256)).init(seed=0, backend=backend)
    assert two._plan(1024) is None
    plan = two._plan(2048)
    assert [step.kind for step in plan.steps(2048)].count("matmul") == 1
    assert plan.program.turn is None  # the matrix's rows are copied to the order of the result, which is not turned
    assert plan.steps(2048)[-1].kind == "matmul"


def test_a_plan_counts_the_copy_of_its_result():
    plan = plan_along(network_of(lo.monarch(64, 64)), one_by_one((0, 1)))
    assert plan.program.turn
    (*_, last) = plan.steps(5)
    assert (last.kind, last.inputs, last.outputs) == ("copy", 64 * 5, 64 * 5)


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
    monkeypatch.setattr(choosing, "PLANS", Plans(3))
    made = []
    monkeypatch.setattr(planned, "choose", lambda *_: made.append(None))
    for _ in range(2):  # another operator of the same structure
        A = lo.dense(4, 4) @ lo.dense(4, 4)
        for _ in range(2):
            A.cost(5), A.cost(6)
    assert len(made) == 1  # 5 and 6 are of one class
    for size in range(1, 7):
        (lo.dense(4, size) @ lo.dense(size, 4)).cost(5)
    assert len(choosing.PLANS) == 3


def left_first(sizes, batch):
    """MACs of a chain whose matrices are multiplied from the left, and then with the vectors."""
    return sum(sizes[0] * a * b for a, b in itertools.pairwise(sizes[1:])) + sizes[0] * sizes[-1] * batch


@pytest.mark.parametrize("count", [13, 14, 20, 40, 1000])
def test_long_chains_know_the_orders_from_both_ends_and_dense(count):
    sizes, batch = [2, *[16] * count], 4096
    _, network = chain(sizes)
    plan = plan_along(network, path(network, cheapest(network, batch, COUNTING, 4), batch, COUNTING, 4))
    assert sum(step.macs for step in plan.steps(batch)) <= left_first(sizes, batch)
    assert lo.freeze(lo.Product(tuple([lo.Dense(lo.spec(8, 8))] * min(count, 40)))).num_params == 64


@pytest.mark.parametrize("warm", [False, True])
def test_layers_follow_tensors_of_other_shapes(warm):
    """As `functional_call` may put in the place of parameters, after the layer's own plan was made."""
    layer = lo.LowRank(lo.spec(4, 512), lo.spec(512, 512)).to_layer(bias=False)
    x = torch.randn(2048, 512, generator=torch.Generator().manual_seed(0))
    if warm:
        layer(x)
        assert layer.structure.operator._plan(2048) is not None
    for rank in (100, 512):
        tensors = {"U": torch.ones(4, rank), "V": torch.full((rank, 512), 0.5)}
        expected = x @ (tensors["U"] @ tensors["V"]).T
        torch.testing.assert_close(torch.func.functional_call(layer, tensors, (x,)), expected, rtol=1e-4, atol=1e-1)
    layer = lo.kron(*[lo.spec(2, 4)] * 3, *[lo.spec(4, 2)] * 3).init(0, "torch").to_layer(bias=False)
    x, swapped = torch.randn(512, 512), {name: torch.randn(leaf.shape[::-1]) for name, leaf in layer.named_parameters()}
    if warm:
        layer(x)
    found = torch.func.functional_call(layer, swapped, (x,))
    torch.testing.assert_close(found, x @ lo.kron(*swapped.values()).to_dense().T, rtol=1e-3, atol=1e-3)


def test_layers_keep_what_is_found_of_their_structure(monkeypatch):
    """After the first forward nothing is looked for again: neither plans, nor where products are cut."""
    for A in (lo.monarch(16, 16), lo.low_rank(16, 16), lo.Permute.random(16) @ lo.btt(16, 16) @ lo.dense(16, 16)):
        layer = A.to_layer()
        layer(torch.ones(3, 16))
        with monkeypatch.context() as patched:
            patched.setattr(Plans, "get", lambda *_: pytest.fail("looked for again"))
            patched.setattr(choosing, "target_for", lambda _: pytest.fail("looked for again"))
            layer(torch.ones(3, 16))
            layer.double().float()
        layer(torch.ones(3, 16))


def test_layers_of_another_dtype_have_plans_of_their_own():
    layer = lo.LowRank(lo.spec(4, 512), lo.spec(512, 512)).to_layer(bias=False)
    layer(torch.ones(2048, 512))
    assert layer.structure.operator._plan(2048) is not None
    layer.bfloat16()
    layer(torch.ones(2048, 512, dtype=torch.bfloat16))
    assert layer.structure.operator._plan(2048) is None


@pytest.mark.parametrize("first", [torch.float32, torch.bfloat16])
def test_loaded_tensors_of_another_dtype_have_plans_of_their_own(first):
    for layer, batch in (
        (lo.LowRank(lo.spec(4, 512), lo.spec(512, 512)).to_layer(bias=False), 2048),
        (lo.toeplitz(64, 64).to_layer(), 64),
    ):
        for dtype in (first, torch.bfloat16, torch.float32):
            layer.load_state_dict({name: value.to(dtype) for name, value in layer.state_dict().items()}, assign=True)
            layer(torch.ones(batch, layer.in_features, dtype=dtype))
            assert (
                (layer.structure.operator._plan(batch) is None)
                == (layer.operator._plan(batch) is None)
                == (dtype is torch.bfloat16)
            )


def test_plans_hold_no_arrays_of_users():
    big = np.ones(10)
    gone = weakref.ref(big)
    A = lo.Function((3, 3), lambda x, big=big: x) @ lo.Dense(np.eye(3)) @ lo.Dense(np.eye(3))
    A @ np.ones((3, 2))
    del A, big
    gc.collect()
    assert gone() is None


def test_structures_that_differ_have_plans_of_their_own():
    factors = [lo.Dense(np.random.default_rng(place).standard_normal((2, 2))) for place in range(8)]
    for first in (lo.Permute.axes((), ()), lo.Permute([2, 0, 1]), lo.Permute([1, 0])):
        A = lo.Kronecker(first, *factors)
        x = np.random.default_rng(9).standard_normal((A.shape[1], 512))
        with natural_order():
            expected = A @ x
        np.testing.assert_allclose(A @ x, expected, rtol=1e-10, atol=1e-10)


def test_plans_of_many_threads():
    kept, failures = Plans(4), []

    def work(seed):
        for key in np.random.default_rng(seed).integers(0, 12, 3000).tolist():
            if kept.get(key, lambda key=key: key) != key:
                failures.append(key)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(kept) <= 4


def test_sizes_that_are_symbols_keep_the_natural_order():
    rank, batch = jax.export.symbolic_shape("r, b")
    kinds = [jax.ShapeDtypeStruct(shape, np.float32) for shape in ((20, rank), (rank, 20), (20, batch))]
    exported = jax.export.export(jax.jit(lambda u, v, x: lo.LowRank(u, v) @ x))(*kinds)
    u, v, x = (
        np.random.default_rng(0).standard_normal(shape).astype(np.float32) for shape in ((20, 3), (3, 20), (20, 40))
    )
    np.testing.assert_allclose(exported.call(u, v, x), u @ v @ x, rtol=1e-4, atol=1e-4)
    sparse = lo.Sparse(scipy.sparse.eye_array(5, dtype=np.float32)).to(backend="jax")
    exported = jax.export.export(jax.jit(lambda x: sparse @ x))(jax.ShapeDtypeStruct((5, batch), np.float32))
    np.testing.assert_array_equal(exported.call(np.ones((5, 20), np.float32)), np.ones((5, 20)))


def test_blocks_of_no_numbers():
    A = lo.BlockDiag(np.zeros((0, 2, 3))) @ lo.Permute.axes((3, 0), (1, 0)) @ lo.BlockDiag(np.zeros((0, 2, 2)))
    assert (A @ np.zeros((0, 5))).shape == (0, 5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_floats_keep_the_natural_order(dtype):
    A = lo.Dense(lo.spec(4, 256, dtype=dtype)) @ lo.Dense(lo.spec(256, 256, dtype=dtype))
    assert macs(A, 1024)[0] == macs(A, 1024)[1]


def test_frozen_operators_keep_what_is_known_and_what_does_not_change():
    U = lo.Dense(np.random.default_rng(0).standard_normal((8, 3)))
    assert (U @ U.T).is_positive_semidefinite
    assert lo.freeze(U @ U.T, 1000).is_positive_semidefinite
    A = lo.monarch(1024, 1024) @ lo.Permute.random(1024) @ lo.Product((lo.Dense(lo.spec(1024, 1024)),) * 2)
    frozen = lo.freeze(A, 512)
    assert [name for name, _ in frozen.named_leaves()] == ["factors_1_blocks", "factors_3_blocks", "factors_5_matrix"]
    many = lo.Product(
        (lo.LowRank(np.ones((512, 4)), np.eye(4)), *[lo.Dense(np.eye(4))] * 75, lo.Dense(np.ones((4, 512))))
    )
    np.testing.assert_allclose(lo.freeze(many, 4000) @ np.ones(512), np.full(512, 2048.0))
    assert lo.freeze(lo.Dense(lo.spec(8, 8)) ** 6).num_params == 64


@pytest.mark.parametrize(
    ("operator", "batch", "error", "message"),
    [
        (np.eye(3), 1, TypeError, "expected a linear operator, got ndarray"),
        (lo.dense(3, 3), -1, ValueError, "must not be negative, got -1"),
        (lo.dense(3, 3), 2.5, TypeError, "must be an integer .* got 2.5"),
    ],
)
def test_what_cannot_be_frozen(operator, batch, error, message):
    with pytest.raises(error, match=message):
        lo.freeze(operator, batch)
