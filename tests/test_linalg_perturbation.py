"""Second derivatives of what iterates: few eigenvalues, singular values, their vectors, and norms."""

import jax
import numpy as np
import pytest
import torch
from helpers import on
from torch.autograd import gradcheck, gradgradcheck

import linops as lo
from linops import backends
from linops.backends import jax_spectra, torch_spectra
from linops.linalg import LOBPCG, Lanczos, RandomizedSVD

N = 12
#: entries of a symmetric sparse matrix, and which parameter each is
ROWS, COLUMNS = np.nonzero(np.kron(np.eye(4), np.ones((3, 3))) + np.eye(N, k=3) + np.eye(N, k=-3))
UNIQUE, PLACES = np.unique(np.minimum(ROWS, COLUMNS) * N + np.maximum(ROWS, COLUMNS), return_inverse=True)


def numbers(*shape, dtype="float64", seed=0):
    random = np.random.default_rng(seed)
    real = random.standard_normal(shape)
    return real + 1j * random.standard_normal(shape) if dtype == "complex128" else real


def projected(left, right):
    """A real function of the first column and row, which phases leave as it is."""
    P = left[:, :1] @ right[:1]
    return (P.real**3).sum() + (P.imag[0, 1] ** 2 if backends.is_complex(P.dtype) else P[0, 1])


def eigenpairs(A, which="LM", sigma=None, method=None):
    values, V = lo.linalg.eigsh(A, 2, which, sigma, method or Lanczos())
    V = V.to_dense()
    return (values**3).sum() + values[0] * values[1], projected(V, V.mT.conj())


def triplets(A, which="LM", sigma=None):
    U, values, Vh = lo.linalg.svds(A, 2, which, sigma, Lanczos())
    return (values**3).sum() + values[0] * values[1], projected(U.to_dense(), Vh.to_dense())


def gram(x, X):
    return X @ (X.mT @ x)


def sparse(v):
    return lo.Sparse(v[torch.tensor(PLACES)], ROWS, COLUMNS, (N, N))


CASES = {
    "sparse": (lambda v: eigenpairs(sparse(v)), [(len(UNIQUE),)]),
    "smallest": (lambda v: eigenpairs(sparse(v), "SM"), [(len(UNIQUE),)]),
    "near a shift": (lambda v: eigenpairs(sparse(v), sigma=0.5), [(len(UNIQUE),)]),
    "product": (lambda X: eigenpairs(lo.Dense(X) @ lo.Dense(X).H), [(5, 7)]),
    "Function": (lambda X: eigenpairs(lo.assume(lo.Function((5, 5), gram, None, (X,)), lo.Tag.HERMITIAN)), [(5, 7)]),
    "Kronecker": (lambda X, Y: eigenpairs(lo.Kronecker(X + X.mT, Y + Y.mT)), [(3, 3), (2, 2)]),
    "complex": (lambda X: eigenpairs(X + X.mH), [(5, 5, "complex128")]),
    "svds": (lambda X: triplets(X), [(6, 4)]),
    "svds of a wide one": (lambda X: triplets(X), [(4, 6)]),
    "svds smallest": (lambda X: triplets(X, "SM"), [(6, 4)]),
    "svds near a shift": (lambda X: triplets(X, sigma=1.5), [(6, 4)]),
    "svds of a product": (lambda X, Y: triplets(lo.Dense(X) @ lo.Dense(Y)), [(6, 5), (5, 4)]),
    "svds complex": (lambda X: triplets(X), [(5, 4, "complex128")]),
}


def leaves(shapes):
    made = []
    for seed, (*shape, last) in enumerate(shapes):
        sizes, dtype = ((*shape, last), "float64") if isinstance(last, int) else (shape, last)
        made.append(torch.tensor(numbers(*sizes, dtype=dtype, seed=seed), requires_grad=True))
    return made


def in_part(name):
    """One case runs always, the rest with `-m full`."""
    return pytest.param(name, marks=() if name == "Kronecker" else pytest.mark.full)


@pytest.mark.full
@pytest.mark.parametrize("name", [in_part(name) for name in CASES])
def test_second_derivatives_of_what_iterates(name):
    function, shapes = CASES[name]
    for part in (0, 1):
        assert gradcheck(lambda *x, part=part: function(*x)[part], leaves(shapes), rtol=1e-4)
        assert gradgradcheck(lambda *x, part=part: function(*x)[part], leaves(shapes), rtol=1e-4)


def hessians(function, X):
    """How a function's second derivatives can be asked for in torch."""
    x = torch.tensor(X)
    yield torch.autograd.functional.hessian(function, x)
    yield torch.func.hessian(function)(x)
    yield torch.func.jacrev(torch.func.jacrev(function))(x)


def of_both(X, method):
    """A function of values and vectors of a Hermitian matrix made of a square X, else of X."""
    if X.shape[0] == X.shape[1]:
        w, V = lo.linalg.eigsh(X + X.mT, 2, method=method)
        return (w**3).sum() + projected(V.to_dense(), V.to_dense().mT)
    U, s, Vh = lo.linalg.svds(X, 2, method=method)
    return (s**3).sum() + projected(U.to_dense(), Vh.to_dense())


def whole(X):
    return torch.autograd.functional.hessian(lambda X: of_both(X, None), torch.tensor(X)).numpy()


@pytest.mark.full
@pytest.mark.parametrize("shape", [(5, 5), (7, 5)])
def test_second_derivatives_are_those_of_the_whole_matrix(shape):
    X = numbers(*shape)
    expected = whole(X)
    for found in hessians(lambda X: of_both(X, Lanczos()), X):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8 * np.abs(expected).max())


