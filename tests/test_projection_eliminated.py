"""Low rank plus terms of fixed places: random members come back, where alternating over terms crawls or stops."""

import warnings

import jax
import numpy as np
import pytest
import torch

import linops as lo
from linops.projection import structures, vanishing
from linops.projection.goal import Goal, adjoint
from linops.projection.nets import net_of

MADE = {"numpy": np.asarray, "torch": torch.tensor, "jax": jax.numpy.asarray}
#: (m, n, rank, kept), seed: of most of these alternating over terms alone ends at errors of some percent
STUCK = (((24, 16, 4, 1), 3), ((16, 16, 2, 2), 2))
SIZES = (24, 16), (16, 16), (32, 32), (64, 64)
RANKS = (1, 1), (2, 1), (4, 1), (2, 2), (4, 2)  # and how many of four are kept


def semi(m, n, rank, kept):
    return lo.low_rank_semi_structured(m, n, rank=rank, kept=kept, allow_dearer=True)


def sparse(m, n, rank, density):
    return lo.low_rank_sparse(m, n, rank=rank, density=density)


def planted(target, seed=0, dtype="float64"):
    return np.asarray(target.init(seed=seed, backend="numpy", dtype=dtype).to_dense())


def is_determined(target, rank):
    """Whether there are more entries outside the sparse term than a matrix of low rank has degrees of freedom."""
    (m, n), values = target.shape, target.terms[1].values
    return m * n - values.shape[0] > rank * (m + n - rank)


