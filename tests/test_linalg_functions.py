"""Functions of operators: every case against SciPy's of the matrix, values others got wrong, errors, derivatives."""

import jax
import numpy as np
import pytest
import scipy.linalg
import scipy.sparse
import torch
from conformance import RUNS, SAMPLE
from helpers import as_numpy, build, on
from jax.test_util import check_grads
from torch.autograd import gradcheck, gradgradcheck

import linops as lo

SQUARE = [run for run in RUNS if len(set(build(run[0])[1].shape)) == 1 and run[2] != "float32"]
#: JAX compiles iterations for every size, some seconds each
QUICK = [pytest.param(*run, marks=() if run in SAMPLE and run[1] != "jax" else pytest.mark.full) for run in SQUARE]

BACKENDS = ["numpy", "torch", "jax"]


def plain(number):
    return np.asarray(number) if isinstance(number, (np.generic, np.ndarray)) else as_numpy(number)


def dense(A):
    return plain(A.to_dense())


def close(actual, expected, tolerance=1e-10):
    scale = max(np.abs(expected).max(initial=0), 1e-300)
    np.testing.assert_allclose(actual / scale, expected / scale, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("case", "backend", "dtype"), QUICK)
def test_exponential(case, backend, dtype):
    A, M, array = build(case, dtype, backend)
    found = lo.linalg.expm(A)
    expected = scipy.linalg.expm(M) if len(M) else M
    close(dense(found), expected, 1e-9)
    b = on(backend, array(len(M), 2))
    if np.linalg.norm(M, 2) < 60:
        applied = lo.linalg.Exponential(A, limit=10_000) @ b
        np.testing.assert_allclose(
            plain(applied), expected @ plain(b), rtol=0, atol=1e-8 * max(1, np.abs(expected).max(initial=0))
        )
    if backend == "numpy":
        claimed(found, expected)


def claimed(A, M):
    """Assert that what is known of an operator holds."""
    scale = 1e-9 * max(1, np.abs(M).max(initial=0))
    if A.is_hermitian:
        np.testing.assert_allclose(M, M.conj().T, atol=scale)
        if A.is_positive_semidefinite and len(M):
            assert np.linalg.eigvalsh(M).min() > -scale
    if A.is_symmetric:
        np.testing.assert_allclose(M, M.T, atol=scale)
    if A.is_lower_triangular:
        np.testing.assert_allclose(np.triu(M, 1), 0, atol=scale)
    if A.is_upper_triangular:
        np.testing.assert_allclose(np.tril(M, -1), 0, atol=scale)


FUNCTIONS = {
    "logm": (lo.linalg.logm, scipy.linalg.logm),
    "sqrtm": (lo.linalg.sqrtm, scipy.linalg.sqrtm),
    "matrix_power": (
        lambda A: lo.linalg.matrix_power(A, -0.3),
        lambda M: scipy.linalg.fractional_matrix_power(M, -0.3),
    ),
}


@pytest.mark.parametrize(("case", "backend", "dtype"), QUICK)
def test_functions_with_a_branch(case, backend, dtype):
    A, M, _ = build(case, dtype, backend)
    if not len(M) or not np.isfinite(M).all():
        return
    w, V = np.linalg.eig(M)
    size = np.abs(w).max(initial=0)
    ill = np.abs(w).min() < 1e-6 * size or size == 0 or np.linalg.cond(V) > 1e6
    away = np.abs(np.angle(w)).max()
    for name, (function, reference) in FUNCTIONS.items():
        if ill:
            continue
        if not np.iscomplexobj(M) and (np.abs(np.abs(np.angle(w)) - np.pi) < 1e-9).any():
            with pytest.raises(ValueError, match=rf"linalg\.{name}.*complex"):
                function(A)
        elif away < 3.1:
            found = function(A)
            assert np.iscomplexobj(dense(found)) == np.iscomplexobj(M)
            close(dense(found), reference(M), 1e-7)
            if backend == "numpy":
                claimed(found, reference(M))


@pytest.mark.parametrize(("case", "backend", "dtype"), QUICK)
def test_function_of_eigenvalues_and_integer_powers(case, backend, dtype):
    A, M, array = build(case, dtype, backend)
    n = len(M)
    if not n:
        return
    w, V = np.linalg.eig(M)
    space = {"numpy": np, "torch": torch, "jax": jax.numpy}[A.backend or "numpy"]
    if np.linalg.cond(V) < 1e6 and np.abs(w).max() < 30:
        close(dense(lo.linalg.funm(A, lambda w: space.sin(w) + 2)), (V * (np.sin(w) + 2)) @ np.linalg.inv(V), 1e-8)
    if np.linalg.cond(M) < 1e5:
        b = array(n, 2)
        inverse = np.linalg.inv(M)
        for power in (A**-1, lo.linalg.matrix_power(A, -1)):
            close(plain(power @ on(backend, b)), inverse @ b, 1e-8)
        close(plain((A**-3) @ on(backend, b)), inverse @ inverse @ inverse @ b, 1e-7)


