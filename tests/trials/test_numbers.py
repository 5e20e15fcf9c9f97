"""Numbers: one map for all dtypes, integers in transforms, reflections, division, tiny shapes, any power and size."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import torch
from helpers import as_numpy, every_backend

import linops as lo
from linops import backends, families
from linops.families.dims import balanced_splits

RANDOM = np.random.default_rng(0)


def on(backend, array):
    return backends.asarray(array, backend)


def one_map(A, matrix, x, rtol):
    """`A @ x`, `x @ A`, densified, simplified, frozen, and entries are those of a matrix."""
    for B in (A, lo.simplify(A), lo.freeze(A), A.T.T):
        scale = np.abs(matrix) @ np.abs(x) + 1
        for y in (B @ x, B.to_dense() @ x):
            assert np.all(np.abs(np.asarray(y) - matrix @ x) <= rtol * scale), B
        np.testing.assert_allclose(
            np.asarray(x @ B), x @ matrix, rtol=rtol, atol=rtol * np.abs(matrix).sum() * np.abs(x).max()
        )
        np.testing.assert_allclose(np.asarray(B[0]), matrix[0], rtol=rtol)
        np.testing.assert_allclose(np.asarray(B[:, 1]), matrix[:, 1], rtol=rtol)
        np.testing.assert_allclose(np.asarray(B[1, 0]), matrix[1, 0], rtol=rtol)


@pytest.mark.full
@pytest.mark.parametrize("backend", ["numpy", "jax"])
@pytest.mark.parametrize("wide", ["float32", "float64", "int64"])
@pytest.mark.parametrize("narrow", ["int8", "uint8", "float16"])
def test_trial_01_narrow_terms_and_factors_compute_in_the_dtype_of_the_whole(backend, narrow, wide):
    if (narrow, wide) == ("float16", "int64"):
        pytest.skip("no wider than float16")
    if backend == "jax" and wide != "float32":
        pytest.skip("JAX compiles each product: float32 stands for the others")
    entries = 60000 if narrow == "float16" else 100
    a = on(backend, np.full((2, 2), entries, narrow))
    zero, eye = on(backend, np.zeros((2, 2), wide)), on(backend, np.eye(2, dtype=wide))
    i, z, one, d = lo.Dense(a), lo.Dense(zero), lo.Dense(eye), lo.Diagonal(on(backend, np.full(2, entries, narrow)))
    n, m = np.full((2, 2), float(entries)), np.diag([float(entries)] * 2)
    x = on(backend, np.ones(2, wide))
    for A, matrix in {
        "sum": (i + i + z, 2 * n),
        "sum last": (z + i + i, 2 * n),
        "product": (i @ i @ one, n @ n),
        "diagonals": (d @ d @ one, m @ m),
        "product in a sum": (z + i @ d, n @ m),
        "power": (i**3 + z, n @ n @ n),
        "block": (lo.hstack(i + i, z)[:, [0, 1]], 2 * n),
        "low rank": (lo.LowRank(a, a) + z, n @ n),
        "sliced": ((i + i + z)[[1, 0]], 2 * n),
        "kronecker": (lo.Kronecker(on(backend, np.ones((1, 1), wide)), i + i), 2 * n),
        "scaled": (lo.Scaled(i + i, 1, on(backend, np.array(1, wide))), 2 * n)
        if hasattr(lo, "Scaled")
        else (i + i + z, 2 * n),
    }.values():
        one_map(A, matrix, x, 2e-6)


def test_trial_01_a_sum_counts_what_is_true():
    A, x = lo.Identity(3) + lo.Identity(3), np.array([True, False, True])
    for B in (A, lo.simplify(A), lo.KroneckerSum(lo.Identity(3), lo.Identity(1))):
        np.testing.assert_array_equal(B @ x, [2, 0, 2])


@pytest.mark.full
@pytest.mark.parametrize("backend", ["numpy", "torch", "jax"])
@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int32", "int64", "uint32", "uint64"])
def test_trial_02_integers_through_transforms_are_those_of_the_matrix(backend, dtype):
    if backend == "torch" and dtype in ("uint32", "uint64"):
        pytest.skip("torch computes in no such integers")
    if backend == "jax" and dtype in ("uint8", "int32", "uint32"):
        pytest.skip("JAX compiles each product: the others stand for these")
    kind = np.dtype(dtype).kind
    random = np.random.default_rng(1)

    def array(*shape):
        if kind == "b":
            return random.integers(0, 2, shape).astype(bool)
        limits = np.iinfo(dtype)
        return random.integers(limits.min, limits.max, shape, dtype, endpoint=True)

    for n, m in ((2, 3), (257, 250)):
        c, r = array(n), array(m)
        circulant, toeplitz = scipy.linalg.circulant(c), scipy.linalg.toeplitz(c, r)
        for A, matrix in (
            (lo.Circulant(c), circulant),
            (lo.Circulant(c).T, circulant.T),
            (lo.Toeplitz(c, r), toeplitz),
        ):
            A = A.to(backend=backend)
            for x in (array(matrix.shape[1]), array(matrix.shape[1], 5)):
                np.testing.assert_array_equal(backends.to_numpy(A @ on(backend, x)), matrix @ x)
            y = array(3, matrix.shape[0])
            np.testing.assert_array_equal(backends.to_numpy(on(backend, y) @ A), y @ matrix)


def test_trial_02_large_numbers_and_jax_in_32_bits():
    c = np.full(2, 314159265)
    np.testing.assert_array_equal(lo.Circulant(c) @ c, scipy.linalg.circulant(c) @ c)
    with jax.enable_x64(False):
        for n in (4, 300):
            c = RANDOM.integers(-(2**31), 2**31 - 1, n).astype(np.int32)
            y = lo.Circulant(jnp.asarray(c)) @ jnp.asarray(c)
            np.testing.assert_array_equal(np.asarray(y), scipy.linalg.circulant(c) @ c)


@pytest.mark.parametrize("backend", ["numpy", "torch", "jax"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64"])
def test_trial_05_reflections_of_any_length(backend, dtype):
    limits = np.finfo(dtype)
    for scale in (float(limits.tiny) * 8, 1.0, float(limits.max) / 8):
        for v in (np.array([[1.0, -2, 3], [2, 0, 1]]), np.array([[1.0, -2, 3]])):
            if dtype == "complex64":
                v = v * (1 + 1j) / 2
            H = lo.Householder((v * scale).astype(dtype)).to(backend=backend)
            expected = np.eye(3)
            for row in v:
                expected = expected @ (np.eye(3) - 2 * np.outer(row, row.conj()) / np.vdot(row, row).real)
            dense = backends.to_numpy(H.to_dense())
            np.testing.assert_allclose(dense, expected, atol=20 * float(limits.eps))


@pytest.mark.full
@pytest.mark.parametrize("k", [1, 3])
def test_trial_05_a_vector_of_zeros_reflects_nothing_and_has_a_gradient(k):
    for H in (lo.Householder(np.zeros(3)), lo.Householder(np.zeros((k, 3))), lo.Householder(jnp.zeros((k, 3)))):
        np.testing.assert_array_equal(H.to_dense(), np.eye(3))
        assert H.is_orthogonal is True
        assert H.is_positive_semidefinite is not False
    v = torch.zeros(k, 3, requires_grad=True)
    (lo.Householder(v) @ torch.arange(3.0)).sum().backward()
    assert torch.equal(v.grad, torch.zeros(k, 3))
    gradient = jax.grad(lambda v: (lo.Householder(v) @ jnp.arange(3.0)).sum())(jnp.zeros((k, 3)))
    np.testing.assert_array_equal(gradient, np.zeros((k, 3)))


@pytest.mark.parametrize(
    "divisor",
    [
        49,
        3.5,
        True,
        np.float32(3),
        np.int8(7),
        np.bool_(True),
        2 + 1j,
        np.complex64(2 + 1j),
        np.array(3, np.float32),
        np.array(7),
    ],
)
@pytest.mark.parametrize("dtype", ["int64", "float64"])
def test_trial_06_division_is_as_exact_as_numpys(divisor, dtype):
    matrix, x = RANDOM.integers(-50, 50, (4, 3)).astype(dtype), np.arange(1.0, 4)
    A = lo.Dense(matrix) / divisor
    for B in (A, A.T.T, lo.simplify(A), lo.freeze(A)):
        assert (B @ x).dtype == ((matrix / divisor) @ x).dtype
        np.testing.assert_allclose(B @ x, (matrix / divisor) @ x, rtol=1e-14, atol=1e-14)
    if not isinstance(divisor, np.ndarray):
        np.testing.assert_array_equal(A.to_dense(), matrix / divisor)


def test_trial_06_scalars_of_torch_and_jax_and_zero():
    matrix, x = RANDOM.standard_normal((3, 3)), np.arange(3.0)
    for divisor in (torch.tensor(3.0), torch.tensor(3)):
        np.testing.assert_allclose(
            (lo.Dense(torch.tensor(matrix)) / divisor) @ torch.tensor(x), matrix / 3 @ x, rtol=1e-14
        )
    quotient = lo.Dense(jnp.asarray(matrix)) / jnp.float32(3)
    np.testing.assert_allclose(quotient @ jnp.asarray(x), matrix / 3 @ x, rtol=1e-14)
    with np.errstate(divide="ignore", invalid="ignore"):
        for zero in (0, -0.0, 0j, np.float32(0)):
            np.testing.assert_array_equal((lo.Dense(matrix) / zero).to_dense(), matrix / zero)


@pytest.mark.full
@pytest.mark.parametrize("backend", ["numpy", "torch", "jax"])
@pytest.mark.parametrize(("m", "n"), [(1, 1), (1, 3), (3, 1), (0, 2), (2, 0), (0, 0)])
def test_trial_22_tiny_operators_freeze(backend, m, n):
    def array(*shape):
        return RANDOM.standard_normal(shape)

    for A in (
        lo.LowRank(array(m, 2), array(2, n)),
        lo.Dense(array(m, 1)) @ lo.Dense(array(1, n)),
        lo.Dense(array(m, n)) + lo.LowRank(array(m, 1), array(1, n)),
        lo.Kronecker(array(m, n), array(1, 1)),
        lo.BlockDiag(array(1, m, 2)) @ lo.BlockDiag(array(2, 1, n)) if n else lo.Zero(m, n),
        lo.TensorTrain([array(1, m, n, 1), array(1, 1, 1, 1)]),
        lo.Einsum("ij,,j->i", array(m, n), array()),
        lo.Toeplitz(array(m), array(n)),
    ):
        moved, x = A.to(backend=backend), array(A.shape[1], 2)
        for frozen in (lo.freeze(moved), lo.freeze(moved.T).T):
            np.testing.assert_allclose(backends.to_numpy(frozen @ on(backend, x)), A.to_dense() @ x, atol=1e-12)


BASES = {
    "permutation": lo.Permute.random(6, 1),
    "axes": lo.Permute.axes((2, 3), (1, 0)),
    "permutations": lo.Permute.random(6, 1) @ lo.Permute.axes((2, 3), (1, 0)),
    "diagonal": lo.Diagonal(RANDOM.uniform(0.9, 1.1, 6)),
    "circulant": lo.Circulant(RANDOM.standard_normal(6) / 4).T,
    "blocks": lo.BlockDiag([lo.Diagonal(RANDOM.uniform(0.9, 1.1, 2)), lo.Permute.random(4)]),
    "kronecker": lo.Kronecker(lo.Diagonal(RANDOM.uniform(0.9, 1.1, 2)), RANDOM.standard_normal((3, 3)) / 3),
    "low rank": lo.LowRank(RANDOM.standard_normal((6, 2)) / 2, RANDOM.standard_normal((2, 6)) / 2),
    "number": lo.Diagonal(RANDOM.uniform(0.9, 1.1, 6)) / 1.003,
    "reflection": lo.Householder(RANDOM.standard_normal(6)),
    "hadamard": lo.Hadamard(8) / 2.8,
    "fourier": lo.DFT(6) / 2.4,
    "unitary fourier": lo.DFT(6, "ortho"),
    "triangle": lo.Triangular(RANDOM.standard_normal((6, 6)) / 3),
    "conjugated": lo.Permute.random(6) @ lo.Diagonal(RANDOM.uniform(0.9, 1.1, 6)) @ lo.Permute.random(6).T,
    "zero": lo.Zero(4, 4),
}


@pytest.mark.parametrize("name", BASES)
def test_trial_23_powers_of_any_exponent(name):
    A = BASES[name]
    dense, x = A.to_dense(), RANDOM.standard_normal((A.shape[0], 3))
    for k in (2, 9, 37):
        expected = np.linalg.matrix_power(dense, k)
        for B in (A**k, (A**k).T.T, lo.simplify(A**k)):
            np.testing.assert_allclose(B @ x, expected @ x, atol=1e-9 * np.abs(expected).max())
            np.testing.assert_allclose(x.T @ B, x.T @ expected, atol=1e-9 * np.abs(expected).max())
    begin = time.perf_counter()
    with np.errstate(all="ignore"):
        B = A ** (10**9)
        B @ x, B.flops(), B.explain(), lo.freeze(B)
    assert time.perf_counter() - begin < 20  # a loop would take some hours


@pytest.mark.parametrize("wide", ["int8", "int64"])
def test_trial_23_powers_of_integers_wrap_around(wide):
    x = np.arange(1, 4).astype(wide)
    for A in (
        lo.Diagonal(np.array([2, 3, 5], np.int8)),
        3 * lo.Permute([1, 2, 0]),
        lo.Circulant(np.array([1, 2, 3], np.int8)),
    ):
        y = x
        for _ in range(40):
            y = A @ y
        assert (A**40 @ x).dtype == y.dtype
        np.testing.assert_array_equal(A**40 @ x, y)


@pytest.mark.parametrize("name", families.FAMILIES)
def test_trial_23_families_of_any_number_of_digits(name):
    begin = time.perf_counter()
    for m, n in ((10**30, 64), (64, 12345678901234567891), (2**61 - 1, 10**20)):
        if name in ("low_rank_sparse", "low_rank_semi_structured"):  # whose structure is an array
            with pytest.raises(ValueError, match="of more than 2\\^40 positions none are drawn"):
                families.FAMILIES[name](m, n, allow_dearer=True)
            continue
        A = families.FAMILIES[name](m, n) if name == "dense" else families.FAMILIES[name](m, n, allow_dearer=True)
        assert A.shape == (m, n)
        assert A.flops() > 0
    assert time.perf_counter() - begin < 10
    assert balanced_splits(2**40, 2) == ((2**20, 2**20),)


@pytest.mark.full
@pytest.mark.parametrize("backend", ["numpy", "torch", "jax"])
@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_trial_41_transforms_do_not_overflow_on_the_way(backend, dtype):
    n = 4096
    A = lo.Circulant(np.full(n, 3e35, dtype)).to(backend=backend)
    x = np.zeros((n, 2), dtype)
    x[:, 0], x[3, 1] = 1e-9, 1
    for operand in (x, x[:, 1]):
        expected = np.broadcast_to(operand.sum(0), operand.shape)
        np.testing.assert_allclose(backends.to_numpy(A @ on(backend, operand)) / 3e35, expected, rtol=1e-4)
    y = on(backend, np.ascontiguousarray(x.T)) @ A
    np.testing.assert_allclose(backends.to_numpy(y) / 3e35, np.broadcast_to(x.sum(0)[:, None], (2, n)), rtol=1e-4)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
@every_backend
def test_trial_01_multiples_of_integers_wrap_as_one_after_the_other(backend, dtype):
    matrix = np.arange(6, dtype=dtype).reshape(2, 3)
    A = lo.Dense(on(backend, matrix))
    x = np.ones((3, 2), dtype)
    for multiple, expected in (
        (2 * (64 * A), 2 * (64 * matrix)),
        (-(-1 * A), matrix),
        (100 * (100 * A), np.array(10**4).astype(dtype) * matrix),
        (-1 * A, -matrix),
    ):
        np.testing.assert_array_equal(as_numpy(multiple.to_dense()), expected)
        np.testing.assert_array_equal(as_numpy(multiple @ on(backend, x)), expected @ x)


@pytest.mark.filterwarnings("ignore:ComplexHalf")
@pytest.mark.parametrize("backend", ["numpy", "torch", "jax"])
@pytest.mark.parametrize("base", [lo.DFT(16), 0.25 * lo.DFT(16), lo.DFT(16, "ortho").H])
def test_even_powers_of_fourier_transforms_are_complex(backend, base):
    for dtype in ("float16", "float32"):
        x = backends.asarray(np.arange(16) / 16, backend, dtype)
        expected = x
        for _ in range(10):
            expected = base @ expected
        found = base**10 @ x
        assert found.dtype == expected.dtype
        found, expected = (as_numpy(backends.asarray(one, backend, "complex128")) for one in (found, expected))
        np.testing.assert_allclose(
            found, expected, atol=(1e-2 if dtype == "float16" else 1e-5) * np.abs(expected).max()
        )


@pytest.mark.full
def test_trial_38_numbers_of_other_types_are_other_programs():
    A, x = lo.Dense(jnp.ones((2, 2), "int32")), jnp.ones(2, "int32")
    product = jax.jit(lambda A, x: A @ x)
    for number in (2, 2.0, 2 + 0j, 0.0, -0.0):
        found, expected = product(number * A, -x), number * A @ -x
        assert found.dtype == expected.dtype == (number * x).dtype
        np.testing.assert_array_equal(np.signbit(np.asarray(found).real), np.signbit(np.asarray(expected).real))
    assert not lo.same_structure(2 * A, 2.0 * A)
    assert lo.same_structure(np.nan * A, float("nan") * A)
