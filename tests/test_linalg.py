"""`lo.linalg`: solve, inv, determinants, trace and diagonal of every case against dense NumPy; errors; derivatives."""

import jax
import numpy as np
import pytest
import scipy.sparse
import torch
from conformance import RUNS, marked
from helpers import as_numpy, build, on
from jax.test_util import check_grads
from torch.autograd import gradcheck, gradgradcheck

import linops as lo
from linops.linalg.inversion import inverse_

SQUARE = [run for run in RUNS if len(set(build(run[0])[1].shape)) == 1 and run[2] != "float32"]
MARKED = marked(SQUARE, 3)
TOLERANCE = 1e-9


def plain(number):
    return np.asarray(number) if isinstance(number, (np.generic, np.ndarray)) else as_numpy(number)


def close(actual, expected, factor=1.0):
    np.testing.assert_allclose(
        plain(actual), expected, rtol=0, atol=TOLERANCE * factor * max(1, np.abs(expected).max(initial=0))
    )


@pytest.mark.parametrize(("case", "backend", "dtype"), MARKED)
def test_determinant_trace_and_diagonal(case, backend, dtype):
    A, M, _ = build(case, dtype, backend)
    close(lo.linalg.diagonal(A), np.diagonal(M))
    close(lo.linalg.trace(A), np.trace(M))
    sign, logarithm = map(plain, lo.linalg.slogdet(A))
    expected, size = np.linalg.slogdet(M)
    if size < -25:  # zero, or zero but for rounding
        assert logarithm < -20
    else:
        np.testing.assert_allclose(sign, expected, atol=1e-9)
        np.testing.assert_allclose(logarithm, size, atol=1e-9)
        close(lo.linalg.det(A), np.linalg.det(M))
    assert not np.iscomplexobj(logarithm)


@pytest.mark.parametrize(("case", "backend", "dtype"), MARKED)
def test_solve_and_inverse(case, backend, dtype):
    A, M, array = build(case, dtype, backend)
    n = len(M)
    condition = np.linalg.cond(M) if n else 1
    if condition > 1e8:
        if condition > 1e17 and backend != "jax":
            try:
                x = lo.linalg.solve(A, on(backend, array(n)))
            except lo.linalg.SingularError:
                return
            assert np.abs(plain(x)).max() > 1e10  # a pivot that rounding made other than zero
        return
    inverse = np.linalg.inv(M)
    for shape in ((n,), (n, 1), (n, n + 2), (2, n, 3)):
        b = array(*shape)
        x = lo.linalg.solve(A, on(backend, b))
        assert plain(x).shape == b.shape
        close(x, inverse @ b, condition)
    Ai = lo.linalg.inv(A)
    b = array(n, 3)
    close(Ai @ on(backend, b), inverse @ b, condition)
    close(Ai @ on(backend, b), inverse @ b, condition)  # by what was kept
    close(Ai.T @ on(backend, b), inverse.T @ b, condition)
    close(Ai.H @ on(backend, b), inverse.conj().T @ b, condition)
    close(on(backend, b.T) @ Ai, b.T @ inverse, condition)
    assert Ai.tags.yes & A.tags.yes & lo.Tag.POSITIVE_DEFINITE == A.tags.yes & lo.Tag.POSITIVE_DEFINITE


# ---------------------------------------------------------------- values that others got wrong


def test_determinants_with_exponents():
    A = lo.Kronecker(np.diag([2.0, 2.0]), np.diag([3.0, 3.0, 3.0]))
    assert float(lo.linalg.logdet(A)) == pytest.approx(10.750556815368331, rel=1e-15)
    assert tuple(map(float, lo.linalg.slogdet(lo.kron(np.diag([-1.0, 1.0]), lo.Identity(3))))) == (-1, 0)
    assert tuple(map(float, lo.linalg.slogdet(lo.kron(np.diag([-1.0, 1.0]), lo.Identity(2))))) == (1, 0)
    sign, logarithm = lo.linalg.slogdet(2 * lo.Identity(3))
    assert (float(sign), float(logarithm)) == (1, pytest.approx(3 * np.log(2)))
    small = lo.Identity(512) / np.float32(500000) @ lo.Diagonal(np.ones(512, "float32"))
    assert float(lo.linalg.logdet(small)) == pytest.approx(-6718.65, rel=1e-6)