# ---------------------------------------------------------------- structure


def spd(n, seed=0, dtype="float64"):
    random = np.random.default_rng(seed)
    G = random.standard_normal((n, n)) + (1j * random.standard_normal((n, n)) if dtype == "complex128" else 0)
    return lo.assume(lo.Dense(G @ G.conj().T / n + np.eye(n)), lo.Tag.POSITIVE_DEFINITE)


def general(n, seed=0):
    return np.random.default_rng(seed).standard_normal((n, n)) / 2 + 2 * np.eye(n)


#: an operator, the function, and the class of the result
KEPT = {
    "expm diagonal": (lambda: lo.Diagonal(np.ones(3)), "expm", lo.Diagonal),
    "expm identity": (lambda: lo.Identity(3), "expm", "Scaled"),
    "expm zero": (lambda: lo.Zero(3, 3), "expm", lo.Identity),
    "expm multiple": (lambda: -2.5 * lo.Identity(3), "expm", "Scaled"),
    "expm kronecker sum": (lambda: lo.KroneckerSum(general(3), general(2, 1)), "expm", lo.Kronecker),
    "expm of minus": (lambda: -0.1 * lo.KroneckerSum(general(3), general(2, 1)), "expm", lo.Kronecker),
    "expm of i times": (lambda: 0.3j * lo.KroneckerSum(spd(3), spd(2)), "expm", lo.Kronecker),
    "expm shifted": (lambda: lo.KroneckerSum(general(3), general(2)) - 2 * lo.Identity(6), "expm", "Scaled"),
    "expm circulant": (lambda: lo.Circulant(np.array([1.0, 2.0, 3.0, 4.0])), "expm", lo.Circulant),
    "expm circulant, transposed": (lambda: lo.Circulant(np.array([1.0, 2.0, 3.0, 4.0])).T, "expm", lo.Circulant),
    "expm blocks": (lambda: lo.BlockDiag(np.stack([general(3), general(3, 1)])), "expm", lo.BlockDiag),
    "expm two blocks": (lambda: lo.BlockDiag([general(3), general(2, 1)]), "expm", lo.DirectSum),
    "expm kronecker": (lambda: lo.Kronecker(spd(3), spd(2)), "expm", "Product"),
    "sqrtm kronecker": (lambda: lo.Kronecker(spd(3), spd(2, 1)), "sqrtm", lo.Kronecker),
    "sqrtm multiple": (lambda: 3 * lo.Kronecker(spd(3), spd(2, 1)), "sqrtm", "Product"),
    "sqrtm of kronecker, complex": (
        lambda: lo.Kronecker(spd(3, 0, "complex128"), spd(2, 1, "complex128")),
        "sqrtm",
        lo.Kronecker,
    ),
    "logm kronecker": (lambda: lo.Kronecker(spd(3), spd(2, 1)), "logm", lo.KroneckerSum),
    "logm kronecker sum": (lambda: lo.KroneckerSum(spd(3), spd(2, 1)), "logm", "Product"),
    "logm multiple": (lambda: 2 * lo.Identity(3), "logm", "Scaled"),
    "sqrtm zero": (lambda: lo.Zero(3, 3), "sqrtm", lo.Zero),
    "sqrtm circulant": (lambda: lo.Circulant(np.array([4.0, 1.0, 0.0, 0.5])), "sqrtm", lo.Circulant),
    "expm exponential": (lambda: lo.Triangular(general(3), lower=True), "expm", lo.Dense),
}


@pytest.mark.filterwarnings("ignore:Matrix is singular")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", KEPT)
def test_structure_is_kept(name, backend):
    make, function, kind = KEPT[name]
    A = make()
    found = getattr(lo.linalg, function)(A.to(backend=backend))
    assert type(found).__name__ == kind if isinstance(kind, str) else isinstance(found, kind)
    reference = getattr(scipy.linalg, function)(A.to_dense())
    close(dense(found), reference, 1e-12)
    claimed(found, reference)


