"""Spectra of `lo.linalg`: all and some eigenvalues, singular values and vectors, against dense NumPy; derivatives."""

import jax
import numpy as np
import pytest
import torch
from conformance import RUNS, marked
from helpers import as_numpy, build, on
from jax.test_util import check_grads
from torch.autograd import gradcheck, gradgradcheck

import linops as lo

BACKENDS = ["numpy", "torch", "jax"]
DTYPES = ["float64", "complex128"]
WIDE = [run for run in RUNS if run[2] != "float32"]
MARKED = marked(WIDE, 4)


def plain(number):
    return np.asarray(number) if isinstance(number, (np.generic, np.ndarray)) else as_numpy(number)


def close(actual, expected, atol=1e-9):
    expected = np.asarray(expected)
    np.testing.assert_allclose(plain(actual), expected, rtol=0, atol=atol * max(1, np.abs(expected).max(initial=0)))


def numbers(*shape, dtype="float64", seed=0):
    random = np.random.default_rng(seed)
    real = random.standard_normal(shape)
    return real + 1j * random.standard_normal(shape) if dtype == "complex128" else real


def symmetric(n, dtype="float64", seed=0):
    X = numbers(n, n, dtype=dtype, seed=seed)
    return X + X.conj().T


# ---------------------------------------------------------------- every case


@pytest.mark.parametrize(("case", "backend", "dtype"), MARKED)
def test_singular_values_of_every_case(case, backend, dtype):
    A, M, _ = build(case, dtype, backend)
    s = np.linalg.svd(M, compute_uv=False)
    close(lo.linalg.svdvals(A), s)
    U, found, Vh = lo.linalg.svd(A)
    k = found.shape[0]
    close(found, s[:k])
    close(s[k:], 0 * s[k:])
    assert (U.shape, Vh.shape) == ((len(M), k), (k, M.shape[1]))
    U, Vh = dense(U, backend), dense(Vh, backend)
    close(U * plain(found) @ Vh, M)
    close(U.conj().T @ U, np.eye(k))
    close(Vh @ Vh.conj().T, np.eye(k))


@pytest.mark.parametrize(
    ("case", "backend", "dtype"), [run for run in MARKED if len({*build(run.values[0])[1].shape}) == 1]
)
def test_eigenvalues_of_every_case(case, backend, dtype):
    A, M, _ = build(case, dtype, backend)
    if backend == "jax" and case.startswith("function"):
        return
    w, V = lo.linalg.eig(A)
    V = dense(V, backend)
    close(M @ V, V * plain(w), 1e-7)
    close(np.linalg.norm(V, axis=0), np.ones(len(M)), 1e-7)
    trace, square = np.trace(M), np.trace(M @ M)
    for values in (w, lo.linalg.eigvals(A)):
        assert np.iscomplexobj(plain(values))
        close(plain(values).sum(), trace, 1e-7)
        close((plain(values) ** 2).sum(), square, 1e-7)


def dense(A, backend):
    """An operator's matrix; one without arrays multiplies what the backend has."""
    return plain(A.to_dense())


# ---------------------------------------------------------------- Hermitian operators

HERMITIAN = {
    "dense": lambda X, Y, v: lo.Dense(X),
    "kronecker": lambda X, Y, v: lo.Kronecker(X, Y),
    "kronecker sum": lambda X, Y, v: lo.KroneckerSum(X, Y),
    "direct sum": lambda X, Y, v: lo.DirectSum([X, Y, lo.Identity(2)]),
    "blocks": lambda X, Y, v: lo.BlockDiag(X[None]),
    "diagonal": lambda X, Y, v: lo.Diagonal(v.real),
    "scaled": lambda X, Y, v: -2.5 * lo.Kronecker(X, Y),
    "shifted": lambda X, Y, v: 3 * lo.Identity(6) + lo.Kronecker(X, Y),
    "power": lambda X, Y, v: lo.Kronecker(X, Y) ** 3,
    "low rank": lambda X, Y, v: lo.LowRank(v[:, None], v[None].conj()),
    "reflection": lambda X, Y, v: lo.Householder(v),
    "tridiagonal": lambda X, Y, v: lo.Tridiagonal(v[:2].conj(), (v + v.conj()) / 2, v[:2]),
    "constant": lambda X, Y, v: lo.Hadamard(4),
    "plus a matrix": lambda X, Y, v: lo.Dense(X) + lo.Diagonal(v * v.conj()),
}