def test_determinants_of_singular_complex_and_empty_matrices():
    sign, logarithm = lo.linalg.slogdet(lo.Diagonal(np.array([1j, -2])))
    assert complex(sign) == -1j
    assert float(logarithm) == pytest.approx(np.log(2))
    assert tuple(map(float, lo.linalg.slogdet(np.zeros((0, 0))))) == (1, 0)
    assert tuple(map(float, lo.linalg.slogdet(lo.Zero(3, 3)))) == (0, -np.inf)
    assert tuple(map(float, lo.linalg.slogdet(lo.Kronecker(np.ones((2, 3)), np.ones((3, 2)))))) == (0, -np.inf)


@pytest.mark.parametrize("n", range(1, 13))
def test_determinants_of_transforms(n):
    for A in (lo.DFT(n), lo.DFT(n, "ortho"), lo.DFT(n).H):
        sign, logarithm = lo.linalg.slogdet(A)
        expected, size = np.linalg.slogdet(A.to_dense())
        np.testing.assert_allclose(complex(sign), expected, atol=1e-9)
        np.testing.assert_allclose(float(logarithm), size, atol=1e-9)


def test_parity_of_permutations():
    random = np.random.default_rng(0)
    for n in range(1, 40):
        indices = random.permutation(n)
        assert float(lo.linalg.det(lo.Permute(indices))) == round(np.linalg.det(np.eye(n)[indices]))
    for dims in ((2, 3), (3, 3), (2, 2, 3), (3, 1, 5), (2, 3, 2, 3)):
        for _ in range(6):
            A = lo.Permute.axes(dims, tuple(map(int, random.permutation(len(dims)))))
            assert float(lo.linalg.det(A)) == round(np.linalg.det(A.to_dense()))


def test_tridiagonal_solves_pivot():
    A = lo.Tridiagonal(np.array([1.0, 1.0]), np.array([0.0, 0.0, 1.0]), np.array([1.0, 1.0]))
    np.testing.assert_allclose(lo.linalg.solve(A, np.array([1.0, 2.0, 3.0])), [0, 1, 2], atol=1e-15)


def test_triangular_complex():
    L = lo.Triangular(np.array([[1 + 1j, 0], [2, 1j]]), lower=True)
    b = np.array([1.0 + 0j, 1.0])
    np.testing.assert_allclose(lo.linalg.solve(L, b), [0.5 - 0.5j, 1], atol=1e-15)
    np.testing.assert_allclose(lo.linalg.solve(L.H, b), [1.5 - 0.5j, 1j], atol=1e-15)


# ---------------------------------------------------------------- errors, dtypes, what is kept

SINGULAR = {
    "dense": lambda: lo.Dense(np.ones((3, 3))),
    "diagonal": lambda: lo.Diagonal(np.array([1.0, 0.0])),
    "zero": lambda: lo.Zero(2, 2),
    "triangular": lambda: lo.Triangular(np.zeros((2, 2)), lower=True),
    "blocks": lambda: lo.BlockDiag(np.ones((2, 2, 2))),
    "uneven blocks": lambda: lo.BlockDiag([np.ones((2, 3)), np.ones((2, 1))]),
    "rectangular factors": lambda: lo.Kronecker(np.ones((2, 3)), np.ones((3, 2))),
    "narrow": lambda: lo.Dense(np.ones((3, 2))) @ lo.Dense(np.ones((2, 3))),
    "circulant": lambda: lo.Circulant(np.array([1.0, -1.0, 0.0])),
    "tridiagonal": lambda: lo.Tridiagonal(np.zeros(1), np.zeros(2), np.zeros(1)),
    "multiple": lambda: 0.0 * lo.Diagonal(np.ones(2)),
}


@pytest.mark.parametrize("name", SINGULAR)
def test_singular_operators_say_so(name):
    A = SINGULAR[name]()
    with pytest.raises(lo.linalg.SingularError, match=r"singular.*lo\.linalg\."):
        lo.linalg.solve(A, np.ones(A.shape[0]))
    with pytest.raises(np.linalg.LinAlgError):
        lo.linalg.inv(A) @ np.ones(A.shape[0])
    assert float(lo.linalg.det(A)) == pytest.approx(0, abs=1e-12)


def test_operands_are_checked():
    with pytest.raises(ValueError, match=r"linalg\.solve\(Dense\(2×3.*square"):
        lo.linalg.solve(np.ones((2, 3)), np.ones(2))
    with pytest.raises(TypeError, match="symbolic"):
        lo.linalg.solve(lo.dense(3, 3), np.ones(3))
    with pytest.raises(ValueError, match="right-hand side of shape"):
        lo.linalg.solve(np.eye(3), np.ones(2))
    with pytest.raises(TypeError, match="mixed backends"):
        lo.linalg.solve(lo.Dense(np.eye(3)), torch.ones(3, dtype=torch.float64))
    with pytest.raises(ValueError, match="stack of matrices"):
        lo.linalg.solve(np.ones((2, 3, 3)), np.ones(3))
    with pytest.raises(TypeError, match="expected None, or a method"):
        lo.linalg.solve(np.eye(3), np.ones(3), "lu")
    with pytest.raises(ValueError, match="negative"):
        lo.linalg.logdet(np.diag([1.0, -1.0]))
    with pytest.raises(lo.linalg.SingularError, match="not positive definite"):
        lo.linalg.solve(np.diag([1.0, -1.0]), np.ones(2), lo.linalg.Cholesky())


