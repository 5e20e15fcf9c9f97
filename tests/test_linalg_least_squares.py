"""`lstsq` and `pinv` against `numpy.linalg`, structure by structure; preconditioners."""

import jax
import numpy as np
import pytest
import torch
from conformance import RUNS, marked
from helpers import as_numpy, build, every_backend, on
from jax.test_util import check_grads
from torch.autograd import gradcheck, gradgradcheck

import linops as lo
from linops.linalg import CG, GMRES, LSMR, QR, SVD, BlockJacobi, Jacobi, Nystrom, PivotedCholesky, lstsq, pinv, solve

MARKED = marked([run for run in RUNS if run[2] != "float32"], 3)


def randoms(*shape, dtype="float64", seed=0):
    random = np.random.default_rng([seed, *shape])
    return random.standard_normal(shape) + (1j * random.standard_normal(shape) if dtype == "complex128" else 0)


def deficient(m, n, dtype="float64"):
    return randoms(m, 2, dtype=dtype) @ randoms(2, n, dtype=dtype)


@pytest.mark.parametrize(("case", "backend", "dtype"), MARKED)
def test_every_case_against_numpy(case, backend, dtype):
    A, M, array = build(case, dtype, backend)
    expected = np.linalg.pinv(M, rtol=np.finfo(float).eps * max(1, *M.shape))
    size = max(1, np.abs(expected).max(initial=0)) * max(1, np.abs(M).max(initial=0))
    np.testing.assert_allclose(as_numpy(pinv(A).to_dense()), expected, atol=1e-9 * size)
    b = array(2, M.shape[0], 3)
    x = lstsq(A, on(backend, b))
    np.testing.assert_allclose(as_numpy(x), expected @ b, atol=1e-9 * size * max(1, np.abs(b).max(initial=0)))


@every_backend
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("shape", [(7, 4), (4, 7), (5, 5)])
def test_matrices_of_any_rank(shape, dtype, backend):
    for M in (randoms(*shape, dtype=dtype), deficient(*shape, dtype=dtype), 0 * randoms(*shape)):
        for b in (randoms(shape[0]), randoms(shape[0], 3, dtype=dtype)):
            expected = np.linalg.lstsq(M, b, rcond=None)[0]
            found = lstsq(on(backend, M), on(backend, b))
            np.testing.assert_allclose(as_numpy(found), expected, atol=1e-11)
            if backend != "torch" or M.dtype == b.dtype:
                np.testing.assert_allclose(as_numpy(pinv(on(backend, M)) @ on(backend, b)), expected, atol=1e-11)
            if backend != "jax":
                found = lstsq(on(backend, M), on(backend, b), LSMR(1e-13)) if np.linalg.matrix_rank(M) > 2 else found
                np.testing.assert_allclose(as_numpy(found), expected, atol=1e-9)


@every_backend
@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
@pytest.mark.parametrize("method", [None, LSMR()])
def test_operators_without_entries(shape, method, backend):
    m, n = shape
    A = on(backend, np.zeros(shape))
    assert pinv(A, method).shape == (n, m)
    for sides in ((), (2,), (0,)):
        found = lstsq(A, on(backend, np.ones((m, *sides))), method)
        np.testing.assert_array_equal(as_numpy(found), np.zeros((n, *sides)))
    assert lstsq(A, on(backend, np.ones((4, m, 2))), method).shape == (4, n, 2)


def test_ill_conditioned_matrices_are_factorised_without_their_square():
    Q, P = np.linalg.qr(randoms(30, 30))[0], np.linalg.qr(randoms(10, 10))[0]
    M = (Q[:, :10] * np.logspace(0, -11, 10)) @ P
    x = randoms(10)
    for A, b in ((M, M @ x), (M.T, M.T @ (M @ x))):
        error = np.linalg.norm(A @ lstsq(A, b) - b) / np.linalg.norm(b)
        assert error < 1e-13