def hermitian_case(name, backend, dtype):
    parts = [on(backend, one) for one in (symmetric(3, dtype), symmetric(2, dtype), numbers(3, dtype=dtype))]
    return HERMITIAN[name](*parts)


@pytest.mark.parametrize("name", HERMITIAN)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_eigh(name, backend, dtype):
    A = hermitian_case(name, backend, dtype)
    M = plain(A.to_dense())
    w, V = lo.linalg.eigh(A)
    close(w, np.linalg.eigvalsh(M))
    close(lo.linalg.eigvalsh(A), np.linalg.eigvalsh(M))
    assert not np.iscomplexobj(plain(w))
    V = dense(V, backend)
    close(V * plain(w) @ V.conj().T, M)
    close(V.conj().T @ V, np.eye(len(M)))


def test_eigenvectors_keep_the_structure():
    w, V = lo.linalg.eigh(lo.Kronecker(symmetric(40), symmetric(50, seed=1), symmetric(60, seed=2)))
    assert w.shape == (120000,)
    assert (np.diff(w) >= 0).all()
    assert V.num_params == 40**2 + 50**2 + 60**2
    assert lo.linalg.eig(lo.Permute([1, 2, 0, 4, 3]))[1].num_params == 0
    U, _, Vh = lo.linalg.svd(lo.LowRank(numbers(90000, 2), numbers(2, 80000)))
    assert (U.shape, Vh.shape) == ((90000, 2), (2, 80000))


def test_no_triangle_is_read_of_a_matrix_that_is_not_hermitian():
    for A in (
        np.array([[1.0, 2.0], [0.0, 1.0]]),
        lo.Kronecker(np.eye(2), np.array([[1.0, 2.0], [0.0, 1.0]])),
        lo.Toeplitz(np.array([1.0, 2.0, 3.0]), np.array([1.0, 5.0, 6.0])),
        1j * lo.Dense(np.eye(2)),
    ):
        for function in (lo.linalg.eigh, lo.linalg.eigvalsh, lo.linalg.cholesky, lambda A: lo.linalg.eigsh(A, 1)):
            with pytest.raises(ValueError, match=r"not Hermitian.*lo\.linalg\.eig .*lo\.assume"):
                function(A)
    traced = jax.jit(lo.linalg.eigvalsh)(jax.numpy.array([[1.0, 2.0], [0.0, 1.0]]))
    close(traced, [0, 2])  # of (A + Aᵀ) / 2
    close(lo.linalg.eigvalsh(np.array([[2, 1j], [-1j, 2]])), [1, 3])
    with pytest.raises(ValueError, match="square"):
        lo.linalg.eigh(np.ones((2, 3)))


def test_triangular_eigenvectors_are_true():
    M = np.tril(numbers(4, 4)) + np.diag([1.0, 2.0, 3.0, 4.0])
    w, V = lo.linalg.eig(lo.Triangular(M, lower=True))
    close(M @ V.to_dense(), V.to_dense() * w)
    assert np.abs(V.to_dense() - np.eye(4)).max() > 0.1
    assert (lo.linalg.eigvals(lo.Triangular(M, lower=True)) == np.diag(M)).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_dtypes(backend):
    M = np.array([[2, 1], [1, 2]])
    for dtype in ("int64", "float16", "float32"):
        A = on(backend, M.astype(dtype))
        for values in (lo.linalg.eigvalsh(A), lo.linalg.svdvals(A)[::1]):
            close(np.sort(plain(values).astype(float)), [1, 3], 1e-6)


