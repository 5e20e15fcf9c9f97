"""init: structure-aware scale, the same numbers everywhere."""

import numpy as np
import pytest
from helpers import BACKENDS, as_numpy, leaves

import linops as lo

EXPRESSIONS = {
    "dense": lambda: lo.dense(300, 200),
    "low_rank": lambda: lo.low_rank(300, 200, rank=20),
    "monarch": lambda: lo.monarch(300, 200),
    "btt": lambda: lo.btt(300, 200, rank=2),
    "btt3": lambda: lo.btt(343, 216, rank=2, cores=3),
    "train": lambda: lo.tensor_train(400, 900, rank=8),
    "kronecker": lambda: lo.kronecker(2500, 3600),
    "nest": lambda: (
        lo.Dense(lo.spec(60, 50)) @ lo.kron(lo.spec(10, 20), lo.spec(5, 4))
        + 3 * lo.LowRank(lo.spec(60, 9), lo.spec(9, 80))
    ),
}


@pytest.mark.parametrize("name", EXPRESSIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
def test_same_seed_same_numbers_on_every_backend(name, dtype):
    operator = EXPRESSIONS[name]()
    drawn = {backend: operator.init(seed=3, backend=backend, dtype=dtype) for backend in BACKENDS}
    for backend in BACKENDS:
        assert drawn[backend].backend == backend
        for ours, theirs in zip(leaves(drawn["numpy"]), leaves(drawn[backend])):
            assert np.array_equal(ours, as_numpy(theirs))
            assert as_numpy(theirs).dtype == dtype
    again = operator.init(seed=3, dtype=dtype)
    other = operator.init(seed=4, dtype=dtype)
    for ours, same, different in zip(leaves(drawn["numpy"]), leaves(again), leaves(other)):
        assert np.array_equal(ours, same)
        assert not np.array_equal(ours, different)


@pytest.mark.parametrize("name", EXPRESSIONS)
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_std_of_each_leaf_is_that_of_the_formula(name, dtype):
    operator = EXPRESSIONS[name]().init(seed=0, dtype=dtype)
    for leaf, (fan_in, fan_out) in zip(leaves(operator), lo.fans(operator).values()):
        std = np.sqrt(1 / fan_in) * min(1, np.sqrt(fan_out / fan_in))
        assert abs(np.sqrt(np.mean(np.abs(leaf) ** 2)) / std - 1) < 5 / np.sqrt(2 * leaf.size)


def test_leaves_of_one_operator_are_independent():
    operator = lo.BlockDiag([lo.Dense(lo.spec(4, 4)), lo.Dense(lo.spec(4, 4))]).init()
    one, two = leaves(operator)
    assert not np.array_equal(one, two)


def test_gains_start_at_one():
    assert (lo.spec() * lo.dense(3, 3)).init().gain == 1


def test_dtype_and_arrays_are_kept():
    fixed = np.ones((3, 3), np.float32)
    operator = (lo.Dense(fixed) @ lo.Dense(lo.spec(3, 2, dtype="float32"))).init()
    assert leaves(operator)[0] is fixed
    assert operator.dtype == np.float32
    with pytest.raises(TypeError, match=r"numpy leaf of shape \(3, 3\)"):
        (lo.Dense(fixed) @ lo.Dense(lo.spec(3, 2))).init(backend="torch")


def test_generator_as_seed():
    random = np.random.default_rng(0)
    one, two = lo.dense(3, 3).init(seed=random), lo.dense(3, 3).init(seed=random)
    assert np.array_equal(one.matrix, lo.dense(3, 3).init(seed=0).matrix)
    assert not np.array_equal(one.matrix, two.matrix)


def test_spectral_norm_is_the_target():
    for m, n in ((400, 400), (800, 200), (200, 800)):
        norm = np.linalg.norm(lo.dense(m, n).init(dtype="float64").matrix, 2)
        assert 0.8 < norm / np.sqrt(m / n) < 2.5  # a Gaussian matrix: between 1 and 1 + sqrt(…) ≤ 2 times


@pytest.mark.parametrize(("optimizer", "expected"), [("adam", 8 / 3 / 2), ("sgd", (5 / 3) / (10 / 8) / 2)])
def test_multipliers_by_definition(optimizer, expected):
    operator = lo.kron(lo.spec(5, 3), lo.spec(2, 4)) @ lo.Pad(12, 8)
    assert lo.lr_multipliers(operator, optimizer)["factors_0_factors_0_matrix"] == pytest.approx(expected)


def test_scalars_have_multiplier_one():
    operator = lo.spec() * lo.dense(10, 4)
    assert lo.lr_multipliers(operator) == {"base_matrix": 1.0, "gain": 1.0}
    assert list(lo.fans(operator)) == ["base_matrix"]