@pytest.mark.parametrize("dtype", ["int64", "float16", "float32", "complex64", "bool"])
@pytest.mark.parametrize("backend", ["numpy", "torch", "jax"])
def test_dtypes(backend, dtype):
    M = np.array([[1, 1, 0], [0, 1, 0], [0, 1, 1]]).astype(dtype)
    A, b = lo.Dense(on(backend, M)), on(backend, np.array([1, 1, 1]).astype(dtype))
    x = lo.linalg.solve(A, b)
    np.testing.assert_allclose(plain(x).astype(complex), [0, 1, 0], atol=1e-3)
    if dtype in ("float16", "float32", "complex64"):
        assert plain(x).dtype == dtype
    np.testing.assert_allclose(
        plain(lo.linalg.inv(A).to_dense()).astype(complex), np.linalg.inv(M.astype(complex)), atol=1e-3
    )


def test_a_factorisation_is_made_once(monkeypatch):
    from linops.linalg.methods import lu

    calls, factor = [], lu.lapack.lu_factor
    monkeypatch.setattr(lu.lapack, "lu_factor", lambda a: calls.append(1) or factor(a))
    A = np.random.default_rng(0).standard_normal((5, 5))
    Ai = lo.linalg.inv(A)
    for b in (np.ones(5), np.ones((5, 2)), np.ones((5, 9))):
        np.testing.assert_allclose(A @ (Ai @ b), b, atol=1e-12)
    np.testing.assert_allclose(A.T @ (Ai.T @ np.ones(5)), np.ones(5), atol=1e-12)
    assert len(calls) == 1


# ---------------------------------------------------------------- derivatives


def _tensor(*shape, dtype="float64"):
    random = np.random.default_rng(sum(shape))
    values = random.standard_normal(shape) + (1j * random.standard_normal(shape) if dtype == "complex128" else 0)
    return torch.tensor(values, requires_grad=True)


DIFFERENTIATED = {
    "tridiagonal": lambda below, d, u, b: lo.linalg.solve(lo.Tridiagonal(below, d + 3, u), b),
    "kronecker": lambda A, B, b: lo.linalg.solve(lo.Kronecker(A, B), b),
    "kept": lambda A, b: lo.linalg.inv(lo.Dense(A)) @ b,
    "blocks": lambda A, b: lo.linalg.solve(lo.BlockDiag(A), b),
    "triangular": lambda A, b: lo.linalg.solve(lo.Triangular(A, lower=True), b),
    "logdet": lambda A, B: lo.linalg.slogdet(lo.Kronecker(A, B))[1],
    "trace": lambda A, B: lo.linalg.trace(lo.Dense(A) @ lo.Kronecker(B, lo.Identity(2))),
}
SHAPES = {
    "tridiagonal": [(3,), (4,), (3,), (4, 2)],
    "kronecker": [(3, 3), (2, 2), (6,)],
    "kept": [(3, 3), (3, 5)],
    "blocks": [(2, 2, 2), (4, 1)],
    "triangular": [(3, 3), (3,)],
    "logdet": [(3, 3), (2, 2)],
    "trace": [(4, 4), (2, 2)],
}


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("name", DIFFERENTIATED)
def test_gradients_in_torch(name, dtype):
    tensors = [_tensor(*shape, dtype=dtype) for shape in SHAPES[name]]
    assert gradcheck(DIFFERENTIATED[name], tensors)
    assert gradgradcheck(DIFFERENTIATED[name], tensors)


@pytest.mark.full
@pytest.mark.parametrize("name", DIFFERENTIATED)
def test_gradients_in_jax(name):
    arrays = [on("jax", _tensor(*shape).detach().numpy()) for shape in SHAPES[name]]
    check_grads(DIFFERENTIATED[name], arrays, 2)
    compiled = jax.jit(DIFFERENTIATED[name])(*arrays)
    np.testing.assert_allclose(plain(compiled), plain(DIFFERENTIATED[name](*arrays)), atol=1e-9)
    many = jax.vmap(DIFFERENTIATED[name])(*[jax.numpy.stack([array, 2 * array + 1]) for array in arrays])
    np.testing.assert_allclose(plain(many)[0], plain(compiled), atol=1e-9)