# ---------------------------------------------------------------- some of them


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("which", ["LM", "SM", "LA", "SA"])
@pytest.mark.parametrize("method", [None, lo.linalg.Lanczos(), lo.linalg.LOBPCG()], ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_eigsh(backend, method, which, dtype):
    n, k = 60, 3
    Q = np.linalg.qr(numbers(n, n, dtype=dtype))[0]
    w = np.r_[-9.0, -6, -1, np.linspace(0.2, 0.4, n - 7), 2.0, 5, 5, 8]
    M = Q * w @ Q.conj().T
    A = on(backend, M)
    if isinstance(method, lo.linalg.LOBPCG) and which in ("LM", "SM"):
        with pytest.raises(ValueError, match="LOBPCG"):
            lo.linalg.eigsh(A, k, which, method=method)
        return
    order = np.argsort(np.abs(w) if which in ("LM", "SM") else w, kind="stable")
    order = order[-k:] if which in ("LM", "LA") else order[:k]
    found, V = lo.linalg.eigsh(A, k, which, method=method)
    close(found, np.sort(w[order]), 1e-8)
    assert V.shape == (n, k)
    V = plain(V.to_dense())
    close(np.linalg.norm(V, axis=0), np.ones(k), 1e-12)
    assert np.linalg.norm(M @ V - V * plain(found), axis=0).max() < 1e-9
    again = lo.linalg.eigsh(A, k, which, method=method)[1]
    assert (plain(again.to_dense()) == V).all()


def test_eigsh_finds_copies_of_an_eigenvalue():
    w, V = lo.linalg.eigsh(lo.Diagonal(np.r_[np.ones(700), 5, 5, 5, 7.0]), 4, method=lo.linalg.Lanczos())
    close(w, [5, 5, 5, 7])
    close(V.H @ V.to_dense(), np.eye(4))


@pytest.mark.parametrize("backend", ["numpy", "torch", pytest.param("jax", marks=pytest.mark.full)])
def test_eigsh_nearest_a_shift(backend):
    M = symmetric(80)
    w = np.linalg.eigvalsh(M)
    near = np.sort(w[np.argsort(np.abs(w - 1.5))[:3]])
    for method in (None, lo.linalg.Lanczos()):
        found, V = lo.linalg.eigsh(on(backend, M), 3, sigma=1.5, method=method)
        close(found, near)
        close(M @ plain(V.to_dense()), plain(V.to_dense()) * near, 1e-7)


def test_eigsh_in_closed_form_forms_no_other_vectors():
    n = 800
    grid = lo.Tridiagonal(-np.ones(n - 1), 2 * np.ones(n), -np.ones(n - 1))
    w, V = lo.linalg.eigsh(lo.KroneckerSum(grid, grid), 3, "SA")
    one = 2 - 2 * np.cos(np.pi * np.arange(1, 3) / (n + 1))
    close(w, [2 * one[0], one.sum(), one.sum()], 1e-12)
    v = V @ np.array([1.0, 0, 0])
    assert np.linalg.norm(lo.KroneckerSum(grid, grid) @ v - w[0] * v) < 1e-12


@pytest.mark.full
def test_what_does_not_converge_says_so():
    A = lo.assume(lo.Dense(symmetric(600)), lo.Tag.SYMMETRIC)
    with pytest.raises(lo.linalg.ConvergenceError, match=r"did not converge in 78 products.*sigma") as caught:
        lo.linalg.eigsh(A, 3, "SM", method=lo.linalg.Lanczos(max_iterations=60))
    assert caught.value.solution.shape == (600, 3)
    few = jax.jit(lambda M: lo.linalg.eigsh(M, 2, method=lo.linalg.Lanczos(basis=5))[0])(on("jax", symmetric(60)))
    assert np.isnan(plain(few)).any()
    many = jax.jit(lambda M: lo.linalg.eigsh(M, 2, method=lo.linalg.Lanczos())[0])(on("jax", symmetric(12)))
    w = np.linalg.eigvalsh(symmetric(12))
    close(many, np.sort(w[np.argsort(-np.abs(w))[:2]]))
    for wrong, kind in ((0, ValueError), (601, ValueError), (1.5, TypeError)):
        with pytest.raises(kind, match="k"):
            lo.linalg.eigsh(A, wrong)
    with pytest.raises(ValueError, match="which"):
        lo.linalg.eigsh(A, 1, "BE")
    with pytest.raises(TypeError, match="expected None, or one of"):
        lo.linalg.eigsh(A, 1, method=lo.linalg.LU())


@pytest.mark.parametrize("backend", ["numpy", "torch", pytest.param("jax", marks=pytest.mark.full)])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(70, 50), (50, 70)])
def test_svds(backend, dtype, shape):
    U, _, Vh = np.linalg.svd(numbers(*shape, dtype=dtype), full_matrices=False)
    s = np.r_[9.0, 7, 7, 4, np.linspace(2, 1, 43), 0.5, 0.3, 0.1]
    M = U * s @ Vh
    methods = [(None, "LM"), (None, "SM"), (lo.linalg.Lanczos(), "LM"), (lo.linalg.LOBPCG(), "LM")]
    methods += [(lo.linalg.RandomizedSVD(power_iterations=30), "LM")]
    for method, which in methods:
        U, found, Vh = lo.linalg.svds(on(backend, M), 3, which, method=method)
        close(found, s[:3] if which == "LM" else s[-3:], 1e-8)
        U, Vh = plain(U.to_dense()), plain(Vh.to_dense())
        assert (U.shape, Vh.shape) == ((shape[0], 3), (3, shape[1]))
        close(M @ Vh.conj().T, U * plain(found), 1e-6)
        close(U.conj().T @ M, plain(found)[:, None] * Vh, 1e-6)