def test_known_pseudoinverses():
    C = lo.Circulant(np.array([1.0, -1.0, 0.0]))
    for found in (pinv(C) @ np.array([1.0, 0, -1]), lstsq(C, np.array([1.0, 0, -1]))):
        np.testing.assert_allclose(found, [1 / 3, 1 / 3, -2 / 3], atol=1e-14)
    assert type(pinv(C)) is lo.Circulant
    np.testing.assert_array_equal(pinv(lo.Diagonal(np.array([2.0, 0, 4]))).to_dense(), np.diag([0.5, 0, 0.25]))
    K = pinv(lo.Kronecker(randoms(2, 3), deficient(5, 4)))
    assert type(K) is lo.Kronecker
    assert K.shape == (12, 10)
    zero = pinv(0.0 * lo.Diagonal(np.ones(3)))
    np.testing.assert_array_equal(zero.to_dense(), np.zeros((3, 3)))
    low = pinv(lo.LowRank(randoms(50, 3), randoms(3, 40)))
    assert low.num_params == 3 * 90
    np.testing.assert_array_equal(lstsq(lo.Zero(2, 3), np.ones(2)), np.zeros(3))


def test_what_is_wrong_is_said():
    with pytest.raises(ValueError, match=r"linalg\.lstsq.*expected \(3,\)"):
        lstsq(np.ones((3, 2)), np.ones(2))
    with pytest.raises(TypeError, match=r"expected None or lo\.linalg\.LSMR"):
        lstsq(np.ones((3, 2)), np.ones(3), CG())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="symbolic"):
        pinv(lo.dense(3, 2))
    with pytest.raises(lo.linalg.ConvergenceError):
        lstsq(randoms(9, 5), np.ones(9), LSMR(max_iterations=2))


@pytest.mark.full
@every_backend
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("shape", [(7, 4), (4, 7), (5, 5)])
@pytest.mark.parametrize("method", [QR(), SVD(), LSMR(1e-13)])
def test_methods_of_full_rank(method, shape, dtype, backend):
    M = randoms(*shape, dtype=dtype)
    for b in (randoms(shape[0], dtype=dtype), randoms(2, shape[0], 3, dtype=dtype)):
        expected = np.linalg.pinv(M) @ b
        x, info = lstsq(on(backend, M), on(backend, b), method, return_info=True)
        np.testing.assert_allclose(as_numpy(x), expected, atol=1e-10)
        left = np.linalg.norm(b - M @ expected, axis=-2 if b.ndim > 1 else -1)
        np.testing.assert_allclose(np.asarray(info.residual), left, atol=1e-9)
        assert info.converged
        assert info.method == method
        assert (info.iterations > 0) == (type(method) is LSMR)
        np.testing.assert_allclose(as_numpy(pinv(on(backend, M), method) @ on(backend, b)), expected, atol=1e-10)


@every_backend
def test_qr_solves_and_inverts(backend):
    M, b = randoms(5, 5, dtype="complex128"), randoms(5, 2, dtype="complex128")
    A = on(backend, M)
    np.testing.assert_allclose(as_numpy(solve(A, on(backend, b), QR())), np.linalg.solve(M, b), atol=1e-12)
    inverse = lo.linalg.inv(A, QR())
    for ours, theirs in ((inverse, M), (inverse.T, M.T), (inverse.H, M.conj().T)):
        np.testing.assert_allclose(as_numpy(ours @ on(backend, b)), np.linalg.solve(theirs, b), atol=1e-12)
    K = lo.Kronecker(randoms(3, 2), randoms(4, 3))
    found = pinv(K, QR())
    assert found.num_params < K.shape[0] * K.shape[1]
    np.testing.assert_allclose(found.to_dense(), np.linalg.pinv(K.to_dense()), atol=1e-12)
    for wrong in (deficient(5, 3), np.zeros((3, 3))):
        with pytest.raises(lo.linalg.SingularError, match=r"not full rank.*lo\.linalg\.SVD"):
            lstsq(on(backend, wrong), on(backend, np.ones(len(wrong))), QR())


def spectrum(s, m, n, dtype):
    """A matrix with singular values."""
    U, V = [np.linalg.qr(randoms(size, len(s), dtype=dtype, seed=size))[0] for size in (m, n)]
    return (U * s) @ V.conj().T