@pytest.mark.parametrize("name", DIFFERENTIATED)
def test_vmap_in_torch(name):
    tensors = [_tensor(*shape).detach() for shape in SHAPES[name]]
    many = torch.func.vmap(DIFFERENTIATED[name])(*[torch.stack([tensor, 2 * tensor + 1]) for tensor in tensors])
    np.testing.assert_allclose(many[0], DIFFERENTIATED[name](*tensors), atol=1e-9)


# ---------------------------------------------------------------- structures that have a rule of their own


def _random(*shape, dtype="float64"):
    random = np.random.default_rng(sum(shape) + 7)
    values = random.standard_normal(shape)
    return values + 1j * random.standard_normal(shape) if dtype == "complex128" else values


def _definite(n, dtype):
    a = _random(n, n, dtype=dtype)
    return lo.assume(lo.Dense(a @ a.conj().T + np.eye(n)), lo.Tag.POSITIVE_DEFINITE)


def _sparse(n, dtype):
    values = np.diag(_random(n, dtype=dtype) + 4) + np.diag(_random(n - 1, dtype=dtype), 1)
    values[n - 1, 0] = 2
    rows, columns = np.nonzero(values)
    return lo.Sparse(values[rows, columns], rows, columns, (n, n))


#: name: (the operator of a dtype, what its rule is to say)
STRUCTURES = {
    "woodbury": (
        lambda t: lo.Diagonal(_random(9, dtype=t) + 4) + lo.LowRank(_random(9, 2, dtype=t), _random(2, 9, dtype=t)),
        "Woodbury",
    ),
    "woodbury of two": (
        lambda t: (
            lo.BlockDiag(_random(3, 3, 3, dtype=t))
            - 2 * lo.LowRank(_random(9, 1, dtype=t), _random(1, 9, dtype=t))
            + lo.Dense(_random(9, 2, dtype=t)) @ lo.Dense(_random(2, 9, dtype=t))
        ),
        "Woodbury",
    ),
    "butterfly": (lambda t: lo.butterfly(8, 8).init(seed=3).to(dtype=t), "those of its factors"),
    "btt": (lambda t: lo.btt(9, 9, rank=1).init(seed=3).to(dtype=t), "those of its factors"),
    "btt of three": (lambda t: lo.btt(8, 8, rank=1, cores=3).init(seed=3).to(dtype=t), ""),
    "monarch": (lambda t: lo.monarch(16, 16).init(seed=0).to(dtype=t), "those of the factors"),
    "sparse": (lambda t: _sparse(8, t), "SuperLU"),
    "toeplitz": (lambda t: lo.Toeplitz(_random(8, dtype=t), _random(8, dtype=t)), "Levinson"),
    "toeplitz transposed": (lambda t: lo.Toeplitz(_random(8, dtype=t), _random(8, dtype=t)).T, "Levinson"),
    "kronecker sum": (
        lambda t: lo.KroneckerSum(*[_random(n, n, dtype=t) + n * np.eye(n) for n in (3, 2, 4)]),
        "Schur",
    ),
    "defective kronecker sum": (
        lambda t: lo.KroneckerSum(np.array([[2, 1], [0, 2]], t), np.array([[3, 1, 0], [0, 3, 1], [0, 0, 3]], t)),
        "Schur",
    ),
    "kronecker sum with what has no arrays": (
        lambda t: lo.KroneckerSum(_random(3, 3, dtype=t) + 5 * np.eye(3), lo.Permute([1, 2, 0])),
        "Schur",
    ),
    "two kronecker products": (
        lambda t: (
            lo.Kronecker(_random(3, 3, dtype=t), _random(4, 4, dtype=t))
            + lo.Kronecker(_random(3, 3, dtype=t) + np.eye(3), _random(4, 4, dtype=t) - np.eye(4))
        ),
        "generalised",
    ),
    "a product and a singular one": (
        lambda t: (
            lo.Kronecker(_random(3, 3, dtype=t), _random(4, 4, dtype=t))
            + lo.Kronecker(np.ones((3, 3), t), np.ones((4, 4), t))
        ),
        "generalised",
    ),
    "difference of kronecker products": (
        lambda t: (
            lo.Kronecker(_random(3, 3, dtype=t), _random(4, 4, dtype=t))
            - 2 * lo.Kronecker(3 * lo.Dense(_random(3, 3, dtype=t) + np.eye(3)), _random(4, 4, dtype=t) - np.eye(4))
        ),
        "generalised",
    ),
    "difference of definite kronecker products": (
        lambda t: (
            lo.Kronecker(_definite(3, t), _definite(4, t)) / 3
            - 3 * lo.Kronecker(lo.Diagonal(np.arange(1, 4).astype(t)), _definite(4, t))
        ),
        "generalised",
    ),
    "shifted kronecker sum": (
        lambda t: 2 * lo.Identity(12) - 0.5 * lo.KroneckerSum(_random(3, 3, dtype=t), _random(4, 4, dtype=t)),
        "shifted in its structure",
    ),
    "shifted toeplitz": (
        lambda t: 5 * lo.Identity(7) + lo.Toeplitz(_random(7, dtype=t), _random(7, dtype=t)).T,
        "shifted in its structure",
    ),
    "shifted tridiagonal": (
        lambda t: lo.Tridiagonal(_random(5, dtype=t), _random(6, dtype=t), _random(5, dtype=t)) - 3 * lo.Identity(6),
        "shifted in its structure",
    ),
    "shifted blocks": (
        lambda t: lo.Identity(7) + lo.BlockDiag([_random(3, 3, dtype=t), _random(4, 4, dtype=t)]),
        "shifted in its structure",
    ),
    "shifted circulant": (lambda t: lo.Identity(8) * 3 + lo.Circulant(_random(8, dtype=t)), "shifted in its structure"),
    "shifted batch of blocks": (
        lambda t: lo.Identity(6) * 3 - lo.BlockDiag(_random(2, 3, 3, dtype=t)),
        "shifted in its structure",
    ),
    "shifted kronecker": (
        lambda t: 0.5 * lo.Identity(12) + lo.Kronecker(_definite(3, t), _definite(4, t)),
        "eigenvectors of X",
    ),
    "lower grid": (
        lambda t: lo.Block(
            [
                [_random(2, 2, dtype=t), None, None],
                [_random(3, 2, dtype=t), _random(3, 3, dtype=t), None],
                [_random(1, 2, dtype=t), None, _random(1, 1, dtype=t)],
            ]
        ),
        "block substitution",
    ),
    "upper grid": (
        lambda t: lo.Block([[_random(2, 2, dtype=t), _random(2, 3, dtype=t)], [None, _random(3, 3, dtype=t)]]),
        "block substitution",
    ),
    "schur complement": (
        lambda t: lo.Block(
            [[lo.Identity(3), _random(3, 2, dtype=t)], [_random(2, 3, dtype=t), _random(2, 2, dtype=t)]]
        ),
        "Schur complement",
    ),
}


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("backend", ["numpy", "torch", "jax"])
@pytest.mark.parametrize("name", STRUCTURES)
def test_structures(name, backend, dtype):
    make, says = STRUCTURES[name]
    A = make(dtype)
    M = np.asarray(A.to_dense())
    A = A.to(backend=backend)
    assert says in inverse_.find(A).says
    n, inverse, condition = len(M), np.linalg.inv(M), np.linalg.cond(M)
    b = _random(n, 3, dtype=dtype)
    for x, expected in (
        (lo.linalg.solve(A, on(backend, b)), inverse @ b),
        (lo.linalg.solve(A.T, on(backend, b[:, 0])), inverse.T @ b[:, 0]),
        (lo.linalg.inv(A).H @ on(backend, b), inverse.conj().T @ b),
        (lo.linalg.inv(A).to_dense(), inverse),
        # torch multiplies no complex matrices with real vectors
        (
            lo.linalg.inv(A) @ on(backend, b.real if backend != "torch" or dtype == "float64" else b.real + 0j),
            inverse @ b.real,
        ),
    ):
        close(x, expected, condition)
    sign, logarithm = map(plain, lo.linalg.slogdet(A))
    expected, size = np.linalg.slogdet(M)
    np.testing.assert_allclose(sign, expected, atol=1e-8)
    np.testing.assert_allclose(logarithm, size, atol=1e-8)
    close(lo.linalg.trace(A), np.trace(M), 10)
    close(lo.linalg.diagonal(A), np.diagonal(M), 10)


