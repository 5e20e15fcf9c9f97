"""Few eigenvalues, singular values and norms by iterations, within vmap and torch.compile."""

import jax
import numpy as np
import pytest
import torch
from helpers import as_numpy

import linops as lo
from linops.linalg import Lanczos, RandomizedSVD, inputs

N = 7


def numbers(*shape):
    return np.random.default_rng(0).standard_normal(shape)


def eigenpairs(X):
    w, V = lo.linalg.eigsh(X + X.mT, 2, method=Lanczos())
    P = V.to_dense()
    return (w**3).sum() + (P[:, :1] @ P[:, :1].mT)[0, 1]


def triplets(X):
    U, s, Vh = lo.linalg.svds(X, 2, method=Lanczos())
    return (s**3).sum() + (U.to_dense()[:, :1] @ Vh.to_dense()[:1])[0, 1]


def near_a_shift(X):
    w, V = lo.linalg.eigsh(X + X.mT, 2, sigma=0.3, method=Lanczos())
    return (w**3).sum() + V.to_dense()[0, 0] ** 2


def estimated(X):
    return lo.linalg.svds(X, 2, method=RandomizedSVD())[1].sum()


def norm(v):
    """Of what is too large to be written out, as the tests say."""
    at = np.arange(N)
    return lo.linalg.norm(lo.Sparse(v, np.r_[at, at], np.r_[at, (at + 1) % N], (N, N)), 2)


CASES = {
    "eigsh": (eigenpairs, (6, 6)),
    "eigsh near a shift": (near_a_shift, (5, 5)),
    "svds": (triplets, (6, 4)),
    "svds, estimated": (estimated, (6, 4)),
    "norm": (norm, (2 * N,)),
}
IN_JAX = [pytest.param(name, marks=pytest.mark.full) for name in CASES]


@pytest.fixture(autouse=True)
def nothing_fits(request, monkeypatch):
    if "norm" in request.node.name:
        monkeypatch.setattr(inputs, "DENSE_LIMIT", 0)


def each(function, X):
    """(values, gradients) of one after the other."""
    found = []
    for one in X:
        leaf = torch.tensor(one, requires_grad=True)
        value = function(leaf)
        found.append((float(value.detach()), torch.autograd.grad(value, leaf)[0].numpy()))
    return map(np.array, zip(*found))


@pytest.mark.parametrize("name", CASES)
def test_vmap_in_torch(name):
    function, shape = CASES[name]
    X = numbers(2, *shape)
    values, gradients = each(function, X)
    leaf = torch.tensor(X, requires_grad=True)
    many = torch.func.vmap(function)(leaf)
    np.testing.assert_allclose(many.detach(), values, atol=1e-9)
    np.testing.assert_allclose(torch.autograd.grad(many.sum(), leaf)[0], gradients, atol=1e-9)
    np.testing.assert_allclose(torch.func.vmap(torch.func.grad(function))(leaf.detach()), gradients, atol=1e-9)


@pytest.mark.parametrize("name", IN_JAX)
def test_vmap_in_jax(name):
    function, shape = CASES[name]
    X = numbers(2, *shape)
    values, gradients = each(function, X)
    for found, expected in zip(jax.jit(jax.vmap(jax.value_and_grad(function)))(X), (values, gradients)):
        np.testing.assert_allclose(as_numpy(found), expected, atol=1e-9)


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")  # of torch's own
@pytest.mark.parametrize("name", ["eigsh", "svds", "svds, estimated", "norm"])
def test_compiled_by_torch(name):
    function, shape = CASES[name]
    if name == "norm":  # structure is made before: SciPy sorts it
        made = lo.Sparse(torch.ones(2 * N, dtype=torch.float64), *np.indices((2, N)).reshape(2, -1) % N, (N, N))

        def function(v):
            return lo.linalg.norm(made.with_leaves([v]), 2)

    X = numbers(*shape)
    values, gradients = each(function, [X])
    leaf = torch.tensor(X, requires_grad=True)
    value = torch.compile(function, backend="eager")(leaf)
    np.testing.assert_allclose(value.detach(), values[0], atol=1e-12)
    np.testing.assert_allclose(torch.autograd.grad(value, leaf)[0], gradients[0], atol=1e-12)


def test_what_does_not_converge_is_not_a_number_within_vmap():
    X = numbers(2, 30, 30)
    few = Lanczos(max_iterations=1, basis=4)

    def values(X):
        return lo.linalg.eigsh(X + X.mT, 2, method=few, tol=1e-14)[0]

    with pytest.raises(lo.linalg.ConvergenceError):
        values(torch.tensor(X[0]))
    assert bool(torch.func.vmap(values)(torch.tensor(X)).isnan().any())