@pytest.mark.parametrize("backend", ["numpy", "torch", pytest.param("jax", marks=pytest.mark.full)])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(70, 50), (50, 70)])
def test_svds_nearest_a_shift(backend, dtype, shape):
    U, _, Vh = np.linalg.svd(numbers(*shape, dtype=dtype), full_matrices=False)
    s = np.r_[9.0, 7, 7, 4, np.linspace(2, 1, 43), 0.5, 0.3, 0.1]
    M = U * s @ Vh
    for method in (None, lo.linalg.Lanczos()):
        for sigma, k in ((0, 3), (5, 4), (7.1, 2), (1.51, 5), (12.5, 1), (3.1, 12)):
            U, found, Vh = lo.linalg.svds(on(backend, M), k, sigma=sigma, method=method)
            close(found, -np.sort(-s[np.argsort(np.abs(s - sigma), kind="stable")[:k]]), 1e-9)
            U, Vh = plain(U.to_dense()), plain(Vh.to_dense())
            assert (U.shape, Vh.shape) == ((shape[0], k), (k, shape[1]))
            close(M @ Vh.conj().T, U * plain(found), 1e-9)
            close(U.conj().T @ M, plain(found)[:, None] * Vh, 1e-9)
            close(U.conj().T @ U, np.eye(k), 1e-9)


def test_nearest_squares_are_not_nearest_values():
    values = np.r_[0.45, 1.5, 1.6]  # squares 0.8, 1.25 and 1.56 from that of 1; the values 0.55, 0.5 and 0.6
    A = lo.Diagonal(np.r_[values, np.linspace(30, 60, 600)])
    close(lo.linalg.svds(A, 1, sigma=1, method=lo.linalg.Lanczos())[1], [1.5])
    close(lo.linalg.svds(A, 2, sigma=1, method=lo.linalg.Lanczos())[1], [1.5, 0.45])
    close(lo.linalg.svds(A, 3, sigma=1, method=lo.linalg.Lanczos())[1], [1.6, 1.5, 0.45])


