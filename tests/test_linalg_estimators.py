"""Estimates of traces and log-determinants: unbiased, the same for a seed on every backend, differentiable."""

import jax
import numpy as np
import pytest
import torch
from helpers import as_numpy, on
from jax.test_util import check_grads
from torch.autograd import gradcheck, gradgradcheck

import linops as lo

BACKENDS = ["numpy", "torch", "jax"]
TRACES = [lo.linalg.Hutchinson, lo.linalg.HutchPP, lo.linalg.XTrace]


def matrix(n, dtype="float64", decay=0.6, seed=0):
    """A Hermitian positive definite matrix whose eigenvalues decay."""
    random = np.random.default_rng(seed)
    G = random.standard_normal((n, n)) + (1j * random.standard_normal((n, n)) if dtype == "complex128" else 0)
    Q, _ = np.linalg.qr(G)
    return (Q * (decay ** np.arange(n) + 0.01)) @ Q.conj().T


def definite(array):
    return lo.assume(lo.Dense(array), lo.Tag.POSITIVE_DEFINITE)


def plain(x):
    return np.asarray(x) if isinstance(x, (np.generic, np.ndarray)) else as_numpy(x)


def shown(estimates, expected):
    """Assert that the mean of estimates is the expected number, within four standard errors."""
    estimates = np.asarray(estimates)
    error = estimates.std(ddof=1) / np.sqrt(len(estimates))
    assert abs(estimates.mean() - expected) <= 4 * error + 1e-12, (estimates.mean(), expected, error)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("kind", TRACES)
def test_estimates_of_traces_are_unbiased(kind, dtype):
    random = np.random.default_rng(1)
    skew = random.standard_normal((12, 12)) + (1j * random.standard_normal((12, 12)) if dtype == "complex128" else 0)
    for M in (matrix(12, dtype, 0.9), skew):
        estimates, errors = [], []
        for seed in range(200):
            found, info = lo.linalg.trace(M, kind(8, seed), return_info=True)
            estimates.append(found)
            errors.append(info.standard_error)
        shown(np.real(estimates), np.trace(M).real)
        shown(np.imag(estimates), np.trace(M).imag)
        assert info.products == 8
        # what it says of its error is about what it is
        assert 0.4 < np.sqrt(np.mean(np.square(errors))) / np.std(estimates) < 2.5


@pytest.mark.full
@pytest.mark.parametrize(
    ("backend", "dtype"),
    [(b, d) for b in BACKENDS for d in ("float64", "complex128") if (b, d) != ("jax", "float64")],
)
def test_a_seed_gives_the_same_numbers_everywhere(backend, dtype):
    M = matrix(15, dtype)
    for kind in TRACES:
        expected = lo.linalg.trace(M, kind(9, 3))
        np.testing.assert_allclose(plain(lo.linalg.trace(on(backend, M), kind(9, 3))), expected, rtol=1e-10)
        assert expected != lo.linalg.trace(M, kind(9, 4))
    method = lo.linalg.SLQ(4, 5, seed=2)
    expected = lo.linalg.logdet(definite(M), method)
    np.testing.assert_allclose(plain(lo.linalg.logdet(definite(on(backend, M)), method)), expected, rtol=1e-9)


def test_low_ranks_are_exact():
    random = np.random.default_rng(0)
    A = lo.LowRank(random.standard_normal((40, 3)), random.standard_normal((3, 40)))
    exact = lo.linalg.trace(A)
    for method in (lo.linalg.HutchPP(12, 0), lo.linalg.XTrace(10, 0)):
        np.testing.assert_allclose(lo.linalg.trace(A, method), exact, rtol=1e-10)
    assert abs(lo.linalg.trace(A, lo.linalg.Hutchinson(12, 0)) - exact) > 1e-3
    np.testing.assert_allclose(lo.linalg.trace(matrix(5), lo.linalg.XTrace(40, 0)), np.trace(matrix(5)), rtol=1e-10)
    np.testing.assert_allclose(lo.linalg.trace(matrix(5), lo.linalg.HutchPP(40, 0)), np.trace(matrix(5)), rtol=1e-10)
    assert lo.linalg.trace(lo.Zero(5, 5), lo.linalg.XTrace(6, 0)) == 0


def test_products_alone_are_asked_for():
    calls = []

    def product(x):
        calls.append(x.shape)
        return 2 * x

    A = lo.Function((1000, 1000), product, product, vectorized=True)
    assert lo.linalg.trace(A, lo.linalg.Hutchinson(5, 0)) == 2000
    assert calls == [(1000, 5)]


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_log_determinants(dtype):
    M = matrix(30, dtype, 0.9)
    exact = np.linalg.slogdet(M)[1]
    estimates, errors = [], []
    for seed in range(60):
        found, info = lo.linalg.logdet(definite(M), lo.linalg.SLQ(25, 4, seed), return_info=True)
        estimates.append(found)
        errors.append(info.standard_error)
    shown(estimates, exact)
    assert np.isrealobj(found)
    assert 0.5 < np.sqrt(np.mean(np.square(errors))) / np.std(estimates) < 2
    assert lo.linalg.logdet(definite(M)) == pytest.approx(exact)  # exact without a method
    few = lo.assume(lo.Diagonal(np.repeat([1.0, 2.0], 10)), lo.Tag.POSITIVE_DEFINITE)
    np.testing.assert_allclose(lo.linalg.logdet(few, lo.linalg.SLQ(8, 3, 0)), 10 * np.log(2), rtol=1e-12)
    two = lo.assume(2 * lo.Identity(6), lo.Tag.POSITIVE_DEFINITE)
    np.testing.assert_allclose(lo.linalg.logdet(two, lo.linalg.SLQ(4, 2, 0)), 6 * np.log(2), rtol=1e-12)