@pytest.mark.full
@every_backend
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("shape", [(6, 4), (4, 6)])
def test_small_singular_values_count_as_zero_where_it_is_asked_for(shape, dtype, backend):
    M = spectrum([3, 1, 1e-4, 0], *shape, dtype)
    b = randoms(shape[0], dtype=dtype)
    for rtol in (1e-2, 1e-6, None):
        expected = np.linalg.pinv(M, rcond=1e-12 if rtol is None else rtol)
        for method, short in ((SVD(rtol), None), (None, rtol)):
            found = pinv(on(backend, M), method, rtol=short)
            np.testing.assert_allclose(as_numpy(found.to_dense()), expected, atol=1e-9)
            found = lstsq(on(backend, M), on(backend, b), method, rtol=short)
            np.testing.assert_allclose(as_numpy(found), expected @ b, atol=1e-9)
    K = lo.Kronecker(on(backend, M), on(backend, spectrum([2, 0.1], 3, 2, dtype)))
    found = pinv(K, SVD(1e-2))  # of the whole, not of each factor
    expected = np.linalg.pinv(as_numpy(K.to_dense()), rcond=1e-2)
    assert expected.any()
    np.testing.assert_allclose(as_numpy(found.to_dense()), expected, atol=1e-9)
    half = pinv(on(backend, M.real.astype("float16")), SVD(1e-2))
    assert "float16" in str(half.dtype)


@pytest.mark.parametrize("backend", ["numpy", "torch", pytest.param("jax", marks=pytest.mark.full)])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("shape", [(6, 4), (4, 6)])
def test_damping_against_dense(shape, dtype, backend):
    m, n = shape
    M, b = randoms(m, n, dtype=dtype), randoms(2, m, 3, dtype=dtype)
    expected = np.linalg.solve(M.conj().T @ M + 0.7**2 * np.eye(n), M.conj().T)
    method = LSMR(1e-12, damp=0.7)
    x, info = lstsq(on(backend, M), on(backend, b), method, return_info=True)
    np.testing.assert_allclose(as_numpy(x), expected @ b, atol=1e-10)
    np.testing.assert_allclose(as_numpy(info.residual), np.linalg.norm(b - M @ (expected @ b), axis=-2), atol=1e-10)
    np.testing.assert_allclose(as_numpy(pinv(on(backend, M), method).T.to_dense()), expected.T, atol=1e-10)
    zero = lstsq(lo.Zero(m, n), on(backend, b), method)  # without arrays, and of no rank
    np.testing.assert_array_equal(as_numpy(zero), np.zeros((2, n, 3)))


@pytest.mark.full
@every_backend
@pytest.mark.parametrize("shape", [(9, 5), (5, 9)])
def test_least_squares_begin_where_they_are_told(shape, backend):
    M, b = randoms(*shape), randoms(shape[0], 2)
    exact = on(backend, np.linalg.pinv(M) @ b)
    x, info = lstsq(on(backend, M), on(backend, b), LSMR(1e-10), x0=exact, return_info=True)
    assert info.iterations == 0
    np.testing.assert_array_equal(as_numpy(x), as_numpy(exact))
    x0 = randoms(shape[1], 2, seed=1)
    x = as_numpy(lstsq(on(backend, M), on(backend, b), LSMR(1e-12), x0=on(backend, x0)))
    np.testing.assert_allclose(x, x0 + np.linalg.pinv(M) @ (b - M @ x0), atol=1e-9)  # the nearest to x0
    for method in (None, LSMR()):
        with pytest.raises(ValueError, match=rf"linalg\.lstsq.*x0 of shape \({shape[1]},\).*\({shape[1]}, 2\)"):
            lstsq(on(backend, M), on(backend, b), method, x0=on(backend, x0[:, 0]))


@pytest.mark.parametrize("shape", [(30, 20), (20, 30)])
def test_iterations_are_counted_together_and_errors_have_solutions(shape):
    M, b = randoms(*shape), randoms(shape[0])
    with pytest.raises(lo.linalg.ConvergenceError, match=r"after 3 iterations.*damp") as caught:
        lstsq(M, b, LSMR(max_iterations=3))
    assert caught.value.iterations == 3
    assert caught.value.solution.shape == shape[1:]


DIFFERENTIATED = {
    "qr": lambda M, b: lstsq(M, b),
    "wide": lambda M, b: lstsq(M.T, b[:3]),
    "pinv": lambda M, b: pinv(M) @ b,
    "by qr": lambda M, b: lstsq(M, b, QR()),
    "wide by qr": lambda M, b: lstsq(M.T, b[:3], QR()),
    "by svd": lambda M, b: lstsq(M, b, SVD()),
    "truncated": lambda M, b: lstsq(M, b, SVD(0.5)),
    "wide truncated": lambda M, b: pinv(M.T, SVD(0.5)) @ b[:3],
    "circulant": lambda M, b: pinv(lo.Circulant(M[:, 0])) @ b,
    "blocks": lambda M, b: lstsq(lo.BlockDiag(M[None, :4, :]), b[:4]),
}
ITERATED = {
    "lsmr": lambda M, b: lstsq(M, b, LSMR(1e-14)),
    "wide lsmr": lambda M, b: lstsq(M.T, b[:3], LSMR(1e-14)),
    "damped": lambda M, b: lstsq(M, b, LSMR(1e-14, damp=0.3)),
}