@pytest.mark.full
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("name", ["woodbury", "sparse", "toeplitz", "kronecker sum", "two kronecker products", "btt"])
def test_structures_have_gradients(name, dtype):
    A = STRUCTURES[name][0](dtype).to(backend="torch")
    b = torch.tensor(_random(A.shape[0], 2, dtype=dtype), requires_grad=True)
    tensors = [leaf.detach().clone().requires_grad_() for _, leaf in A.named_leaves()]

    def solved(b, *leaves):
        return lo.linalg.solve(A.with_leaves(leaves), b)

    assert gradcheck(solved, (b, *tensors), fast_mode=True)
    assert gradcheck(lambda *leaves: lo.linalg.slogdet(A.with_leaves(leaves))[1], tensors, fast_mode=True)
    if name in ("sparse", "kronecker sum"):
        assert gradgradcheck(solved, (b, *tensors), fast_mode=True)
    if dtype == "float64":
        A = A.to(backend="jax")
        arrays = [on("jax", one.detach().numpy()) for one in (b, *tensors)]
        check_grads(solved_by(A), arrays, 1)
        np.testing.assert_allclose(jax.jit(solved_by(A))(*arrays), solved(b, *tensors).detach(), atol=1e-9)


def solved_by(A):
    return lambda b, *leaves: lo.linalg.solve(A.with_leaves(leaves), b)


