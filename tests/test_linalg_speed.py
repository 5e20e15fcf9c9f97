"""The fast ways of `lo.linalg`: what they find is right, and where they end the slow ones run."""

import jax
import numpy as np
import pytest
import scipy.linalg
import torch
from helpers import as_numpy, on

import linops as lo
from linops.backends import factorizations as lapack
from linops.linalg.methods import circulants, levinson, woodbury

RANDOM = [np.random.default_rng(0)]


@pytest.fixture(autouse=True)
def _same_numbers_in_any_order():
    RANDOM[0] = np.random.default_rng(0)


def numbers(*shape, dtype="float64"):
    real = RANDOM[0].standard_normal(shape)
    return real if dtype == "float64" else real + 1j * RANDOM[0].standard_normal(shape)


# ---------------------------------------------------------------- Toeplitz


def decaying(n, dtype, corner=12.0):
    c, r = (numbers(n, dtype=dtype) * share ** np.arange(n) for share in (0.7, 0.5))
    c[0] = corner
    return c, r


@pytest.mark.parametrize("backend", ["numpy", "torch", "jax"])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_toeplitz_by_iteration(backend, dtype, monkeypatch):
    n = circulants.LEAST + 7
    c, r = decaying(n, dtype)
    monkeypatch.setattr(levinson, "_recursed", None)  # the recursion is not needed
    A = lo.Toeplitz(on(backend, c), on(backend, r))
    M = as_numpy(A.to_dense())
    b = numbers(n, 3, dtype=dtype)
    b[:, 1] = 0
    for matrix, inverse in ((M, lo.linalg.inv(A)), (M.T, lo.linalg.inv(A).T), (M.conj().T, lo.linalg.inv(A).H)):
        for _ in range(2):  # the second time by what is kept
            x = as_numpy(inverse @ on(backend, b))
            np.testing.assert_allclose(x, np.linalg.solve(matrix, b), atol=1e-12)
            assert not x[:, 1].any()
    np.testing.assert_allclose(
        as_numpy(lo.linalg.solve(A, on(backend, b[:, 0]))), np.linalg.solve(M, b[:, 0]), atol=1e-12
    )


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_definite_toeplitz_by_conjugate_gradients(dtype, monkeypatch):
    n = circulants.LEAST
    c = np.exp(-np.arange(n) / 20) * (np.exp(1j * np.arange(n) / 9) if dtype == "complex128" else 1)
    c[0] += 0.1
    monkeypatch.setattr(circulants, "_minimal_residuals", None)
    monkeypatch.setattr(levinson, "_recursed", None)
    A = lo.assume(lo.Toeplitz(c, c.conj()), lo.Tag.POSITIVE_DEFINITE)
    b = numbers(n, 2, dtype=dtype)
    np.testing.assert_allclose(lo.linalg.solve(A, b), np.linalg.solve(A.to_dense(), b), rtol=0, atol=1e-10)


def test_toeplitz_where_iteration_ends():
    n = circulants.LEAST
    random = lo.Toeplitz(numbers(n), numbers(n))  # its spectrum is spread: no circulant is near
    pair = random.c, np.concatenate([random.c[:1], random.r[1:]])
    b = numbers(n, 1)
    assert circulants.iterated(circulants.spectra(*pair, False), b) is None
    np.testing.assert_allclose(lo.linalg.solve(random, b), np.linalg.solve(random.to_dense(), b), rtol=1e-7)
    c = np.zeros(n)
    c[1] = 1  # a zero on the diagonal, which ends the recursion, and a circulant of ones
    A = lo.Toeplitz(c, c)
    M = A.to_dense()
    assert np.linalg.cond(M) < 1e4
    np.testing.assert_allclose(lo.linalg.solve(A, b), np.linalg.solve(M, b), rtol=1e-9, atol=1e-9)
    ill = np.exp(-((np.arange(n) / 9.0) ** 2))  # of condition 1e17
    ill[0] += 1e-9
    A = lo.assume(lo.Toeplitz(ill, ill), lo.Tag.POSITIVE_DEFINITE)
    x = lo.linalg.solve(A, b)
    assert np.linalg.norm(A @ x - b) <= 1e-9 * (np.linalg.norm(x) * ill.sum() * 2 + np.linalg.norm(b))