def check_derivatives(function, dtype):
    M, b = [torch.tensor(randoms(*shape, dtype=dtype), requires_grad=True) for shape in ((5, 3), (5, 1))]
    assert gradcheck(function, (M, b))
    assert gradgradcheck(function, (M, b))


@pytest.mark.parametrize("name", DIFFERENTIATED)
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_gradients_in_torch(name, dtype):
    check_derivatives(DIFFERENTIATED[name], dtype)


@pytest.mark.full
@pytest.mark.parametrize("name", ITERATED)
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_gradients_of_what_iterates_in_torch(name, dtype):
    check_derivatives(ITERATED[name], dtype)


@pytest.mark.full
@pytest.mark.parametrize("name", ["wide", "truncated", "lsmr", "qr", "pinv", "damped", "by qr"])
def test_gradients_in_jax(name):
    function = (DIFFERENTIATED | ITERATED)[name]
    M, b = on("jax", randoms(5, 3)), on("jax", randoms(5, 1))
    check_grads(lambda M, b: function(jax.numpy.asarray(M), jax.numpy.asarray(b)), (M, b), 1)
    compiled = jax.jit(function)(M, b)
    np.testing.assert_allclose(as_numpy(compiled), as_numpy(function(M, b)), atol=1e-9)


def test_pseudoinverses_of_degenerate_singular_values_have_gradients():
    M = torch.eye(3, dtype=torch.float64, requires_grad=True)
    (pinv(M) @ torch.ones(3, dtype=torch.float64)).sum().backward()
    np.testing.assert_allclose(M.grad, -np.ones((3, 3)), atol=1e-12)
    C = torch.tensor([1.0, -1, 0], dtype=torch.float64, requires_grad=True)
    (pinv(lo.Circulant(C)) @ torch.tensor([1.0, 0, -1], dtype=torch.float64)).sum().backward()
    assert C.grad.isfinite().all()


@pytest.mark.parametrize("s", [[3, 3, 0.1, 0.1], [2, 1, 0, 0]])
def test_truncation_has_derivatives_where_singular_values_coincide(s):
    M = torch.tensor(spectrum(s, 5, 4, "float64"), requires_grad=True)
    E = torch.tensor(randoms(5, 4))
    f = lambda M: pinv(M, SVD(0.2)).to_dense()  # noqa: E731
    assert gradcheck(f, (M,))
    along = torch.func.jvp(lambda M: pinv(M, SVD(0.2)).to_dense(), (M.detach(),), (E,))[1]
    step = 1e-6
    expected = (f(M + step * E) - f(M - step * E)) / (2 * step)
    np.testing.assert_allclose(along, expected.detach(), atol=1e-6)


# ---------------------------------------------------------------- preconditioners

PRECONDITIONERS = {
    "jacobi": Jacobi(),
    "blocks": BlockJacobi(8),
    "uneven blocks": BlockJacobi(7),
    "pivoted": PivotedCholesky(15),
    "nystrom": Nystrom(15),
}


def kernel(dtype):
    """A covariance, whose eigenvalues fall fast; and with noise."""
    points = np.linspace(0, 1, 40)
    M = np.exp(-0.5 * (points[:, None] - points) ** 2 / 0.1**2) * np.outer(1 + points, 1 + points)
    if dtype == "complex128":
        phase = np.exp(3j * points)
        M = phase[:, None] * M * phase.conj()
    return M, (M + 1e-3 * np.eye(40))