def test_powers_of_a_permutation_are_permutations():
    A = lo.Permute([1, 2, 0, 3])
    assert isinstance(A**-1, lo.Permute)
    assert isinstance(lo.linalg.matrix_power(A, -2), lo.Permute)
    np.testing.assert_array_equal(dense(A**-2 @ A**2), np.eye(4))
    assert type(A**-1) is type(lo.linalg.inv(A))
    assert (lo.dense(3, 3) ** -2).is_symbolic


# ---------------------------------------------------------------- values that others got wrong


@pytest.mark.parametrize("backend", BACKENDS)
def test_exponentials_with_known_values(backend):
    found = lo.linalg.expm(on(backend, np.array([[1, 2], [-1, 3]])))
    np.testing.assert_allclose(dense(found), scipy.linalg.expm(np.array([[1.0, 2], [-1, 3]])), rtol=1e-6)
    found = lo.linalg.expm(on(backend, 1j * np.array([[1.0, 2], [-1, 3]])))
    expected = [
        [0.4264593 + 1.89217551j, -2.13721484 - 0.97811252j],
        [1.06860742 + 0.48905626j, -1.71075555 + 0.91406299j],
    ]
    np.testing.assert_allclose(dense(found), expected, atol=1e-8)
    found = lo.linalg.expm(on(backend, -2000.0 * np.array([[1, -0.5, -0.5], [0, 0, 0], [0, 0, 0]])))
    np.testing.assert_allclose(dense(found), [[0, 0.5, 0.5], [0, 1, 0], [0, 0, 1]], atol=1e-12)


@pytest.mark.parametrize("backend", [*BACKENDS[:2], pytest.param("jax", marks=pytest.mark.full)])
def test_defective_matrices_and_rotations(backend):
    jordan = on(backend, np.array([[1.0, 1.0], [0.0, 1.0]]))
    np.testing.assert_allclose(dense(lo.linalg.logm(jordan)), [[0, 1], [0, 0]], atol=1e-14)
    np.testing.assert_allclose(dense(lo.linalg.sqrtm(jordan)), [[1, 0.5], [0, 1]], atol=1e-14)
    turn = on(backend, np.array([[0.0, -1.0], [1.0, 0.0]]))
    np.testing.assert_allclose(dense(lo.linalg.logm(turn)), [[0, -np.pi / 2], [np.pi / 2, 0]], atol=1e-13)
    wide = np.diag([1e-8, 1.0, 1e8]) + np.triu(np.ones((3, 3)), 1)
    np.testing.assert_allclose(dense(lo.linalg.logm(on(backend, wide))), scipy.linalg.logm(wide), atol=1e-9)
    with pytest.raises(ValueError, match="nearly dependent"):
        lo.linalg.funm(jordan, abs)


def test_a_semidefinite_root_survives_rounding():
    G = np.random.default_rng(0).standard_normal((6, 2))
    M = lo.assume(lo.Dense(G @ G.T), lo.Tag.POSITIVE_SEMIDEFINITE)
    root = lo.linalg.sqrtm(M)
    np.testing.assert_allclose(dense(root @ root), G @ G.T, atol=1e-12)
    assert root.is_positive_semidefinite


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "complex64", "bool"])
def test_dtypes(backend, dtype):
    M = np.array([[1, 1], [0, 1]]).astype(dtype)
    for name in ("expm", "sqrtm", "logm"):
        found = dense(getattr(lo.linalg, name)(on(backend, M)))
        np.testing.assert_allclose(
            found.astype(complex), getattr(scipy.linalg, name)(M.astype(complex)), atol=3e-3 if "16" in dtype else 1e-5
        )
        if dtype != "bool":
            assert found.dtype == dtype
    applied = lo.linalg.Exponential(lo.Dense(on(backend, M))) @ on(backend, np.ones(2, dtype))
    np.testing.assert_allclose(plain(applied).astype(complex), [2 * np.e, np.e], rtol=2e-3 if "16" in dtype else 1e-5)


# ---------------------------------------------------------------- errors