def test_short_toeplitz_by_the_recursion(monkeypatch):
    monkeypatch.setattr(levinson, "iterated", None)
    c = decaying(16, "float64")[0]
    np.testing.assert_allclose(
        lo.linalg.solve(lo.Toeplitz(c, c), np.ones(16)), scipy.linalg.solve_toeplitz(c, np.ones(16))
    )


def test_gradients_of_toeplitz_by_iteration():
    n = circulants.LEAST
    c, r = (torch.tensor(one, requires_grad=True) for one in decaying(n, "float64"))
    b = torch.tensor(numbers(n), requires_grad=True)
    weights = torch.tensor(numbers(n))
    found = torch.autograd.grad(lo.linalg.solve(lo.Toeplitz(c, r), b) @ weights, (c, r, b))
    M = lo.Toeplitz(c, r).to_dense()
    expected = torch.autograd.grad(torch.linalg.solve(M, b) @ weights, (c, r, b))
    for one, other in zip(found, expected):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)
    cj, rj, bj, wj = (on("jax", one.detach().numpy()) for one in (c, r, b, weights))

    @jax.jit
    def value(c, r, b):
        return lo.linalg.solve(lo.Toeplitz(c, r), b) @ wj

    for one, other in zip(jax.grad(value, (0, 1, 2))(cj, rj, bj), expected):
        np.testing.assert_allclose(one, other.detach(), rtol=0, atol=1e-10)


def test_small_symmetric_toeplitz_in_compiled_jax():
    c = on("jax", np.array([2.0, 1.0, 0.5]))
    A = lo.Toeplitz(c, c)
    x = jax.jit(lambda A, b: lo.linalg.solve(A, b))(A, on("jax", np.ones(3)))
    np.testing.assert_allclose(x, np.linalg.solve(as_numpy(A.to_dense()), np.ones(3)), atol=1e-14)


# ---------------------------------------------------------------- tridiagonal, diagonal, low rank