def comes_back(target, seed=0, backend="numpy", dtype="float64", limit=1e-6, **norm):
    W = planted(target, seed, dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        A, info = lo.project(MADE[backend](W), target, return_info=True, **norm)
    found = np.asarray(A.to_dense())
    assert A.backend == backend
    assert found.dtype == W.dtype
    assert np.linalg.norm(W - found) <= limit * np.linalg.norm(W)
    assert info.weight_error <= limit
    assert info.converged
    return info


@pytest.mark.parametrize(("size", "seed"), STUCK)
def test_random_members_come_back(size, seed):
    target = semi(*size)
    assert is_determined(target, size[2])
    info = comes_back(target, seed)
    assert info.method == vanishing.METHOD
    assert info.iterations > 100


def test_those_of_low_rank_plus_sparse_too():
    comes_back(sparse(16, 12, 2, 0.2), backend="torch", max_iterations=20)
    comes_back(sparse(12, 16, 2, 0.3), dtype="complex128", max_iterations=20)


def test_single_precision_comes_back_as_far_as_it_goes():
    comes_back(semi(16, 12, 2, 1), 0, "torch", "float32", limit=1e-5, max_iterations=20)


def test_with_weights_of_rows_and_columns():
    weights = {"row_weights": np.linspace(1, 2, 16), "column_weights": np.linspace(1, 3, 12)}
    comes_back(semi(16, 12, 2, 1), max_iterations=20, **weights)


def test_diagonals_bands_and_several_patterns_are_eliminated_too():
    n, low = 12, lo.LowRank(lo.spec(12, 2), lo.spec(2, 12))
    band = lo.Tridiagonal(lo.spec(n - 1), lo.spec(n), lo.spec(n - 1))
    for target in (low + band, lo.Diagonal(lo.spec(n)) + low, lo.block_diag(n, n, blocks=4) + low + band):
        comes_back(target, max_iterations=20)


#: family, (m, n), rank, and the option that says where its term has numbers; how many seeds
SWEEP = (
    *[(semi, size, *options, 4) for size in SIZES for options in RANKS],
    *[(sparse, size, *options, 3) for size in SIZES[:3] for options in ((2, 0.1), (4, 0.2), (2, 0.3))],
)


@pytest.mark.full
@pytest.mark.parametrize(("family", "size", "rank", "option", "seeds"), SWEEP)
def test_sweep_of_random_members(family, size, rank, option, seeds):
    target = family(*size, rank, option)
    assert is_determined(target, rank)
    for seed in range(seeds):
        comes_back(target, seed)


@pytest.mark.full
def test_in_jax():
    comes_back(semi(*STUCK[1][0]), STUCK[1][1], "jax", "float32", limit=1e-5)


@pytest.mark.parametrize("noise", [pytest.param(1e-2, marks=pytest.mark.full), 1.0])
def test_what_is_no_member_comes_no_less_near(monkeypatch, noise):
    target, rng = semi(16, 12, 2, 2), np.random.default_rng(0)
    W = planted(target)
    W = W + noise * np.linalg.norm(W) / W.size**0.5 * rng.standard_normal(W.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, after = lo.project(W, target, return_info=True)
        monkeypatch.setattr(structures, "eliminated", lambda *given: None)
        _, before = lo.project(W, target, return_info=True)
    assert after.weight_error <= before.weight_error


def test_a_full_second_moment_is_left_to_alternating_terms():
    n = STUCK[1][0][1]
    Q = np.linalg.qr(np.random.default_rng(0).standard_normal((n, n)))[0]
    C = (Q * np.linspace(1, 0.1, n)) @ Q.T
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        target = semi(*STUCK[1][0])
        _, info = lo.project(planted(target), target, second_moment=C, return_info=True, max_iterations=8)
    assert info.method == "alternating terms"


@pytest.mark.parametrize("most", [0, 5, 20])
def test_iterations_are_no_more_than_allowed(most):
    target = semi(*STUCK[1][0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, info = lo.project(planted(target, 2), target, max_iterations=most, return_info=True)
    assert (info.method == vanishing.METHOD) == (most > 5)
    if not most:
        assert not info.converged


@pytest.mark.parametrize("has_weights", [False, True])
@pytest.mark.parametrize("family", ["low_rank:rank=2", "blast:blocks=2:rank=2", "block_diag:blocks=2", "btt:cores=3"])
def test_the_normal_matrix_is_that_of_the_derivatives(family, has_weights):
    rng, target = np.random.default_rng(2), lo.families.text.parse(family)(8, 12)
    m, n = target.shape
    weights = (np.linspace(1, 2, m), np.linspace(1, 3, n)) if has_weights else (None, None)
    net = net_of(target)
    W = rng.standard_normal((m, n)) + 1j * rng.standard_normal((m, n))
    goal = Goal(lo.Dense(W), *weights, rng.integers(0, 2, (m, n)).astype(float))
    drawn = target.init(seed=0, backend="numpy", dtype="complex128")
    leaves = [net.tensor(k, leaf) for k, (_, leaf) in enumerate(drawn.named_leaves())]
    path = vanishing._Path(net, goal)
    columns = [
        net.written([unit.reshape(leaf.shape) if j == k else other for j, other in enumerate(leaves)])
        for k, leaf in enumerate(leaves)
        for unit in np.eye(leaf.size)
    ]
    J = np.stack([column.ravel() for column in columns], 1)
    weighted = np.stack([goal.weighted(column).ravel() for column in columns], 1)
    x = np.concatenate([leaf.ravel() for leaf in leaves])
    square, gradient, normal = path._at(x, 0.0)
    E = W - net.written(leaves)
    assert np.allclose(normal, adjoint(J) @ weighted)
    assert np.allclose(gradient, adjoint(J) @ goal.weighted(E).ravel())
    assert np.isclose(square, float(goal.square(E)))


def test_turned_and_constant_goals_keep_weights_of_entries():
    rng = np.random.default_rng(3)
    W, entries = rng.standard_normal((4, 6)), rng.integers(0, 2, (4, 6)).astype(float)
    goal = Goal(lo.Dense(W), None, None, entries)
    assert not goal.is_plain
    assert goal.plain().is_plain
    assert np.isclose(goal.T.norm, goal.norm)
    assert np.isclose(goal.constant().norm ** 2, np.sum(entries * W**2))