@pytest.mark.parametrize("backend", ["numpy", "torch", pytest.param("jax", marks=pytest.mark.full)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_svds_of_sparse_operators_nearest_a_shift(backend, dtype):
    n = 6000  # whose matrix is not written out
    values = np.r_[np.linspace(1, 3, n), numbers(2 * n, dtype=dtype) / 10]
    place = np.random.default_rng(1).integers(0, n, 2 * n)
    A = lo.Sparse(
        on(backend, values), np.r_[np.arange(n), n + np.arange(2 * n)], np.r_[np.arange(n), place], (3 * n, n)
    )
    expected = np.sqrt(values[:n] ** 2 + np.bincount(place, np.abs(values[n:]) ** 2, n))
    for operator, sigma, k in ((A, 2.0, 4), (A.H, 0.0, 2)):
        U, found, Vh = lo.linalg.svds(operator, k, sigma=sigma)
        close(found, -np.sort(-expected[np.argsort(np.abs(expected - sigma))[:k]]), 1e-10)
        V = Vh.H.to_dense()
        close(operator @ V, plain(U.to_dense()) * plain(found), 1e-9)


@pytest.mark.full
def test_svds_nearest_a_shift_of_what_is_traced():
    M = numbers(60, 50)
    s = np.linalg.svd(M)[1]
    expected = -np.sort(-s[np.argsort(np.abs(s - 4))[:2]])
    for method in (None, lo.linalg.Lanczos()):
        found = jax.jit(lambda M, method=method: lo.linalg.svds(M, 2, sigma=4.0, method=method)[1])(on("jax", M))
        close(found, expected)
    few = jax.jit(lambda M: lo.linalg.svds(M, 4, sigma=4.0, method=lo.linalg.Lanczos(basis=20))[1])(on("jax", M))
    assert np.isnan(plain(few)).any()  # of one basis that is too small


def test_svds_nearest_a_shift_that_do_not_converge_say_so():
    A = numbers(300, 200)
    with pytest.raises(lo.linalg.ConvergenceError, match=r"svds\(Dense\(200×300.*did not converge in.*a little beside"):
        lo.linalg.svds(A.T, 8, sigma=10.0, method=lo.linalg.Lanczos(basis=12, max_iterations=1))


def test_svds_where_the_structure_leaves_out_zeros():
    U, V = numbers(60, 2), numbers(2, 50, seed=1)
    A, s = lo.LowRank(U, V), np.linalg.svd(U @ V)[1]
    for sigma, expected in ((0, [0, 0]), (1e-3 * s[1], [0, 0]), (s[0], s[:2] if s[0] < 2 * s[1] else [s[0], 0])):
        U, found, Vh = lo.linalg.svds(A, 2, sigma=sigma)
        close(found, expected, 1e-10 * s[0])
        close(U.H @ U.to_dense(), np.eye(2))
        close(A.H @ U.to_dense(), Vh.H.to_dense() * found, 1e-10 * s[0])
    assert isinstance(lo.linalg.svds(lo.Kronecker(*[np.diag([1.0, 2.0])] * 3), 2, sigma=2)[0], lo.LinearOperator)


@pytest.mark.parametrize("function", [lo.linalg.eigsh, lo.linalg.svds])
def test_shifts_that_are_none(function):
    A = symmetric(60)
    for sigma, kind in (("1", TypeError), (1j, TypeError), (True, TypeError), (np.ones(1), TypeError)):
        with pytest.raises(kind, match="sigma must be a real number"):
            function(A, 1, sigma=sigma)
    for sigma in (np.nan, np.inf, *[-1e-9] * (function is lo.linalg.svds)):
        with pytest.raises(ValueError, match=rf"linalg\.{function.__name__}: sigma=.*expected a finite number"):
            function(A, 1, sigma=sigma)
    with pytest.raises(ValueError, match="with sigma only 'LM'"):
        function(A, 1, "SM", sigma=1.0)
    for sigma in (np.float32(1), np.ones(()), 1):
        close(function(A, 2, sigma=sigma)[1 if function is lo.linalg.svds else 0], _near(function, A, 1), 1e-9)
    lanczos = lo.linalg.Lanczos()
    with pytest.raises(lo.linalg.SingularError, match=r"sigma=1.0 is itself one of the values.*a little beside"):
        function(lo.Diagonal(np.r_[1.0, 2, 3, np.arange(4, 60)]), 1, sigma=1.0, method=lanczos)
    with pytest.raises(ValueError, match="LOBPCG finds"):
        function(A, 1, sigma=1.0, method=lo.linalg.LOBPCG())
    if function is lo.linalg.svds:
        with pytest.raises(ValueError, match="RandomizedSVD finds the largest singular values, not those near a shift"):
            function(A, 1, sigma=1.0, method=lo.linalg.RandomizedSVD())


def _near(function, A, sigma):
    values = np.linalg.svd(A)[1] if function is lo.linalg.svds else np.linalg.eigvalsh(A)
    near = np.sort(values[np.argsort(np.abs(values - sigma))[:2]])
    return near[::-1] if function is lo.linalg.svds else near


def test_svds_of_a_kronecker_product():
    A = lo.Kronecker(np.diag([1.0, 2.0]), numbers(30, 20))
    U, s, Vh = lo.linalg.svds(A, 4, "SM")
    close(s, np.linalg.svd(A.to_dense())[1][-4:])
    close(A @ Vh.H.to_dense(), U.to_dense() * s)


# ---------------------------------------------------------------- derivatives

FUNCTIONS = {
    "eigvalsh": lambda X: lo.linalg.eigvalsh(X + X.mT.conj()),
    "eigh of a Kronecker product": lambda X: lo.linalg.eigh(lo.Kronecker(X + X.mT.conj(), lo.Identity(2)))[0],
    "vectors": lambda X: _projector(lo.linalg.eigh(X + X.mT.conj())[1].to_dense()),
    "svdvals": lambda X: lo.linalg.svdvals(lo.Dense(X)),
    "svd": lambda X: _projector(lo.linalg.svd(X[:, :2])[0].to_dense()),
    "norm": lambda X: lo.linalg.norm(lo.Kronecker(X, X[:2]), "nuc") + lo.linalg.norm(X, 1),
    "eigenvalues": lambda X: (lo.linalg.eigvals(X) ** 2).real.sum(),
}


def _projector(V):
    return V[:, :1] @ V[:, :1].mT.conj()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_in_torch(name, dtype):
    X = torch.tensor(numbers(3, 3, dtype=dtype), requires_grad=True)

    def function(X):
        found = FUNCTIONS[name](X)
        return torch.view_as_real(found) if found.is_complex() else found

    assert gradcheck(function, [X])
    assert gradgradcheck(function, [X])


@pytest.mark.full
@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_in_jax(name):
    X = on("jax", numbers(3, 3))
    order = 2 if name == "vectors" else 1  # of others torch's test has the second
    check_grads(FUNCTIONS[name], (X,), order)
    compiled = jax.jit(FUNCTIONS[name])(X)
    close(compiled, plain(FUNCTIONS[name](X)))
    many = jax.vmap(FUNCTIONS[name])(jax.numpy.stack([X, 2 * X + 1]))
    close(plain(many)[0], plain(compiled))


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name != "eigenvalues"])
def test_vmap_in_torch(name):
    X = torch.tensor(numbers(3, 3))
    many = torch.func.vmap(FUNCTIONS[name])(torch.stack([X, 2 * X + 1]))
    close(many[0], FUNCTIONS[name](X).numpy())


