"""Cholesky and LU factors of tridiagonal operators keep few diagonals."""

import time

import jax
import numpy as np
import pytest
import scipy.linalg
import torch
from helpers import as_numpy, on
from jax.test_util import check_grads
from torch.autograd import gradcheck, gradgradcheck

import linops as lo

BACKENDS = ("numpy", "torch", "jax")
#: JAX compiles for seconds: with the rest
SLOW = ("numpy", "torch", pytest.param("jax", marks=pytest.mark.full))
SIZES = (0, 1, 2, 3, 4, 9)
DTYPES = ("float32", "float64", "complex64", "complex128")


def numbers(n, dtype="float64", seed=0):
    random = np.random.default_rng(seed)
    real = random.standard_normal(max(n, 0))
    return (real + 1j * random.standard_normal(real.shape) if "complex" in dtype else real).astype(dtype)


def made(backend, lower, diag, upper):
    return lo.Tridiagonal(*(on(backend, one) for one in (lower, diag, upper)))


def dense(A):
    return as_numpy(A.to_dense())


@pytest.mark.parametrize("backend", SLOW)
@pytest.mark.parametrize("dtype", DTYPES)
def test_cholesky(backend, dtype):
    for n in SIZES:
        beside, diag = numbers(n - 1, dtype), (5 + numbers(n) ** 2).astype(dtype)
        A = made(backend, beside, diag, beside.conj())
        tagged = lo.assume(A, lo.Tag.POSITIVE_DEFINITE)
        for one in (A, tagged):
            L = lo.linalg.cholesky(one)
            assert isinstance(L, lo.Tridiagonal)
            assert L.dtype == A.dtype
            assert n == 0 or lo.Tag.LOWER_TRIANGULAR in L.tags.yes
            expected = np.linalg.cholesky(dense(A)) if n else np.zeros((0, 0))
            np.testing.assert_allclose(dense(L), expected, atol=100 * np.finfo(dtype).eps)


