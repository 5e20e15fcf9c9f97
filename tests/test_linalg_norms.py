"""`lo.linalg`: norms, condition numbers, ranks, and triangular factors, against dense NumPy and SciPy."""

import jax
import numpy as np
import pytest
import torch
from conformance import RUNS, marked
from helpers import as_numpy, build, on
from jax.test_util import check_grads
from torch.autograd import gradcheck, gradgradcheck

import linops as lo
from linops.linalg import norms

BACKENDS = ["numpy", "torch", "jax"]
ORDERS = ("fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf)
WIDE = [run for run in RUNS if run[2] != "float32"]
MARKED = marked(WIDE, 6)


def plain(number):
    return np.asarray(number) if isinstance(number, (np.generic, np.ndarray, float)) else as_numpy(number)


def close(actual, expected, tolerance=1e-9):
    expected = np.asarray(expected)
    scale = max(1, np.abs(expected).max(initial=0))
    np.testing.assert_allclose(plain(actual), expected, rtol=0, atol=tolerance * scale)


def numbers(*shape, dtype="float64", seed=0):
    random = np.random.default_rng(seed)
    real = random.standard_normal(shape)
    return real + 1j * random.standard_normal(shape) if dtype == "complex128" else real


@pytest.mark.parametrize(("case", "backend", "dtype"), MARKED)
def test_norms_of_every_case(case, backend, dtype):
    A, M, _ = build(case, dtype, backend)
    if not min(M.shape):
        assert float(lo.linalg.norm(A)) == 0
        return
    for order in ORDERS:
        found = lo.linalg.norm(A, order)
        close(found, np.linalg.norm(M, order))
        assert not np.iscomplexobj(plain(found))
    assert int(lo.linalg.matrix_rank(A)) == np.linalg.matrix_rank(M)
    if M.shape[0] == M.shape[1] and (condition := np.linalg.cond(M)) < 1e8:
        for p in (None, -2, 1, "fro"):
            close(lo.linalg.cond(A, p), np.linalg.cond(M, p), 1e-9 * condition)


def test_norms_of_what_is_too_large_to_write_out():
    n = 7000
    A = lo.Tridiagonal(-np.ones(n - 1), 2 * np.ones(n), -np.ones(n - 1)) @ lo.Diagonal(np.linspace(1, 2, n))
    assert float(lo.linalg.norm(A, 1)) == pytest.approx(8, rel=1e-3)
    with pytest.raises(ValueError, match="no matrix of more than"):
        lo.linalg.norm(A, "nuc")
    big = lo.Kronecker(
        numbers(200, 200), numbers(300, 300, seed=1), lo.TensorTrain([numbers(1, 9, 9, 3), numbers(3, 8, 8, 1)])
    )
    for order in ("fro", 1, np.inf):
        parts = [np.linalg.norm(factor.to_dense(), order) for factor in big.factors]
        assert float(lo.linalg.norm(big, order)) == pytest.approx(np.prod(parts), rel=1e-12)
    low = lo.LowRank(numbers(90000, 3), numbers(3, 80000))
    values = np.linalg.svd(np.linalg.qr(low.U)[1] @ np.linalg.qr(low.V.T)[1].T)[1]
    close(lo.linalg.norm(low), np.sqrt((values**2).sum()))
    close(lo.linalg.norm(low, 2), values[0])
    assert int(lo.linalg.matrix_rank(low)) == 3


def test_the_spectral_norm_of_a_large_operator_is_by_lanczos(monkeypatch):
    calls, svds = [], norms.svds
    monkeypatch.setattr(norms, "svds", lambda *given: calls.append(1) or svds(*given))
    M = numbers(600, 550)
    close(lo.linalg.norm(M, 2), np.linalg.norm(M, 2))
    assert calls


def test_norms_are_scaled_and_checked():
    assert float(lo.linalg.norm(np.full((2, 2), 1e200))) == pytest.approx(2e200)
    assert float(lo.linalg.norm(np.full((2, 2), 1e-200))) == pytest.approx(2e-200)
    for wrong in ("frobenius", 3, "2", None):
        with pytest.raises(ValueError, match="ord"):
            lo.linalg.norm(np.eye(2), wrong)
    assert float(lo.linalg.cond(np.ones((2, 2)), 1)) > 1e15
    assert float(lo.linalg.cond(lo.Zero(2, 2))) == np.inf
    with pytest.raises(ValueError, match="square"):
        lo.linalg.cond(np.ones((2, 3)), 1)
    assert int(lo.linalg.matrix_rank(np.diag([1.0, 0.1, 0.01]), 0.05)) == 2


DIFFERENTIATED = {
    "fro": lambda X: lo.linalg.norm(lo.Kronecker(X, X)),
    "one": lambda X: lo.linalg.norm(X, 1),
    "two": lambda X: lo.linalg.norm(X, 2),
    "chain": lambda X: lo.linalg.norm(lo.TensorTrain([X.reshape(1, 3, 1, 3), X[:, :2].reshape(3, 2, 1, 1)])),
    "blocks": lambda X: lo.linalg.norm(lo.BlockTensorTrain([X[None], X.reshape(3, 3, 1)], (3, 3), (1, 3))),
    "cond": lambda X: lo.linalg.cond(X),
    "cholesky": lambda X: lo.linalg.cholesky(X @ X.mT + lo.Identity(3).to_dense()[0, 0] * X @ X.mT).to_dense(),
    "qr": lambda X: lo.linalg.qr(lo.Dense(X))[1].to_dense() ** 2,
    "lu": lambda X: lo.linalg.lu(lo.Dense(X))[2].to_dense(),
}


@pytest.mark.parametrize("name", DIFFERENTIATED)
def test_gradients_in_torch(name):
    X = torch.tensor(numbers(3, 3), requires_grad=True)
    assert gradcheck(DIFFERENTIATED[name], [X])
    assert gradgradcheck(DIFFERENTIATED[name], [X])


@pytest.mark.full
@pytest.mark.parametrize("name", DIFFERENTIATED)
def test_gradients_in_jax(name):
    X = on("jax", numbers(3, 3))
    check_grads(DIFFERENTIATED[name], (X,), 1)
    close(jax.jit(DIFFERENTIATED[name])(X), plain(DIFFERENTIATED[name](X)))


def test_the_norm_of_zero_has_a_derivative_of_zero():
    A = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(lo.linalg.norm(A), A)
    close(gradient, np.zeros((3, 3)))


# ---------------------------------------------------------------- factors


def definite(n, dtype, seed=0):
    X = numbers(n, n, dtype=dtype, seed=seed)
    return X @ X.conj().T + np.eye(n)


FACTORED = {
    "dense": lambda X, Y: lo.Dense(X),
    "kronecker": lambda X, Y: lo.Kronecker(X, Y),
    "negative factors": lambda X, Y: lo.Kronecker(-X, -Y),
    "direct sum": lambda X, Y: lo.DirectSum([X, lo.Identity(2), Y]),
    "blocks": lambda X, Y: lo.BlockDiag(X[None]),
    "scaled": lambda X, Y: 3 * lo.Kronecker(X, Y),
    "diagonal": lambda X, Y: lo.Diagonal(abs(X[0]) + 1),
    "sum": lambda X, Y: lo.KroneckerSum(X, Y),
}


@pytest.mark.parametrize("name", FACTORED)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_factors(name, backend, dtype):
    A = FACTORED[name](on(backend, definite(3, dtype)), on(backend, definite(2, dtype, 1)))
    M = plain(A.to_dense())
    close(lo.linalg.cholesky(A).to_dense(), np.linalg.cholesky(M))
    P, L, U = (plain(factor.to_dense()) for factor in lo.linalg.lu(A))
    close(P @ L @ U, M)
    close(np.triu(L), np.eye(len(M)))
    close(np.tril(U, -1), 0 * M)
    Q, R = (plain(factor.to_dense()) for factor in lo.linalg.qr(A))
    close(Q @ R, M)
    close(Q.conj().T @ Q, np.eye(len(M)))
    close(np.tril(R, -1), 0 * M)


def test_factors_of_rectangular_and_singular_matrices():
    for A in (numbers(4, 2), numbers(2, 4), lo.Kronecker(numbers(3, 2), numbers(2, 2)), lo.Permute([1, 2, 0])):
        Q, R = lo.linalg.qr(A)
        M = A if isinstance(A, np.ndarray) else A.to_dense()
        close((Q @ R).to_dense(), M)
        assert Q.shape == (M.shape[0], min(M.shape))
    P, L, U = lo.linalg.lu(np.zeros((2, 2)))
    close((P @ L @ U).to_dense(), np.zeros((2, 2)))
    P, L, U = lo.linalg.lu(np.array([[0.0, 1.0, 2.0], [4.0, 1.0, 1.0], [2.0, 5.0, 3.0]]))
    close((P @ L @ U).to_dense(), [[0, 1, 2], [4, 1, 1], [2, 5, 3]])
    assert (
        lo.linalg.cholesky(lo.Kronecker(definite(40, "float64"), definite(50, "float64"))).num_params == 40**2 + 50**2
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_not_definite_has_no_cholesky_factor(backend):
    X = on(backend, np.diag([1.0, -1.0]))
    for A in (lo.Dense(X), lo.Diagonal(on(backend, np.array([1.0, -1.0]))), lo.BlockDiag(X[None])):
        with pytest.raises(lo.linalg.SingularError, match=r"not positive definite.*lo\.linalg\.lu .*Identity"):
            lo.linalg.cholesky(A)
    with pytest.raises(np.linalg.LinAlgError):
        lo.linalg.cholesky(lo.Kronecker(X, X))
    with pytest.raises(ValueError, match="not Hermitian"):
        lo.linalg.cholesky(on(backend, np.array([[1.0, 0.5], [0.0, 1.0]])))


def _large(name, dtype, backend):
    """Operators that are not written out where `DENSE_LIMIT` is 40, and small enough to be."""

    def n(*shape, seed=0):
        return numbers(*shape, dtype=dtype, seed=seed)

    made = {
        "tridiagonal": lambda: lo.Tridiagonal(n(8), n(9), n(8, seed=1)),
        "one by one": lambda: lo.Tridiagonal(n(0), n(1), n(0)),
        "toeplitz": lambda: lo.Toeplitz(n(9), n(9, seed=1)),
        "wide toeplitz": lambda: lo.Toeplitz(n(4), n(11, seed=1)),
        "tall toeplitz": lambda: lo.Toeplitz(n(11), n(4, seed=1)),
        "transposed toeplitz": lambda: lo.Toeplitz(n(4), n(11, seed=1)).T,
        "a row": lambda: lo.Toeplitz(n(1), n(41, seed=1)),
        "circulant of a prime size": lambda: lo.Circulant(n(17)),
        "block of a circulant": lambda: lo.Circulant(n(19), 5, 9),
        "transposed block of a circulant": lambda: lo.Circulant(n(12), 5, 9).T,
        "product of diagonals": lambda: lo.Diagonal(n(7)) @ lo.Diagonal(n(7, seed=1)) @ lo.Pad(7, 7),
        "tall and diagonal": lambda: lo.assume(lo.Product((lo.Pad(9, 7), lo.Diagonal(n(7)))), lo.Tag.DIAGONAL),
        "kronecker product of diagonals": lambda: lo.Kronecker(lo.Diagonal(n(3)), lo.Diagonal(n(3, seed=1))),
        "kronecker sum": lambda: lo.KroneckerSum(n(3, 3), n(4, 4, seed=1), n(2, 2, seed=2)),
        "kronecker sum of structures": lambda: lo.KroneckerSum(lo.Toeplitz(n(3), n(3, seed=1)), lo.Permute([1, 0, 2])),
        "shifted kronecker": lambda: 0.5 * lo.Identity(12) + lo.Kronecker(n(3, 3), n(4, 4, seed=1)),
        "shifted by a complex number": lambda: (2 + 1j) * lo.Identity(12) + lo.KroneckerSum(n(3, 3), n(4, 4, seed=1)),
        "shifted toeplitz": lambda: lo.Identity(9) - 3 * lo.Toeplitz(n(9), n(9, seed=1)),
    }
    return made[name]() if backend is None else made[name]().to(backend=backend), made


LARGE = list(_large("toeplitz", "float64", None)[1])


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", LARGE)
def test_norms_in_closed_form(name, backend, dtype, monkeypatch):
    A, _ = _large(name, dtype, backend)
    M = plain(A.to_dense())
    monkeypatch.setattr("linops.linalg.inputs.DENSE_LIMIT", 40)
    orders = ("fro",) if "sum" in name or name.startswith("shifted") else ("fro", 1, np.inf, -1, -np.inf)
    by_columns = norms._by_columns

    def of_small_ones(a, order):
        assert a.shape[0] * a.shape[1] <= 40, "n products"
        return by_columns(a, order)

    with monkeypatch.context() as patch:
        patch.setattr(norms, "_by_columns", of_small_ones)
        for order in orders:
            close(lo.linalg.norm(A, order), np.linalg.norm(M, order), 1e-13)
    for order in (1, np.inf):
        close(lo.linalg.norm(A, order), np.linalg.norm(M, order), 1e-13)
    assert lo.linalg.explain("norm", A).splitlines()[-1].split()[-4] != "0"


def test_norms_of_sums_that_nearly_vanish():
    A, B = lo.Dense(np.eye(3) + 1e-9 * numbers(3, 3)), lo.Dense(-np.eye(4) + 1e-9 * numbers(4, 4))
    whole = lo.KroneckerSum(A, B)
    assert float(lo.linalg.norm(whole)) == pytest.approx(np.linalg.norm(whole.to_dense()), rel=1e-6)
    assert float(lo.linalg.norm(A - lo.Identity(3))) == pytest.approx(np.linalg.norm(A.matrix - np.eye(3)), rel=1e-12)
    assert float(lo.linalg.norm(lo.KroneckerSum(np.eye(3), -np.eye(4)))) == 0
    assert float(lo.linalg.norm(lo.KroneckerSum(1e200 * np.eye(3), np.eye(4)))) == pytest.approx(1e200 * 12**0.5)


def test_norms_of_what_products_would_take_minutes_for():
    n = 10**6
    A = lo.Tridiagonal(np.ones(n - 1), -2 * np.ones(n), np.ones(n - 1))
    assert [float(lo.linalg.norm(A, order)) for order in (1, np.inf)] == [4, 4]
    assert float(lo.linalg.norm(A)) == pytest.approx((6 * n - 2) ** 0.5)
    assert float(lo.linalg.norm(lo.Toeplitz(np.arange(n) * 1.0, np.ones(n)), 1)) == n * (n - 1) / 2
    assert float(lo.linalg.norm(lo.KroneckerSum(A, A))) == pytest.approx((2 * n * (6 * n - 2) + 8 * n**2) ** 0.5)
    diagonal = lo.Kronecker(lo.Diagonal(np.arange(1000.0)), lo.Diagonal(np.arange(1000.0))) @ lo.Pad(n, n)
    assert float(lo.linalg.norm(diagonal, np.inf)) == 999**2