DEGENERATE = {
    "eigenvalues": lambda A: lo.linalg.eigvalsh(A).sum(),
    "with vectors": lambda A: lo.linalg.eigh(A)[0].sum(),
    "nuclear norm": lambda A: lo.linalg.norm(A, "nuc"),
    "singular values": lambda A: lo.linalg.svd(A)[1].sum(),
    "eigvals": lambda A: lo.linalg.eigvals(A).real.sum(),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_derivatives_where_spectra_are_degenerate(name):
    A = torch.eye(3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(DEGENERATE[name](A), A)
    close(gradient, np.eye(3))
    close(jax.grad(DEGENERATE[name])(jax.numpy.eye(3)), np.eye(3))


def test_solutions_have_derivatives_where_spectra_are_degenerate():
    b, c = numbers(3), numbers(3, seed=1)
    expected = -np.outer(c, b)  # of cᵀ A⁻¹ b at A = I

    def function(A, b, c):
        operator = lo.assume(lo.Dense(A), lo.Tag.SYMMETRIC)
        return c @ lo.linalg.solve(operator, b, lo.linalg.Eigh())

    A = torch.eye(3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(function(A, torch.tensor(b), torch.tensor(c)), A)
    close(gradient, expected)
    close(jax.grad(function)(jax.numpy.eye(3), on("jax", b), on("jax", c)), expected)


@pytest.mark.full
def test_derivatives_of_some_eigenvalues_and_singular_values():
    X = numbers(30, 30)
    method = lo.linalg.Lanczos()
    sizes = {
        "eigsh": lambda X: lo.linalg.eigsh(X + X.T, 2, "LA", method=method)[0].sum(),
        "svds": lambda X: lo.linalg.svds(X, 2, method=method)[1].sum(),
        "nearest": lambda X: lo.linalg.svds(X, 2, sigma=4.0, method=method)[1].sum(),
    }
    _, V = np.linalg.eigh(X + X.T)
    U, s, Vh = np.linalg.svd(X)
    near = np.argsort(np.abs(s - 4))[:2]
    expected = {"eigsh": 2 * V[:, -2:] @ V[:, -2:].T, "svds": U[:, :2] @ Vh[:2], "nearest": U[:, near] @ Vh[near]}
    for name, function in sizes.items():
        leaf = torch.tensor(X, requires_grad=True)
        (gradient,) = torch.autograd.grad(function(leaf), leaf)
        close(gradient, expected[name], 1e-7)
        close(jax.grad(function)(on("jax", X)), expected[name], 1e-7)


@pytest.mark.full
@pytest.mark.parametrize("backend", ["numpy", "torch", "jax"])
def test_few_eigenvalues_of_a_ring_come_with_their_copies(backend):
    c = np.zeros(600)
    c[[0, 1, -1]] = 3, -1, -1
    M = lo.Circulant(c).to_dense()  # all eigenvalues but two are double
    values = np.linalg.eigvalsh(M)
    A = lo.Dense(on(backend, M))
    for k in (3, 4, 5):
        np.testing.assert_allclose(as_numpy(lo.linalg.eigsh(A, k)[0]), values[-k:], atol=1e-9)
        np.testing.assert_allclose(as_numpy(lo.linalg.eigsh(A, k, "SA")[0]), values[:k], atol=1e-9)
    np.testing.assert_allclose(as_numpy(lo.linalg.svds(A, 4)[1]), values[:-5:-1], atol=1e-7)


def test_lobpcg_is_relative_to_the_operator():
    n = 2000
    L = lo.Tridiagonal(-np.ones(n - 1), np.r_[1, 2 * np.ones(n - 2), 1], -np.ones(n - 1))
    M = lo.linalg.inv(L + 1e-6 * lo.Identity(n))
    w, _ = lo.linalg.eigsh(L, 3, "SA", method=lo.linalg.LOBPCG(preconditioner=M))
    np.testing.assert_allclose(w, 2 - 2 * np.cos(np.pi * np.arange(3) / n), atol=1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "sigma"), [((40, 40), None), ((40, 30), None), ((30, 40), None), ((40, 30), 5.0), ((30, 40), 5.0)]
)
def test_derivatives_of_some_vectors(shape, sigma, dtype):
    random = np.random.default_rng(0)

    def draw(*shape):
        return torch.from_numpy(
            random.standard_normal(shape) + (1j * random.standard_normal(shape) if "complex" in dtype else 0)
        )

    M, g, h, k = draw(*shape), draw(shape[0]), draw(shape[1]), torch.arange(1.0, 4)
    lanczos = lo.linalg.Lanczos()
    if shape[0] == shape[1]:

        def value(M, found):
            S = (M + M.mH) / 2
            V = lo.linalg.eigsh(lo.assume(lo.Dense(S), lo.Tag.HERMITIAN), 3, "LA", method=lanczos, tol=1e-12)[1]
            V = V.to_dense() if found else torch.linalg.eigh(S)[1][:, -3:]
            return ((g @ V).abs() ** 2 * k).sum()
    else:

        def value(M, found):
            if found:
                U, s, Vh = [
                    one if isinstance(one, torch.Tensor) else one.to_dense()
                    for one in lo.linalg.svds(M, 3, sigma=sigma, method=lanczos)
                ]
            else:
                U, s, Vh = torch.linalg.svd(M, full_matrices=False)
                first = 0 if sigma is None else int((s - sigma).abs().argsort()[:3].min())
                U, s, Vh = U[:, first : first + 3], s[first : first + 3], Vh[first : first + 3]
            return ((g.conj() @ U) * (Vh @ h) * k).real.sum() + ((Vh @ h).abs() ** 2).sum() + (s**2 * k).sum()

    one, other = (torch.func.grad(lambda M, found=found: value(M, found))(M) for found in (True, False))
    np.testing.assert_allclose(one, other, atol=1e-8)


@pytest.mark.full
def test_derivatives_of_some_vectors_in_jax():
    M, g = np.random.default_rng(0).standard_normal((30, 30)), np.random.default_rng(1).standard_normal(30)

    def value(M, found):
        S = (M + M.T) / 2
        if found:
            A = lo.assume(lo.Dense(S), lo.Tag.SYMMETRIC)
            V = lo.linalg.eigsh(A, 2, "LA", method=lo.linalg.Lanczos(basis=30))[1].to_dense()
        else:
            V = jax.numpy.linalg.eigh(S)[1][:, -2:]
        return ((g @ V) ** 2 * jax.numpy.arange(1.0, 3)).sum()

    expected = jax.grad(value)(M, False)
    for gradient in (jax.grad(value), jax.jit(jax.grad(value), static_argnums=1)):
        np.testing.assert_allclose(gradient(M, True), expected, atol=1e-9)