def test_errors_say_what_to_do():
    negative = lo.Dense(np.diag([-1.0, 2.0]))
    for function in (lo.linalg.logm, lo.linalg.sqrtm, lambda A: lo.linalg.matrix_power(A, 1 / 3)):
        for A in (negative, lo.Diagonal(np.array([-1.0, 2.0])), lo.assume(negative, lo.Tag.SYMMETRIC), -lo.Identity(2)):
            with pytest.raises(ValueError, match=r"\(2×2.*negative.*A\.to\(dtype='complex128'\)"):
                function(A)
        with pytest.raises(ValueError, match="expected a square operator"):
            function(np.ones((2, 3)))
        with pytest.raises(TypeError, match="symbolic"):
            function(lo.dense(3, 3))
    for A in (lo.Diagonal(np.array([0.0, 1.0])), lo.Dense(np.array([[0.0, 1.0], [0.0, 1.0]])), lo.Zero(2, 2)):
        with pytest.raises(lo.linalg.SingularError, match="singular"):
            lo.linalg.logm(A)
        with pytest.raises(lo.linalg.SingularError, match="singular"):
            lo.linalg.matrix_power(A, -0.5)
    with pytest.raises(TypeError, match="exponent must be an integer or a fraction"):
        lo.linalg.matrix_power(negative, 1j)
    with pytest.raises(TypeError, match="f must be a function"):
        lo.linalg.funm(negative, 2)
    with pytest.raises(ValueError, match="not known to be Hermitian"):
        lo.linalg.HermitianFunction(lo.Dense(general(3)), np.exp)


@pytest.mark.full
@pytest.mark.parametrize("backend", BACKENDS)
def test_complex_values_of_real_numbers(backend):
    A = lo.Dense(on(backend, np.array([[-1.0, 0.5], [0.0, 2.0]]))).to(dtype="complex128")
    for name in ("logm", "sqrtm"):
        found = dense(getattr(lo.linalg, name)(A))
        close(found, getattr(scipy.linalg, name)(np.array([[-1.0, 0.5], [0.0, 2.0]]).astype(complex)), 1e-7)


# ---------------------------------------------------------------- products alone


def laplacian(n, backend="numpy"):
    entries = scipy.sparse.diags_array([1.0, -2.0, 1.0], offsets=[-1, 0, 1], shape=(n, n))
    return lo.assume(lo.aslinearoperator(scipy.sparse.csr_array(entries)).to(backend=backend), lo.Tag.SYMMETRIC)


@pytest.mark.parametrize("backend", [*BACKENDS[:2], pytest.param("jax", marks=pytest.mark.full)])
def test_large_operators_are_not_formed(backend):
    A = laplacian(7000, backend)
    b = np.random.default_rng(0).standard_normal((7000, 3))
    found = lo.linalg.expm(A)
    assert isinstance(found, lo.linalg.Exponential)
    assert found.is_positive_definite
    S = scipy.sparse.diags_array([1.0, -2.0, 1.0], offsets=[-1, 0, 1], shape=(7000, 7000)).tocsr()
    expected = scipy.sparse.linalg.expm_multiply(S, b)
    np.testing.assert_allclose(plain(found @ on(backend, b)), expected, atol=1e-12)
    np.testing.assert_allclose(plain(on(backend, b.T) @ found), expected.T, atol=1e-12)
    np.testing.assert_allclose(plain(lo.linalg.inv(found) @ (found @ on(backend, b))), b, atol=1e-11)
    space = {"numpy": np, "torch": torch, "jax": jax.numpy}[backend]
    cosine = lo.linalg.funm(A, space.cos)
    assert isinstance(cosine, lo.linalg.HermitianFunction)
    expected = scipy.sparse.linalg.expm_multiply(1j * S, b).real
    np.testing.assert_allclose(plain(cosine @ on(backend, b)), expected, atol=1e-12)
    turned = lo.linalg.funm(A, lambda w: space.exp(1j * w))
    expected = scipy.sparse.linalg.expm_multiply(-1j * S, b)
    np.testing.assert_allclose(plain(turned.H @ on(backend, b)), expected, atol=1e-12)


def test_unconverged_products_say_so():
    A = laplacian(50)
    with pytest.raises(lo.linalg.ConvergenceError, match=r"Exponential\(limit=…\)|limit=…"):
        lo.linalg.Exponential(1000 * A) @ np.ones(50)
    with pytest.raises(lo.linalg.ConvergenceError, match="spectrum="):
        lo.linalg.HermitianFunction(A, np.abs) @ np.ones(50)
    root = lo.linalg.HermitianFunction(-A + lo.Identity(50), np.sqrt, spectrum=(0.9, 5.1))
    np.testing.assert_allclose(
        root @ np.ones(50), scipy.linalg.sqrtm((-A + lo.Identity(50)).to_dense()) @ np.ones(50), atol=1e-12
    )

    def shrinking(x):  # of no linear map: its first products do not tell of the next
        return 1e-9 * x

    tricky = lo.Function((3, 3), lambda x: 50 * x if abs(x).max() > 0.9999 else shrinking(x), lambda x: shrinking(x))
    with pytest.raises(lo.linalg.ConvergenceError):
        lo.linalg.Exponential(tricky) @ np.full(3, 1e5)
    jumped = jax.jit(lambda c: lo.linalg.Exponential(c * A.to(backend="jax")) @ jax.numpy.ones(50))
    assert np.isnan(jumped(1000.0)).all()
    np.testing.assert_allclose(jumped(1.0), lo.linalg.Exponential(A) @ np.ones(50), atol=1e-12)