# ---------------------------------------------------------------- what is said beforehand


@pytest.mark.parametrize("name", STRUCTURES)
def test_what_runs_is_explained_without_numbers(name):
    A = STRUCTURES[name][0]("float64")
    for function in ("solve", "inv", "slogdet", "trace", "diagonal"):
        concrete = lo.linalg.explain(function, A, batch=3)
        assert function in concrete
        assert "FLOPs" in concrete
    specs = A.with_leaves([lo.spec(*leaf.shape, dtype="float64") for _, leaf in A.named_leaves()])
    one, other = (lo.linalg.explain("solve", each, batch=3, target="numpy/cpu") for each in (specs, A))
    assert one.split("\n")[1:] == other.split("\n")[1:]


def test_explaining_costs():
    n = 64
    text = lo.linalg.explain("solve", lo.Dense(lo.spec(n, n)), batch=2)
    assert f"{n**3 // 3 + 2 * n * n:,}" in text.splitlines()[-1]
    assert "is singular" in lo.linalg.explain("solve", lo.low_rank(64, 64))
    with pytest.raises(ValueError, match=r"no function 'invert'; there are .*solve"):
        lo.linalg.explain("invert", lo.dense(3, 3))
    with pytest.raises(ValueError, match="square"):
        lo.linalg.explain("solve", lo.dense(3, 4))
    assert "Cholesky()" in lo.linalg.explain("solve", lo.dense(3, 3), method=lo.linalg.Cholesky())
    assert "H100" in lo.linalg.explain("solve", lo.dense(3, 3), target="h100")


def test_explain_knows_functions_that_take_a_part_or_products_alone():
    upper = lo.Sparse(np.full(99, 0.5), np.arange(99), np.arange(1, 100), (10_000, 10_000))
    A = upper + upper.T
    M = lo.assume(lo.Dense(np.array([[2.0, 1], [1, 3]])), lo.Tag.HERMITIAN)
    K = lo.kron(M, M)
    for function, words in {"eigsh": "Lanczos, each step", "svds": "2 ×", "expm": "product, each"}.items():
        text = lo.linalg.explain(function, A)
        assert "products alone" in text
        assert words in text
    for function in ("eigsh", "svds", "cond", "matrix_rank"):
        assert "products of the factors'" in lo.linalg.explain(function, K)
        assert "of the matrix written out" in lo.linalg.explain(function, lo.dense(4, 4))


def test_explain_knows_shifts():
    A = lo.Sparse(np.full(99, 0.5), np.arange(99), np.arange(1, 100), (20_000, 10_000))
    text = lo.linalg.explain("svds", A, 4, sigma=1.0)
    assert "solves with Aᴴ A − sigma² I" in text
    assert "SuperLU" in text
    assert "iterates" not in text
    assert "A Aᴴ − sigma² I" in lo.linalg.explain("svds", A.T, 4, sigma=1.0)
    F = lo.Function((10_000, 10_000), np.cumsum, lambda y: np.cumsum(y[::-1])[::-1])
    assert "no factorisation here: each step of Lanczos iterates" in lo.linalg.explain("svds", F, 4, sigma=1.0)
    assert "MINRES, each iteration" in lo.linalg.explain("eigsh", lo.assume(F, lo.Tag.HERMITIAN), sigma=1.0)
    assert "LU, of the matrix" in lo.linalg.explain("eigsh", lo.dense(1000, 1000), sigma=1.0)
    for which in ("LM", "SM"):
        text = lo.linalg.explain("svds", lo.dense(2000, 1000), which=which)
        assert ("LAPACK" if which == "SM" else "Lanczos, by products alone") in text
    with pytest.raises(TypeError, match="of 'eigsh' and 'svds', not of 'solve'"):
        lo.linalg.explain("solve", F, sigma=1.0)
    with pytest.raises(ValueError, match=r"linalg\.svds.*k = 0; expected 1 to"):
        lo.linalg.explain("svds", F, 0)
    with pytest.raises(ValueError, match=r"linalg\.eigsh.*expected a square operator"):
        lo.linalg.explain("eigsh", A)