@pytest.mark.parametrize("name", PRECONDITIONERS)
@pytest.mark.parametrize("backend", ["numpy", "torch", "jax"])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("shown", [True, False])
def test_preconditioners(name, backend, dtype, shown):
    M, whole = kernel(dtype)
    if shown:
        A = lo.assume(lo.Dense(on(backend, M)), lo.Tag.POSITIVE_SEMIDEFINITE) + 1e-3 * lo.Identity(40)
        A = lo.assume(A, lo.Tag.POSITIVE_DEFINITE)
    else:
        A = lo.assume(lo.Dense(on(backend, whole)), lo.Tag.POSITIVE_DEFINITE)
    P = as_numpy(PRECONDITIONERS[name].of(A).to_dense())
    np.testing.assert_allclose(P, P.conj().T, atol=1e-9 * abs(P).max())
    assert np.linalg.eigvalsh(P).min() > 0
    if name == "jacobi":
        np.testing.assert_allclose(P, np.diag(1 / np.diag(whole)), atol=1e-12)
    if "blocks" in name:
        size = PRECONDITIONERS[name].size
        for start in range(0, 40, size):
            block = slice(start, start + size)
            np.testing.assert_allclose(P[block, block] @ whole[block, block], np.eye(len(whole[block])), atol=1e-9)
            assert not P[block, start + size :].any()
    if name in ("pivoted", "nystrom"):
        values = np.linalg.eigvals(P @ whole)
        assert values.real.max() / values.real.min() < 30
        assert np.linalg.cond(whole) > 1e4
    if backend == "jax":
        return
    b = randoms(40, 2, dtype=dtype)
    x, info = solve(A, on(backend, b), CG(1e-9, preconditioner=PRECONDITIONERS[name]), return_info=True)
    np.testing.assert_allclose(whole @ as_numpy(x), b, atol=1e-7)
    if name in ("pivoted", "nystrom"):
        plain = solve(A, on(backend, b), CG(1e-9), return_info=True)[1]
        assert info.iterations < plain.iterations / 2


@pytest.mark.full
def test_preconditioners_follow_the_operator():
    """Of Aᵀ and Aᴴ they are transposed, in derivatives too; and a kept inverse makes them once."""
    M = randoms(5, 5, dtype="complex128") + 6 * np.eye(5)
    made = []

    class Counted(BlockJacobi):
        def of(self, A):
            made.append(1)
            return super().of(A)

    b = randoms(5, dtype="complex128")
    for preconditioner in (Counted(3), np.linalg.inv(M + 0.1)):
        inverse = lo.linalg.inv(M, GMRES(1e-11, preconditioner=preconditioner))
        for ours, theirs in ((inverse, M), (inverse.T, M.T), (inverse.H, M.conj().T), (inverse, M)):
            np.testing.assert_allclose(theirs @ (ours @ b), b, atol=1e-8)
        A, right = torch.tensor(M, requires_grad=True), torch.tensor(b)
        own = preconditioner if isinstance(preconditioner, Counted) else torch.tensor(preconditioner)
        method = GMRES(1e-12, preconditioner=own)
        assert gradcheck(lambda A, b, method=method: solve(A, b, method), (A, right))
    assert made


def test_a_kept_inverse_makes_its_preconditioner_once(monkeypatch):
    made, of = [], Jacobi.of
    monkeypatch.setattr(Jacobi, "of", lambda self, A: made.append(1) or of(self, A))
    inverse = lo.linalg.inv(randoms(9, 9) + 9 * np.eye(9), GMRES(preconditioner=Jacobi()))
    for _ in range(3):
        inverse @ np.ones(9)
        inverse.T @ np.ones(9)
    assert len(made) == 1


def test_preconditioners_say_what_is_wrong():
    for kind in (BlockJacobi, PivotedCholesky, Nystrom):
        with pytest.raises(ValueError, match="must be positive"):
            kind(0)
    for one in (PivotedCholesky(2), Nystrom(2)):
        with pytest.raises(ValueError, match=r"not known to be Hermitian.*lo\.assume"):
            solve(randoms(5, 5), np.ones(5), GMRES(preconditioner=one))
    with pytest.raises(lo.linalg.SingularError, match="block"):
        solve(np.diag([1.0, 0, 2, 3])[::-1].copy(), np.ones(4), GMRES(preconditioner=BlockJacobi(1)))
    assert Nystrom(3) == Nystrom(3, seed=0) != Nystrom(3, seed=1)
    A = lo.assume(lo.Dense(np.diag([1.0, 2, 3])), lo.Tag.POSITIVE_DEFINITE)
    np.testing.assert_array_equal(Nystrom(2).of(A).to_dense(), Nystrom(2).of(A).to_dense())
    for one in (PivotedCholesky(9), Nystrom(9)):  # more than there are rows
        np.testing.assert_allclose(solve(A, np.ones(3), CG(preconditioner=one)), [1, 1 / 2, 1 / 3], atol=1e-5)