@pytest.mark.parametrize("backend", ["numpy", "torch", "jax"])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("n", [1, 2, 3, 20])
def test_tridiagonal_elimination_is_kept(backend, dtype, n):
    diagonals = [numbers(size, dtype=dtype) for size in (n - 1, n, n - 1)]
    A = lo.Tridiagonal(*(on(backend, one) for one in diagonals))
    M, b = as_numpy(A.to_dense()), numbers(n, 2, dtype=dtype)
    inverse = lo.linalg.inv(A)
    for _ in range(2):
        np.testing.assert_allclose(as_numpy(inverse @ on(backend, b)), np.linalg.solve(M, b), rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(as_numpy(inverse.T @ on(backend, b)), np.linalg.solve(M.T, b), rtol=1e-8, atol=1e-8)
    complex_b = b + 1j
    np.testing.assert_allclose(
        as_numpy(inverse @ on(backend, complex_b)), np.linalg.solve(M, complex_b), rtol=1e-8, atol=1e-8
    )


def test_tridiagonal_that_is_kept_has_gradients_and_errors():
    A = lo.Tridiagonal(*(torch.tensor(numbers(size)) for size in (4, 5, 4)))
    inverse = lo.linalg.inv(A)
    _ = inverse @ torch.ones(5, dtype=torch.float64)
    b = torch.ones(5, dtype=torch.float64, requires_grad=True)
    (inverse @ b).sum().backward()
    np.testing.assert_allclose(b.grad, np.linalg.solve(A.to_dense().T, np.ones(5)), rtol=1e-9)
    singular = lo.linalg.inv(lo.Tridiagonal(np.zeros(3), np.array([1.0, 1, 0, 1]), np.zeros(3)))
    with pytest.raises(lo.linalg.SingularError):
        singular @ np.ones(4)


def test_low_rank_updates_are_refined_where_numbers_cancel(monkeypatch):
    n, r = 60, 3
    U, V = numbers(n, r), numbers(r, n)
    easy = lo.LowRank(U / 10, V / 10) + lo.Diagonal(2 + RANDOM[0].random(n))
    hard = lo.LowRank(U * 10, V * 10) + lo.Diagonal(1e-2 * (1 + RANDOM[0].random(n)))
    products = []
    real = woodbury.Updated._once
    monkeypatch.setattr(woodbury.Updated, "_once", lambda *args: products.append(1) or real(*args))
    for A, count in ((easy, 1), (hard, 2)):
        for transposed in (False, True):
            products.clear()
            M = A.to_dense().T if transposed else A.to_dense()
            x = numbers(n)
            inverse = lo.linalg.inv(A).T if transposed else lo.linalg.inv(A)
            found = inverse @ (M @ x)
            assert len(products) == count
            assert np.linalg.norm(M @ found - M @ x) <= 1e-12 * np.linalg.norm(M) * np.linalg.norm(found)


# ---------------------------------------------------------------- little overhead


def test_solve_looks_its_rule_up_once_and_follows_the_numbers(monkeypatch):
    matrix = np.array([[2.0, 1.0], [1.0, 3.0]])
    for A in (lo.Dense(matrix), lo.Kronecker(matrix, matrix), lo.Diagonal(matrix[0]), lo.BlockDiag(matrix[None])):
        b = np.arange(1.0, A.shape[0] + 1)
        np.testing.assert_allclose(A @ lo.linalg.solve(A, b), b)
        assert "_solver" in A.__dict__
        matrix *= 2
        np.testing.assert_allclose(A @ lo.linalg.solve(A, b), b)
        np.testing.assert_allclose(lo.linalg.solve(A, b, lo.linalg.LU()), np.linalg.solve(A.to_dense(), b))
    A = lo.Circulant(np.array([3.0, 1.0, 0.0]))  # whose inverse has numbers of its own
    np.testing.assert_allclose(A @ lo.linalg.solve(A, np.ones(3)), np.ones(3))
    assert "_solver" not in A.__dict__


def test_what_solves_once_says_that_it_is_singular():
    for A in (lo.Dense(np.ones((3, 3))), lo.Diagonal(np.array([1.0, 0.0])), lo.BlockDiag(np.ones((2, 2, 2)))):
        for _ in range(2):
            with pytest.raises(lo.linalg.SingularError):
                lo.linalg.solve(A, np.ones(A.shape[0]))
    tiny = lo.Dense(np.diag([1e-300, 1.0]))
    with np.errstate(all="ignore"):
        assert np.isinf(lo.linalg.solve(tiny, np.array([1e200, 1.0]))[0])  # it overflows, and is not singular


@pytest.mark.full
@pytest.mark.parametrize("backend", ["numpy", "torch", "jax"])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_kronecker_factors_by_their_inverses(backend, dtype):
    factors = [numbers(n, n, dtype=dtype) + 3 * np.eye(n) for n in (3, 4, 5)]
    A = lo.Kronecker(*(on(backend, factor) for factor in factors))
    M, b = as_numpy(A.to_dense()), numbers(60, 2, dtype=dtype)
    inverse = lo.linalg.inv(A)
    for each, matrix in ((inverse, M), (inverse.T, M.T), (inverse.H, M.conj().T)):
        np.testing.assert_allclose(as_numpy(each @ on(backend, b)), np.linalg.solve(matrix, b), atol=1e-10)
        x = as_numpy(each @ on(backend, b[:, 0]))
        np.testing.assert_allclose(x, np.linalg.solve(matrix, b[:, 0]), atol=1e-10)
    np.testing.assert_allclose(
        as_numpy(lo.linalg.solve(A, on(backend, b[:, 0]))), np.linalg.solve(M, b[:, 0]), atol=1e-10
    )


@pytest.mark.parametrize("n", [1, 255, 256, 1003])
def test_products_of_many_numbers(n):
    for x in (numbers(n), -np.abs(numbers(n)), 1e30 * numbers(n), 1e-50 * numbers(n), numbers(n).astype("float32")):
        sign, logarithm = lapack.log_product(x)
        assert sign == np.prod(np.sign(x))
        np.testing.assert_allclose(
            logarithm, np.sum(np.log(np.abs(x.astype("float64")))), rtol=1e-5 if x.itemsize == 4 else 1e-13
        )
    x = numbers(n)
    x[n // 2] = 0
    assert tuple(map(float, lapack.log_product(x))) == (0, -np.inf)
    phase, _ = lapack.log_product(numbers(n, dtype="complex128"))
    assert abs(phase) == pytest.approx(1)