@pytest.mark.parametrize("backend", ["numpy", "torch", pytest.param("jax", marks=pytest.mark.full)])
@pytest.mark.parametrize("dtype", ["float16", "float32", "int64"])
def test_dtypes(backend, dtype):
    M = on(backend, np.diag([1, 2, 3, 4]).astype(dtype))
    assert float(lo.linalg.trace(M, lo.linalg.Hutchinson(3, 0))) == 10
    assert float(lo.linalg.logdet(definite(M), lo.linalg.SLQ(4, 3, 0))) == pytest.approx(
        np.log(24), rel=1e-3 if dtype == "float16" else 1e-5
    )


def test_methods_are_checked():
    A = matrix(4)
    with pytest.raises(TypeError, match=r"linalg\.trace: method .*Hutchinson"):
        lo.linalg.trace(A, lo.linalg.SLQ(3, 3))
    with pytest.raises(TypeError, match=r"linalg\.logdet: method .*SLQ"):
        lo.linalg.logdet(A, lo.linalg.Hutchinson(3))
    with pytest.raises(TypeError, match="no info"):
        lo.linalg.trace(A, return_info=True)
    with pytest.raises(ValueError, match=r"lo\.assume\(A, lo\.Tag\.POSITIVE_DEFINITE\)"):
        lo.linalg.logdet(A, lo.linalg.SLQ(3, 3))
    with pytest.raises(ValueError, match="not positive definite"):
        lo.linalg.logdet(definite(np.diag([1.0, -1.0])), lo.linalg.SLQ(2, 3))
    for make in (
        lambda: lo.linalg.Hutchinson(0),
        lambda: lo.linalg.HutchPP(2),
        lambda: lo.linalg.XTrace(3),
        lambda: lo.linalg.SLQ(0, 1),
        lambda: lo.linalg.SLQ(1, 2.5),
    ):
        with pytest.raises(ValueError, match="must be an integer of at least"):
            make()
    with pytest.raises(TypeError, match="seed must be an integer"):
        lo.linalg.Hutchinson(3, None)


# ---------------------------------------------------------------- derivatives


def _weights(n, seed=5):
    return np.random.default_rng(seed).standard_normal((n, n))


def estimated(kind, samples, seed):
    if kind is lo.linalg.SLQ:
        return lambda M: lo.linalg.logdet(definite(M), kind(M.shape[-1], samples, seed))
    return lambda M: lo.linalg.trace(lo.Dense(M) @ lo.Dense(M), kind(samples, seed))


@pytest.mark.parametrize("kind", [*TRACES, lo.linalg.SLQ])
def test_derivatives_are_unbiased(kind):
    """Along a direction, the mean of the derivatives is that of the exact function; in torch, the second one too."""
    M = matrix(6, "float64", 0.8) + 0.2 * np.eye(6)
    D = _weights(6) + _weights(6).T
    if kind is lo.linalg.SLQ:
        inverse = np.linalg.inv(M)
        first, second = np.trace(inverse @ D), -np.trace(inverse @ D @ inverse @ D)
    else:
        first, second = 2 * np.trace(M @ D), 2 * np.trace(D @ D)
    found = []
    for seed in range(60):
        t = torch.zeros((), dtype=torch.float64, requires_grad=True)
        y = estimated(kind, 6, seed)(torch.tensor(M) + t * torch.tensor(D))
        (one,) = torch.autograd.grad(y, t, create_graph=True)
        (two,) = torch.autograd.grad(one, t)
        found.append((float(one.detach()), float(two)))
    firsts, seconds = np.transpose(found)
    shown(firsts, first)
    if kind in (lo.linalg.Hutchinson, lo.linalg.SLQ):
        shown(seconds, second)


def test_derivatives_of_hutchinson_are_those_of_the_estimate():
    M = torch.tensor(_weights(5), requires_grad=True)
    assert gradcheck(estimated(lo.linalg.Hutchinson, 4, 0), [M])
    assert gradgradcheck(estimated(lo.linalg.Hutchinson, 4, 0), [M])


@pytest.mark.full
def test_derivatives_of_hutchinson_in_jax():
    check_grads(estimated(lo.linalg.Hutchinson, 4, 0), [on("jax", _weights(5))], 2)


@pytest.mark.full
@pytest.mark.parametrize("kind", [*TRACES, lo.linalg.SLQ])
def test_derivatives_agree_in_jax_and_torch(kind):
    M = matrix(4, "float64", 0.8) + 0.2 * np.eye(4)
    function = estimated(kind, 6, 1)
    tensor = torch.tensor(M, requires_grad=True)
    function(tensor).backward()
    array = on("jax", M)
    value, gradient = jax.jit(jax.value_and_grad(function))(array)
    np.testing.assert_allclose(plain(value), plain(function(tensor)), rtol=1e-9)
    np.testing.assert_allclose(plain(gradient), tensor.grad.numpy(), atol=1e-8)
    many = jax.vmap(function)(jax.numpy.stack([array, 2 * array]))
    np.testing.assert_allclose(plain(many)[0], plain(value), rtol=1e-9)
    many = torch.func.vmap(function)(torch.stack([torch.tensor(M), 2 * torch.tensor(M)]))
    np.testing.assert_allclose(plain(many)[0], plain(value), rtol=1e-9)
