"""BLAST of ranks beyond the sides of its blocks: random members come back, by steps on all leaves at once."""

import itertools
import warnings

import jax
import numpy as np
import pytest
import torch

import linops as lo
from linops.projection import vanishing
from linops.projection.effort import Effort
from linops.projection.goal import Goal, adjoint
from linops.projection.nets import net_of

METHOD = "Levenberg and Marquardt's method"
MADE = {"numpy": np.asarray, "torch": torch.tensor, "jax": jax.numpy.asarray}
#: (m, n, blocks, rank): the rank is larger than the smaller side of a block, and a member has fewer numbers than dense
SMALL = ((16, 12, 4, 4), (12, 16, 4, 4), (24, 16, 8, 3))
SWEEP = (
    (16, 16, 4, 5),
    (24, 16, 4, 6),
    (24, 24, 4, 7),
    (24, 24, 6, 5),
    (24, 24, 6, 6),
    (24, 24, 8, 4),
    (32, 32, 4, 9),
    (32, 32, 8, 6),
)


def planted(m, n, blocks, rank, seed=0, dtype="float64"):
    target = lo.blast(m, n, blocks=blocks, rank=rank)
    return target, np.asarray(target.init(seed=seed, backend="numpy", dtype=dtype).to_dense())


def moment(rng, n):
    Q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    return (Q * np.linspace(1, 0.1, n)) @ Q.T


def comes_back(size, seed=0, backend="numpy", dtype="float64", limit=1e-6, **norm):
    target, W = planted(*size, seed=seed, dtype=dtype)
    A, info = lo.project(MADE[backend](W), target, return_info=True, **norm)
    found = np.asarray(A.to_dense())
    assert A.backend == backend
    assert found.dtype == W.dtype
    assert np.linalg.norm(W - found) <= limit * np.linalg.norm(W), size
    assert info.method == METHOD
    assert info.converged
    assert info.iterations > 0


@pytest.mark.parametrize("backend", ["numpy", pytest.param("torch", marks=pytest.mark.full)])
def test_random_members_come_back(backend):
    comes_back(SMALL[2], backend=backend)


@pytest.mark.full
def test_complex_ones_and_those_of_other_sizes_too():
    comes_back(SMALL[1], dtype="complex128")
    comes_back(SWEEP[5])


def test_single_precision_comes_back_as_far_as_it_goes():
    comes_back(SMALL[2], backend="torch", dtype="float32", limit=1e-5)


@pytest.mark.full
@pytest.mark.parametrize("size", SMALL + SWEEP)
def test_sweep_of_random_members(size):
    for seed in range(3):
        comes_back(size, seed)


@pytest.mark.full
@pytest.mark.parametrize("size", SMALL)
def test_in_jax(size):
    comes_back(size, backend="jax")


@pytest.mark.full
def test_in_other_norms():
    m, n, *_ = size = SMALL[2]
    rng = np.random.default_rng(0)
    comes_back(size, second_moment=moment(rng, n))
    comes_back(size, row_weights=np.linspace(1, 2, m), column_weights=np.linspace(1, 3, n))


@pytest.mark.full
def test_in_two_full_metrics():
    m, n, *_ = size = SMALL[2]
    rng = np.random.default_rng(0)
    comes_back(size, second_moment=moment(rng, n), output_metric=moment(rng, m))


@pytest.mark.full
def test_more_iterations_never_raise_the_error():
    target, W = planted(*SMALL[2])
    W = W + 1e-2 * np.linalg.norm(W) / W.size**0.5 * np.random.default_rng(0).standard_normal(W.shape)
    errors = []
    for most in (0, 6, 12, 24):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            errors.append(lo.project(W, target, max_iterations=most, return_info=True)[1].weight_error)
    assert all(b <= a * (1 + 1e-9) for a, b in itertools.pairwise(errors))
    assert errors[-1] < 1e-2  # of the noise a share is taken up by the member


def test_what_is_no_member_pays_nothing():
    target, _ = planted(*SMALL[2])
    W = np.random.default_rng(1).standard_normal(target.shape)
    goal, net = Goal(lo.Dense(W)), net_of(target)
    leaves = [leaf for _, leaf in target.init(seed=0, backend="numpy", dtype="float64").named_leaves()]
    tensors = [net.tensor(k, leaf) for k, leaf in enumerate(leaves)]
    assert vanishing.vanishing(net, goal, tensors, Effort()) is None
    exact = Goal(lo.Dense(net.written(tensors)))
    assert vanishing.vanishing(net, exact, tensors, Effort()) is None
    large = net_of(lo.blast(256, 256, blocks=16, rank=20))
    assert not vanishing.fits(large, goal, Effort())


@pytest.mark.parametrize("metrics", ["none", "weights", "full"])
@pytest.mark.parametrize(
    "family", ["blast:blocks=2:rank=2", "btt:cores=3", "tensor_train:cores=3:allow_dearer=1", "butterfly"]
)
def test_the_normal_matrix_is_that_of_the_derivatives(family, metrics):
    rng, target = np.random.default_rng(2), lo.families.text.parse(family)(8, 16)
    m, n = target.shape
    A, C = {
        "none": (None, None),
        "weights": (np.linspace(1, 2, m), np.linspace(1, 3, n)),
        "full": (moment(rng, m), moment(rng, n)),
    }[metrics]
    net = net_of(target)
    W = rng.standard_normal((m, n)) + 1j * rng.standard_normal((m, n))
    goal = Goal(lo.Dense(W), A, C)
    drawn = target.init(seed=0, backend="numpy", dtype="complex128")
    leaves = [net.tensor(k, leaf) for k, (_, leaf) in enumerate(drawn.named_leaves())]
    path = vanishing._Path(net, goal)
    columns = []
    for k, leaf in enumerate(leaves):  # each leaf enters linearly
        for unit in np.eye(leaf.size):
            columns.append(
                net.written([unit.reshape(leaf.shape) if j == k else other for j, other in enumerate(leaves)])
            )
    J = np.stack([column.ravel() for column in columns], 1)
    weighted = np.stack([goal.weighted(column).ravel() for column in columns], 1)
    x = np.concatenate([leaf.ravel() for leaf in leaves])
    square, gradient, normal = path._at(x, 0.0)
    assert np.allclose(normal, adjoint(J) @ weighted)
    assert np.allclose(gradient, adjoint(J) @ goal.weighted(W - net.written(leaves)).ravel())
    assert np.isclose(square, float(goal.square(W - net.written(leaves))))


@pytest.mark.full
def test_more_iterations_allow_larger_members(monkeypatch):
    monkeypatch.setattr(vanishing, "LIMIT", 300)
    target = lo.blast(24, 24, blocks=4, rank=7, dtype="float64")  # of 448 numbers, whose cube is 3.3 times that of 300
    W = target.init(seed=1).to_dense()
    for iterations, comes_back in ((100, False), (400, True)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _, info = lo.project(W, target, max_iterations=iterations, return_info=True)
        assert (info.weight_error < 1e-10) == comes_back