@pytest.mark.full
@pytest.mark.parametrize("shape", [(4, 4), (5, 3)])
def test_second_derivatives_in_jax(shape):
    X = numbers(*shape)
    expected = whole(X)
    found = jax.jit(jax.hessian(lambda X: of_both(X, Lanczos())))(on("jax", X))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8 * np.abs(expected).max())


def curvature(function, X):
    """The gradient, and its derivative in one direction."""
    X = torch.tensor(X, requires_grad=True)
    (gradient,) = torch.autograd.grad(function(X), X, create_graph=True)
    weights = torch.tensor(numbers(*X.shape, seed=5))
    return gradient, torch.autograd.grad((gradient * weights).sum(), X, create_graph=True)[0]


def test_a_norm_by_products_alone_has_a_second_derivative():
    n = 600
    at = np.random.default_rng(0).integers(0, n, (2, 3 * n))
    v = numbers(3 * n)

    def matrix(v):
        return lo.Sparse(v, *at, (n, n))

    found = curvature(lambda v: lo.linalg.norm(matrix(v), 2), v)
    expected = curvature(lambda v: lo.linalg.svdvals(matrix(v))[0], v)
    for one, other in zip(found, expected):
        np.testing.assert_allclose(one.detach(), other.detach(), rtol=0, atol=1e-7 * float(other.detach().abs().max()))


def planted(*values):
    Q = np.linalg.qr(numbers(len(values), len(values)))[0]
    return Q * np.array(values) @ Q.T


def test_values_that_coincide_among_those_wanted():
    X = planted(5, 5, 3, 2, 1, 0.5, 0.2, 0.1)
    for k in (2, 3):

        def values(X, method, k=k):
            return lo.linalg.eigsh((X + X.mT) / 2, k, method=method)[0].sum()

        def space(X, k=k):
            V = lo.linalg.eigsh((X + X.mT) / 2, k, method=Lanczos())[1].to_dense()
            return ((V @ V.mT) ** 3).sum()

        found, expected = [curvature(lambda X, m=m: values(X, m), X) for m in (Lanczos(), None)]
        for one, other in zip(found, expected):
            np.testing.assert_allclose(one.detach(), other.detach(), rtol=0, atol=1e-8)
        h = 1e-4
        step = h * numbers(8, 8, seed=5)
        around = [curvature(space, X + sign * step)[0].detach().numpy() for sign in (1, -1)]
        np.testing.assert_allclose(curvature(space, X)[1].detach(), (around[0] - around[1]) / (2 * h), atol=1e-6)


@pytest.mark.parametrize("backend", ["torch", "jax"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_two_values_apart_by_the_rounding_of_a_larger_matrix_coincide(backend, dtype):
    eps = float(np.finfo(dtype).eps)
    gaps = {"torch": torch_spectra, "jax": jax_spectra}[backend]._inverse_gaps
    for values, wanted in (((5, 5 * (1 + 8 * eps)), 0), ((5, 5 * (1 + 64 * eps)), 1 / (320 * eps)), ((5, 4), -1)):
        found = backends.to_numpy(gaps(backends.asarray(np.array(values, dtype), backend)))
        np.testing.assert_allclose(found, [[0, wanted], [-wanted, 0]], rtol=0.1)


def test_a_value_that_coincides_with_one_that_is_not_wanted_has_no_second_derivative():
    X = torch.tensor(planted(5, 5, 3, 2, 1, 0.5, 0.2, 0.1), requires_grad=True)
    value = lo.linalg.eigsh((X + X.mT) / 2, 1, method=Lanczos())[0].sum()
    (gradient,) = torch.autograd.grad(value, X, create_graph=True)
    assert float(torch.linalg.matrix_norm(gradient, 2).detach()) == pytest.approx(1)  # a first one, of either vector
    with pytest.raises(lo.linalg.ConvergenceError, match=r"derivatives of a few eigenpairs of Dense\(8×8.*coincides"):
        torch.autograd.grad((gradient**3).sum(), X)


@pytest.mark.parametrize(
    "function",
    [
        lambda X: lo.linalg.eigsh(X + X.mT, 2, method=Lanczos())[0].sum(),
        lambda X: lo.linalg.svds(X, 2, method=Lanczos())[0].to_dense()[:, 0].sum(),
    ],
)
def test_third_derivatives_are_nan(function):
    X = torch.tensor(numbers(5, 5), requires_grad=True)
    (gradient,) = torch.autograd.grad(function(X), X, create_graph=True)
    (second,) = torch.autograd.grad((gradient**2).sum(), X, create_graph=True)
    (third,) = torch.autograd.grad((second**2).sum(), X)
    assert bool(second.isfinite().all())
    assert bool(third.isnan().all())


def test_second_derivatives_of_estimates_are_nan():
    found = curvature(lambda X: lo.linalg.svds(X, 2, method=RandomizedSVD())[1].sum(), numbers(9, 6))
    assert bool(found[0].isfinite().all())
    assert bool(found[1].isnan().all())


@pytest.mark.full
def test_other_methods_have_second_derivatives():
    X = torch.tensor(numbers(10, 10))
    found, expected = [
        torch.autograd.functional.hessian(lambda X, m=m: eigenpairs(X + X.mT, "SA", method=m)[0], X)
        for m in (LOBPCG(), Lanczos())
    ]
    np.testing.assert_allclose(found, expected, atol=1e-7 * float(expected.abs().max()))