@pytest.mark.parametrize("backend", SLOW)
@pytest.mark.parametrize("dtype", DTYPES)
def test_lu(backend, dtype):
    for n in SIZES:
        A = made(backend, numbers(n - 1, dtype, 1), numbers(n, dtype, 2), numbers(n - 1, dtype, 3))
        P, L, U = lo.linalg.lu(A)
        assert n < 3 or (type(L), type(U)) == (lo.Sparse, lo.Sparse)
        assert L.dtype in (None, A.dtype)
        p, low, up = scipy.linalg.lu(dense(A)) if n else 3 * [np.zeros((0, 0))]
        for one, expected in ((P, p), (L, low), (U, up)):
            np.testing.assert_allclose(dense(one), expected, atol=1000 * np.finfo(dtype).eps)
        if n > 2:
            b = on(backend, numbers(n, dtype))
            x = lo.linalg.solve(U, lo.linalg.solve(L, P.T @ b))
            np.testing.assert_allclose(dense(A) @ as_numpy(x), as_numpy(b), atol=2e4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("backend", SLOW)
def test_singular_ones(backend):
    for diagonals in (
        (np.zeros(3), np.array([1.0, 0, 0, 2]), np.zeros(3)),
        (np.ones(3), np.zeros(4), np.ones(3)),
        (np.array([1.0, 0, 2]), np.array([1.0, 1, 0, 3]), np.ones(3)),
    ):
        A = made(backend, *diagonals)
        P, L, U = map(dense, lo.linalg.lu(A))
        np.testing.assert_allclose(P @ L @ U, dense(A), atol=1e-14)


@pytest.mark.parametrize("backend", SLOW)
def test_what_is_not_positive_definite(backend):
    for beside, diag in (
        (np.ones(2), np.array([1.0, 1, 5])),  # a pivot is zero
        (np.ones(2), np.array([1.0, 0.5, 5])),
        (np.ones(2), np.array([1.0, 3, -1])),
        (np.zeros(0), np.zeros(1)),
        (np.ones(1), np.zeros(2)),
    ):
        A = made(backend, beside, diag, beside)
        with pytest.raises(lo.linalg.SingularError, match="not positive definite"):
            lo.linalg.cholesky(lo.assume(A, lo.Tag.HERMITIAN))
    with pytest.raises(ValueError, match="not Hermitian"):
        lo.linalg.cholesky(made(backend, np.ones(2), np.full(3, 5.0), -np.ones(2)))
    with pytest.raises(ValueError, match="not Hermitian"):
        lo.linalg.cholesky(made(backend, 1j * np.ones(2), np.full(3, 5.0 + 0j), 1j * np.ones(2)))
    if backend == "jax":
        L = jax.jit(lambda d: lo.linalg.cholesky(lo.Tridiagonal(0 * d[1:] + 1, d, 0 * d[1:] + 1)).to_dense())
        assert np.isnan(np.diagonal(L(on("jax", np.array([1.0, 3, -1]))))).all()


def factor(beside, diag):
    """An array of what is not zero of L, for a diagonal above a bound."""
    L = lo.linalg.cholesky(lo.Tridiagonal(beside, diag + 5 + 0 * diag * beside[0], beside.conj()))
    x = L.lower * L.diag[1:]
    return x.real + (2 * x.imag if "complex" in str(x.dtype) else 0)


@pytest.mark.full
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("n", [2, 6, 9])
def test_derivatives_of_cholesky_in_torch(dtype, n):
    beside = torch.tensor(numbers(n - 1, dtype) / 2)
    beside[n // 2 :] = 0
    leaves = [beside.requires_grad_(), torch.tensor(numbers(n)).requires_grad_()]
    assert gradcheck(factor, leaves)
    assert gradgradcheck(factor, leaves)
    assert gradcheck(factor, leaves, check_forward_ad=True, check_backward_ad=False)
    many = torch.func.vmap(factor)(*[torch.stack([leaf, leaf / 2]) for leaf in leaves])
    torch.testing.assert_close(many[1], factor(*[leaf / 2 for leaf in leaves]))


@pytest.mark.full
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_derivatives_of_cholesky_in_jax(dtype):
    leaves = [on("jax", numbers(3, dtype) / 2), on("jax", numbers(4))]
    check_grads(jax.jit(factor), leaves, 2)
    many = jax.vmap(factor)(*[jax.numpy.stack([leaf, leaf / 2]) for leaf in leaves])
    np.testing.assert_allclose(many[1], factor(*[leaf / 2 for leaf in leaves]), atol=1e-13)


def test_the_gradient_is_that_of_the_dense_factor():
    diagonals = [torch.tensor(x, requires_grad=True) for x in (numbers(4), 6 + numbers(5), numbers(4))]
    found = []
    for make in (lambda A: A, lambda A: A.to_dense()):
        A = lo.Tridiagonal(*diagonals)
        L = lo.linalg.cholesky(make(lo.assume(A, lo.Tag.HERMITIAN))).to_dense()
        found.append(torch.autograd.grad((L * L.cos()).sum(), diagonals))
    for one, other in zip(*found):
        torch.testing.assert_close(one, other)


@pytest.mark.full
def test_compiled_by_torch():
    leaves = [torch.tensor(numbers(6) / 2), torch.tensor(numbers(7))]
    torch.testing.assert_close(torch.compile(factor, backend="eager")(*leaves), factor(*leaves))


def test_lu_has_derivatives_where_it_is_written_out():
    diagonals = [torch.tensor(numbers(size, seed=size), requires_grad=True) for size in (4, 5, 4)]

    def product(*diagonals):
        _, L, U = lo.linalg.lu(lo.Tridiagonal(*diagonals))
        return L.to_dense() + U.to_dense()

    assert gradcheck(product, diagonals)
    constants = [one.detach() for one in diagonals]
    torch.testing.assert_close(product(*diagonals).detach(), product(*constants))
    n = 10_000
    large = lo.Tridiagonal(torch.ones(n - 1), torch.ones(n, requires_grad=True), torch.ones(n - 1))
    for name in ("lu", "qr"):
        with pytest.raises(ValueError, match=r"no matrix of more than .*lo\.linalg\.solve and lstsq need no factors"):
            getattr(lo.linalg, name)(large)


@pytest.mark.parametrize("backend", SLOW)
def test_a_million_unknowns(backend):
    n = 10**6
    A = made(backend, -np.ones(n - 1), 2 * np.ones(n), -np.ones(n - 1))
    ones = on(backend, np.ones((n, 1)))
    places = np.arange(1, n + 1)
    L = lo.linalg.cholesky(A)
    np.testing.assert_allclose(as_numpy(L.diag), np.sqrt((places + 1) / places), rtol=1e-11)
    P, low, up = lo.linalg.lu(A)
    np.testing.assert_allclose(as_numpy(P @ (low @ (up @ ones)) - A @ ones), 0, atol=1e-12)
    if backend == "numpy":
        for name, limit in (("cholesky", 1.0), ("lu", 3.0)):
            start = time.perf_counter()
            getattr(lo.linalg, name)(A)
            assert time.perf_counter() - start < limit