def test_a_rule_says_for_which_operators_it_is():
    with pytest.raises(TypeError, match="annotate its first argument"):
        inverse_.rule("anything")(lambda a, kept: a)


@pytest.mark.full
@pytest.mark.parametrize("name", ["toeplitz", "sparse", "kronecker sum", "two kronecker products"])
def test_gradients_of_single_precision_beside_double_in_jax(name):
    A = STRUCTURES[name][0]("float64").to(backend="jax", dtype="float32")
    b = on("jax", _random(A.shape[0]))
    gradient, of_b = jax.grad(lambda A, b: lo.linalg.solve(A, b).sum(), (0, 1))(A, b)
    assert (gradient.dtype, of_b.dtype) == ("float32", "float64")
    np.testing.assert_allclose(plain(of_b), np.linalg.inv(plain(A.to_dense()).astype(float)).sum(0), rtol=1e-5)


@pytest.mark.parametrize("backend", ["numpy", "torch", pytest.param("jax", marks=pytest.mark.full)])
def test_determinants_of_tridiagonals(backend):
    for n in (1, 2, 3, 4, 5, 6, 7, 50, 51):
        for dtype in ("float64", "complex128"):
            A = lo.Tridiagonal(_random(n - 1, dtype=dtype), 1e-3 * _random(n, dtype=dtype), _random(n - 1, dtype=dtype))
            sign, logarithm = map(plain, lo.linalg.slogdet(A.to(backend=backend)))
            expected, size = np.linalg.slogdet(A.to_dense())
            np.testing.assert_allclose([sign, logarithm], [expected, size], rtol=1e-11)
    swaps = lo.Tridiagonal(np.ones(2), np.array([0.0, 0.0, 1.0]), np.ones(2)).to(backend=backend)
    assert [float(one) for one in lo.linalg.slogdet(swaps)] == [-1, 0]
    for singular in (
        lo.Tridiagonal(np.ones(1), np.ones(2), np.ones(1)),
        lo.Tridiagonal(np.array([1.0, 0.0]), np.array([1.0, 1.0, 3.0]), np.array([1.0, 5.0])),
    ):
        assert [float(one) for one in lo.linalg.slogdet(singular.to(backend=backend))] == [0, -np.inf]
    n = 10**5  # of condition 1e10
    large = lo.Tridiagonal(-np.ones(n - 1), 2 * np.ones(n), -np.ones(n - 1)).to(backend=backend)
    assert float(lo.linalg.slogdet(large)[1]) == pytest.approx(np.log(n + 1), abs=1e-6)


@pytest.mark.full
def test_derivatives_of_determinants_of_tridiagonals():
    arrays = [_random(4) + 1, np.array([1.0, 3.0, -2.0, 4.0, 3.0]), _random(4)[::-1].copy() + 2]

    def logarithm(*diagonals):
        return lo.linalg.slogdet(lo.Tridiagonal(*diagonals))[1]

    tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
    assert gradcheck(logarithm, tensors)
    assert gradgradcheck(logarithm, tensors)
    check_grads(jax.jit(logarithm), [on("jax", array) for array in arrays], 2)


def test_low_rank_of_rank_zero():
    A = lo.Diagonal(np.array([2.0, 4.0])) + lo.Dense(np.zeros((2, 0))) @ lo.Dense(np.zeros((0, 2)))
    np.testing.assert_allclose(lo.linalg.solve(A, np.ones(2)), [0.5, 0.25])
    assert float(lo.linalg.det(A)) == pytest.approx(8)


def test_low_rank_updates_of_what_is_singular():
    ones = np.ones((4, 1))
    A = lo.Dense(np.full((4, 4), 114210.0)) + lo.Dense(np.zeros((4, 1))) @ lo.Dense(np.zeros((1, 4)))
    B = lo.Identity(4) - lo.LowRank(ones, ones.T / 4)
    for singular in (A, B):
        sign, logarithm = lo.linalg.slogdet(singular)
        assert sign == 0 or logarithm < -20
        with pytest.raises(lo.linalg.SingularError):
            lo.linalg.solve(singular, np.ones(4))