# ---------------------------------------------------------------- derivatives


def hermitian(M):
    return lo.assume(lo.Dense((M + M.conj().T) / 2), lo.Tag.HERMITIAN)


#: functions of a matrix that is near 2 I, or of that and a vector
DIFFERENTIATED = {
    "expm": lambda M: lo.linalg.expm(M).to_dense(),
    "expm of a Hermitian one": lambda M: lo.linalg.expm(hermitian(M)).to_dense(),
    "expm of a Kronecker sum": lambda M: lo.linalg.expm(lo.KroneckerSum(M, M)).to_dense(),
    "sqrtm": lambda M: lo.linalg.sqrtm(M).to_dense(),
    "logm": lambda M: lo.linalg.logm(M).to_dense(),
    "matrix_power": lambda M: lo.linalg.matrix_power(M, -0.3).to_dense(),
    "inverse squared": lambda M: (lo.Dense(M) ** -2).to_dense(),
    "exponential": lambda M: lo.linalg.Exponential(lo.Dense(M)).to_dense(),
    "exponential, adjoint": lambda M: lo.linalg.Exponential(lo.Dense(M)).H.to_dense(),
    "chebyshev": lambda M: lo.linalg.HermitianFunction(hermitian(M), lambda w: w**2 + w**3).to_dense(),
}


def near(dtype="float64", n=3):
    random = np.random.default_rng(7)
    M = random.standard_normal((n, n)) + (1j * random.standard_normal((n, n)) if dtype == "complex128" else 0)
    return M / 2 + 2 * np.eye(n)


#: the roots' iterations take seconds to differentiate twice
SLOW = ("logm", "matrix_power")
IN_TORCH = [
    pytest.param(
        name, dtype, marks=pytest.mark.full if name in SLOW or (name == "sqrtm" and dtype != "float64") else ()
    )
    for name in DIFFERENTIATED
    for dtype in ("float64", "complex128")
]


@pytest.mark.parametrize(("name", "dtype"), IN_TORCH)
def test_gradients_in_torch(name, dtype):
    tensor = torch.tensor(near(dtype, 2), requires_grad=True)
    assert gradcheck(DIFFERENTIATED[name], [tensor])
    assert gradgradcheck(DIFFERENTIATED[name], [tensor])
    many = torch.func.vmap(DIFFERENTIATED[name])(torch.stack([tensor.detach(), tensor.detach() + 0.1]))
    np.testing.assert_allclose(many[0], DIFFERENTIATED[name](tensor).detach(), atol=1e-9)


#: JAX compiles the others for seconds
IN_JAX = [pytest.param(name, marks=() if name == "exponential" else pytest.mark.full) for name in DIFFERENTIATED]


@pytest.mark.full
@pytest.mark.parametrize("name", IN_JAX)
def test_gradients_in_jax(name):
    array = on("jax", near(n=2))
    check_grads(DIFFERENTIATED[name], [array], 2, modes=["rev"])
    compiled = jax.jit(DIFFERENTIATED[name])(array)
    np.testing.assert_allclose(plain(compiled), plain(DIFFERENTIATED[name](array)), atol=1e-9)
    many = jax.vmap(DIFFERENTIATED[name])(jax.numpy.stack([array, array + 0.1]))
    np.testing.assert_allclose(plain(many)[0], plain(compiled), atol=1e-9)


def test_gradients_where_eigenvalues_coincide():
    for function in (lo.linalg.Exponential, lambda A: lo.linalg.HermitianFunction(A, torch.exp)):
        M = torch.eye(3, dtype=torch.float64, requires_grad=True)
        (function(hermitian(M)) @ torch.ones(3, dtype=torch.float64))[0].backward()
        expected = np.e * np.array([[1, 0.5, 0.5], [0.5, 0, 0], [0.5, 0, 0]])
        np.testing.assert_allclose(M.grad, expected, atol=1e-12)


@pytest.mark.parametrize("name", ["exponential", pytest.param("chebyshev", marks=pytest.mark.full)])
def test_gradients_inside_jit(name):
    array = on("jax", near())
    gradient = jax.grad(lambda M: DIFFERENTIATED[name](M).sum())
    np.testing.assert_allclose(jax.jit(gradient)(array), gradient(array), atol=1e-9)
