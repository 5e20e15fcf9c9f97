"""Functions of Hermitian operators whose eigenvalues coincide: first and second derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import torch
from helpers import as_numpy

import linops as lo

SPECTRA = {
    "apart": [1.0, 2.0, 3.0],
    "two equal": [2.0, 2.0, 5.0],
    "all equal": [2.0, 2.0, 2.0],
    "close": [2.0, 2.0 + 1e-9, 2.0 + 3e-5],
    "wide": [1e-6, 1.0, 40.0],
}
#: names → (of an operator, of a matrix by SciPy)
FUNCTIONS = {
    "expm": (lo.linalg.expm, scipy.linalg.expm),
    "sqrtm": (lo.linalg.sqrtm, scipy.linalg.sqrtm),
    "logm": (lo.linalg.logm, scipy.linalg.logm),
    "power": (lambda A: lo.linalg.matrix_power(A, -0.3), lambda M: scipy.linalg.fractional_matrix_power(M, -0.3)),
    "cosine": (lambda A: lo.linalg.funm(A, _space(A).cos), scipy.linalg.cosm),
    "turned": (lambda A: lo.linalg.funm(A, lambda w: _space(A).exp(1j * w)), lambda M: scipy.linalg.expm(1j * M)),
}


def _space(A):
    return {"torch": torch, "jax": jnp, "numpy": np}[A.backend]


def matrix(spectrum, dtype="float64"):
    random = np.random.default_rng(len(spectrum))
    n = len(spectrum)
    M = random.standard_normal((n, n)) + (1j * random.standard_normal((n, n)) if dtype == "complex128" else 0)
    Q = np.linalg.qr(M)[0]
    return (Q * np.array(spectrum)) @ Q.conj().T


def definite(S):
    return lo.assume(lo.Dense((S + S.mT.conj()) / 2), lo.Tag.POSITIVE_DEFINITE)


def frechet(reference, M, E):
    """The derivative along E: a block of the function of a larger matrix (Mathias, 1996)."""
    n = len(M)
    return reference(np.block([[M, E], [np.zeros_like(M), M]]))[:n, n:]


def second(reference, M, E, G):
    """The second derivative along E and G, from the function of a matrix four times as large."""
    n, zero = len(M), np.zeros_like(M)
    found = reference(np.block([[M, E, G, zero], [zero, M, zero, G], [zero, zero, M, E], [zero, zero, zero, M]]))
    return found[:n, 3 * n :]


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives_along_directions(name, spectrum, dtype):
    function, reference = FUNCTIONS[name]
    M, E, G = (matrix(one, dtype) for one in (SPECTRA[spectrum], [1.0, -0.5, 0.3], [0.2, 0.7, -1.0]))
    if spectrum == "wide" and name in ("sqrtm", "logm", "power"):
        pytest.skip("the reference loses its digits")

    def f(S):
        return function(definite(S)).to_dense()

    tensors = [torch.from_numpy(one) for one in (M, E, G)]
    value, first = torch.func.jvp(f, (tensors[0],), (tensors[1],))
    size = np.abs(reference(M)).max()
    np.testing.assert_allclose(value, reference(M), atol=1e-10 * size)
    expected = frechet(reference, M, E)
    np.testing.assert_allclose(first, expected, atol=1e-9 * np.abs(expected).max())
    twice = torch.func.jvp(lambda S: torch.func.jvp(f, (S,), (tensors[1],))[1], (tensors[0],), (tensors[2],))[1]
    expected = second(reference, M, E, G)
    tolerance = 3e-7 if spectrum == "close" else 1e-8
    np.testing.assert_allclose(twice, expected, atol=tolerance * max(1, np.abs(expected).max()))


@pytest.mark.full
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("spectrum", ["two equal", "all equal"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_backwards(name, spectrum, dtype):
    tensor = torch.from_numpy(matrix(SPECTRA[spectrum], dtype)).requires_grad_()
    b = torch.from_numpy(np.random.default_rng(0).standard_normal(3)).to(tensor.dtype)

    def f(S):
        found = FUNCTIONS[name][0](definite(S))
        return found @ b.to(found.dtype)

    assert torch.autograd.gradcheck(f, tensor)
    assert torch.autograd.gradgradcheck(f, tensor)


@pytest.mark.full
@pytest.mark.parametrize("name", ["expm", "turned", "logm"])
def test_jax_has_the_derivatives_of_torch(name):
    M, E, G = (matrix(one) for one in (SPECTRA["two equal"], [1.0, -0.5, 0.3], [0.2, 0.7, -1.0]))
    function, reference = FUNCTIONS[name]

    def f(S):
        return function(definite(S)).to_dense()

    first = jax.jit(lambda S, E: jax.jvp(f, (S,), (E,))[1])
    np.testing.assert_allclose(first(M, E), frechet(reference, M, E), atol=1e-10)
    twice = jax.jvp(lambda S: first(S, E), (M,), (G,))[1]
    np.testing.assert_allclose(twice, second(reference, M, E, G), atol=1e-8)

    def number(S):
        return (jnp.abs(f(S)) ** 2).sum() + (jnp.real(f(S)) * E).sum()

    hessian, gradient = jax.jit(jax.hessian(number))(M), jax.jit(jax.grad(number))(M)
    tensor = torch.from_numpy(M)

    def same(S):
        found = f(S)
        return (found.abs() ** 2).sum() + (found.real * torch.from_numpy(E)).sum()

    np.testing.assert_allclose(gradient, torch.func.grad(same)(tensor), atol=1e-8)
    np.testing.assert_allclose(hessian, torch.autograd.functional.hessian(same, tensor), atol=1e-7)
    many = jax.vmap(jax.grad(number))(jnp.stack([M, M + np.eye(3)]))
    np.testing.assert_allclose(many[0], gradient, atol=1e-9)


def _decaying(space):
    return lambda S, t: (lo.linalg.funm(definite(S), lambda w: space.exp(-t * w)) @ space.ones_like(S[0])).sum()


@pytest.mark.full
def test_parameters_of_the_function_have_derivatives_too():
    M = torch.from_numpy(matrix(SPECTRA["two equal"])).requires_grad_()
    t, f = torch.tensor(0.7, dtype=torch.float64, requires_grad=True), _decaying(torch)
    assert torch.autograd.gradcheck(f, (M, t))
    assert torch.autograd.gradgradcheck(f, (M, t))


@pytest.mark.full
def test_parameters_of_the_function_have_derivatives_in_jax():
    M = matrix(SPECTRA["two equal"])
    found = jax.jit(jax.hessian(_decaying(jnp), argnums=(0, 1)))(M, 0.7)
    expected = torch.func.hessian(_decaying(torch), argnums=(0, 1))(
        torch.from_numpy(M), torch.tensor(0.7, dtype=torch.float64)
    )
    for row, other in zip(found, expected):
        for one, two in zip(row, other):
            np.testing.assert_allclose(one, two, atol=1e-8)


def test_structures_have_the_derivatives_of_their_matrix():
    eye = torch.eye(2, dtype=torch.float64)
    c = torch.tensor([3.0, 1.0, 1.0], dtype=torch.float64)
    stack = torch.stack([2 * eye, torch.tensor([[2.0, 0.5], [0.5, 2.0]], dtype=torch.float64)])
    cases = {
        "Kronecker": (lambda X, Y: lo.kron(definite(X), definite(Y)) + 0.5 * lo.Identity(4), (2 * eye, eye)),
        "blocks": (lambda B: lo.assume(lo.BlockDiag((B + B.mT) / 2), lo.Tag.POSITIVE_DEFINITE), (stack,)),
        "shifted blocks": (
            lambda B: lo.assume(lo.BlockDiag((B + B.mT) / 2), lo.Tag.HERMITIAN) + lo.Identity(4),
            (stack,),
        ),
        "circulant": (lambda c: lo.assume(lo.Circulant(c + c[[0, 2, 1]]), lo.Tag.POSITIVE_DEFINITE), (c,)),
        "multiple": (lambda X: -2.0 * definite(X), (2 * eye,)),
    }
    for name, (make, leaves) in cases.items():
        b = torch.arange(1.0, make(*leaves).shape[0] + 1, dtype=torch.float64)

        def value(*leaves, make=make, b=b):
            return lo.linalg.expm(make(*leaves)) @ b

        def dense(*leaves, make=make, b=b):
            return torch.linalg.matrix_exp(make(*leaves).to_dense()) @ b

        for one, other in zip(*[torch.func.jacrev(f, tuple(range(len(leaves))))(*leaves) for f in (value, dense)]):
            np.testing.assert_allclose(one, other, atol=1e-9, err_msg=name)


def test_third_derivatives_are_errors_in_torch():
    M = torch.from_numpy(matrix(SPECTRA["two equal"])).requires_grad_()
    found = lo.linalg.expm(definite(M)).to_dense().sum()
    for _ in range(2):
        (gradient,) = torch.autograd.grad(found, M, create_graph=True)
        found = (gradient**2).sum()
    with pytest.raises(NotImplementedError, match="third"):
        torch.autograd.grad(found, M)


def test_numpy_is_as_before():
    M = matrix(SPECTRA["two equal"])
    np.testing.assert_allclose(as_numpy(lo.linalg.expm(definite(M)).to_dense()), scipy.linalg.expm(M), rtol=1e-12)


@pytest.mark.full
def test_third_derivatives_are_nan_in_jax():
    M = matrix(SPECTRA["two equal"])

    def f(S):
        return (lo.linalg.expm(definite(S)).to_dense() * jnp.arange(9.0).reshape(3, 3)).sum()

    for outer in (jax.jacfwd, jax.jacrev):
        assert np.isnan(outer(jax.hessian(f))(M)).all()


@pytest.mark.full
@pytest.mark.parametrize("spectrum", [[1.0, 1.0, 2.0], [2.0, 2.0, 2.0], [1.0, 1.0 + 1e-9, 3.0], [0.5, 1.0, 2.0]])
def test_funm_of_a_matrix_that_is_not_hermitian(spectrum):
    X = np.random.default_rng(5).standard_normal((3, 3)) + 3 * np.eye(3)
    M = X @ np.diag(spectrum) @ np.linalg.inv(X)
    E, G = np.random.default_rng(6).standard_normal((2, 3, 3))

    def f(S, space=torch):
        return lo.linalg.funm(S, space.exp).to_dense()

    tensors = [torch.from_numpy(one) for one in (M, E, G)]
    first = torch.func.jvp(f, (tensors[0],), (tensors[1],))[1]
    np.testing.assert_allclose(first, scipy.linalg.expm_frechet(M, E)[1], atol=1e-8)
    twice = torch.func.jvp(lambda S: torch.func.jvp(f, (S,), (tensors[1],))[1], (tensors[0],), (tensors[2],))[1]
    expected = second(scipy.linalg.expm, M, E, G)
    np.testing.assert_allclose(twice, expected, atol=1e-6 * np.abs(expected).max())

    def number(S):
        return (f(S) * tensors[1]).sum() ** 2

    def same(S):
        return (torch.linalg.matrix_exp(S) * tensors[1]).sum() ** 2

    for derivative in (torch.func.grad, torch.func.hessian):
        one, other = derivative(number)(tensors[0]), derivative(same)(tensors[0])
        np.testing.assert_allclose(one, other, atol=1e-6 * float(other.abs().max()))
    if spectrum[0] == spectrum[1]:
        hessian = jax.jit(jax.hessian(lambda S: (f(S, jnp) * E).sum() ** 2))(M)
        np.testing.assert_allclose(hessian, torch.func.hessian(same)(tensors[0]), atol=1e-6 * np.abs(expected).max())