def test_sums_of_large_parts_are_not_written_out():
    n, b = 6000, np.random.default_rng(0).standard_normal(6000)
    c = np.r_[3.0, 1.0, 0.5, np.zeros(n - 3)]
    T = lo.Toeplitz(c, c)
    x = lo.linalg.solve(T.T @ T + lo.Identity(n), b)
    np.testing.assert_allclose(T @ (T @ x) + x, b, atol=1e-8)
    o = np.ones(n - 1)
    L = lo.Sparse(scipy.sparse.diags_array([-o, 2 * np.ones(n), -o], offsets=[-1, 0, 1]).tocoo())
    np.testing.assert_allclose(
        lo.linalg.eigsh(L, 3, sigma=-1e-3)[0], 2 - 2 * np.cos(np.pi * np.arange(1, 4) / (n + 1)), atol=1e-12
    )
    S = lo.assume(L, lo.Tag.SYMMETRIC) + lo.Identity(n)
    assert "merge" in str(lo.linalg.explain("solve", S))
    np.testing.assert_allclose(S @ lo.linalg.solve(S, b), b, atol=1e-12)
    C = lo.Circulant(np.random.default_rng(1).standard_normal(64))
    K = lo.kron(C, C)
    A = K.T @ K + 0.1 * lo.Identity(4096)
    np.testing.assert_allclose(A @ lo.linalg.solve(A, b[:4096]), b[:4096], atol=1e-9)


def test_the_least_squares_of_a_singular_kronecker_sum():
    d, o = np.array([1.0, 2, 2, 1]), -np.ones(3)
    A = lo.KroneckerSum(lo.Tridiagonal(o, d, o), lo.Tridiagonal(o, d, o))
    with pytest.raises(lo.linalg.SingularError, match="KroneckerSum"):
        lo.linalg.solve(A, np.ones(16))
    b = np.arange(16.0)
    np.testing.assert_allclose(lo.linalg.lstsq(A, b), np.linalg.lstsq(A.to_dense(), b, rcond=None)[0], atol=1e-12)


def test_real_operators_take_complex_right_hand_sides_in_torch():
    v, z = torch.arange(1.0, 5, dtype=torch.float64)[None], torch.arange(4) * (1 - 2j)
    for A in (lo.Householder(v), lo.Householder(v) @ lo.Diagonal(v[0]), lo.Dense(torch.eye(4, dtype=torch.float64))):
        np.testing.assert_allclose(A.to(dtype="complex128") @ lo.linalg.solve(A, z.to(torch.complex128)), z, atol=1e-12)


def test_a_function_that_hides_complex_entries_is_refused():
    M = np.array([[1 + 1j, 2], [0.5, 3j]])
    A = lo.Function((2, 2), lambda x: M @ x, lambda y: M.T @ y)
    with pytest.raises(TypeError, match="complex_entries"):
        lo.linalg.solve(A, np.ones(2))
    with pytest.raises(TypeError, match="complex_entries"):
        lo.linalg.inv(A).to_dense()


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
def test_the_determinant_of_a_large_definite_toeplitz_operator(dtype):
    c = ((0.6 + 0.5j) if "c" in dtype else 0.9) ** np.arange(600).astype(dtype)
    A = lo.assume(lo.Toeplitz(c, c.conj()), lo.Tag.POSITIVE_DEFINITE)
    sign, logarithm = lo.linalg.slogdet(A)
    assert sign == 1
    assert sign.dtype == dtype
    np.testing.assert_allclose(logarithm, 599 * np.log(1 - abs(c[1]) ** 2), rtol=1e-4 if dtype == "float32" else 1e-12)
    wrong = lo.assume(lo.Toeplitz(c[::-1].copy(), c[::-1].conj()), lo.Tag.POSITIVE_DEFINITE)
    expected = np.linalg.slogdet(wrong.to_dense())
    np.testing.assert_allclose(lo.linalg.slogdet(wrong)[1], expected[1], rtol=1e-4)


def test_merged_sums_follow_their_arrays():
    """Arrays that change in place, as an optimiser's do, and derivatives again and again."""
    for first in (np.ones(3), torch.ones(3, dtype=torch.float64, requires_grad=True)):
        entries = first * 1 if isinstance(first, np.ndarray) else first
        A = lo.Sparse(entries, [0, 1, 2], [1, 2, 0], (3, 3)) + 4 * lo.Identity(3)
        b = np.arange(3.0) if isinstance(first, np.ndarray) else torch.arange(3, dtype=torch.float64)
        for scale in (1.0, 2.0, 0.5):
            with torch.no_grad():
                entries[:] = scale
            x = lo.linalg.solve(A, b)
            M = 4 * np.eye(3) + scale * np.eye(3)[[1, 2, 0]]
            np.testing.assert_allclose(plain(x), np.linalg.solve(M, np.arange(3.0)), atol=1e-12)
            np.testing.assert_allclose(plain(lo.linalg.logdet(A)), np.linalg.slogdet(M)[1], atol=1e-12)
            if not isinstance(first, np.ndarray):
                (x.sum() + lo.linalg.logdet(A)).backward()
