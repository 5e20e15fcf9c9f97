"""Circulant, Toeplitz, Hadamard, DFT beyond the table of cases: lengths, dtypes, integers, infinity, no rows, tags."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft
import scipy.linalg
import torch
from helpers import as_numpy, assert_close, every_backend, on, randoms
from torch._subclasses.fake_tensor import FakeTensorMode

import linops as lo
from linops import backends
from linops.operators import choosing, convolution
from linops.operators.fourier import fast_length, is_fast
from linops.plan import natural_order
from linops.plan.plan import Plans

array = randoms("fft", "float64")


class TestLengths:
    def test_fast_lengths_are_near_and_fast(self):
        for least in range(1, 5000):
            length = fast_length(least)
            assert least <= length <= 1.25 * least
            assert scipy.fft.next_fast_len(length, real=True) == length

    def test_fast(self):
        assert [n for n in range(1, 40) if not is_fast(n)] == [17, 19, 23, 29, 31, 34, 37, 38]

    @pytest.mark.parametrize("n", [1, 2, 16, 17, 30, 31, 97, 128])
    def test_circulants_of_every_length(self, n):
        c, x = array(n), array(n, 3)
        for rows, columns in ((n, n), (n, 1), (1, n), (n - n // 3, n // 2 + 1)):
            A, matrix = lo.Circulant(c, rows, columns), scipy.linalg.circulant(c)[:rows, :columns]
            np.testing.assert_array_equal(A.to_dense(), matrix)  # exactly: the entries are read, not computed
            assert_close(A @ x[:columns], matrix @ x[:columns], np.abs(c).sum() * 4)
            assert_close(A.T @ x[:rows], matrix.T @ x[:rows], np.abs(c).sum() * 4)

    def test_large(self):
        c, r = np.random.default_rng(0).standard_normal((2, 20_011)).astype(np.float32)
        x = np.random.default_rng(1).standard_normal(20_011).astype(np.float32)
        expected = scipy.linalg.matmul_toeplitz((c.astype(float), r.astype(float)), x.astype(float))
        y = lo.Toeplitz(c, r) @ x
        assert y.dtype == np.float32
        assert np.linalg.norm(y - expected) <= 1e-6 * np.linalg.norm(expected)

    def test_many_columns_run_in_parts(self):
        c, r = array(300), array(200)
        for operator, matrix in (
            (lo.Toeplitz(c, r), scipy.linalg.toeplitz(c, r)),
            (lo.Toeplitz(c, r).T, scipy.linalg.toeplitz(c, r).T),
        ):
            x = array(matrix.shape[1], 1501)
            with natural_order():
                y, stacked, empty = operator @ x, operator @ np.stack([x, 2 * x]), operator @ x[:, :0]
            assert_close(y, matrix @ x, 300)
            assert_close(stacked, np.stack([y, 2 * y]), 600)
            assert empty.shape == (matrix.shape[0], 0)


class TestDtypes:
    @every_backend
    @pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64", "bool"])
    def test_integers_are_exact_and_wrap_as_in_numpy(self, backend, dtype):
        random = np.random.default_rng(0)
        c, r, x = ((random.integers(0, 100, size) - (dtype[0] == "i") * 50).astype(dtype) for size in (9, 4, (9, 2)))
        for operator, matrix, operand in (
            (lo.Circulant(on(backend, c)), scipy.linalg.circulant(c), x),
            (lo.Toeplitz(on(backend, c), on(backend, r)), scipy.linalg.toeplitz(c, r), x[:4]),
        ):
            y = operator @ on(backend, operand)
            assert as_numpy(y).dtype == np.dtype(dtype)
            np.testing.assert_array_equal(as_numpy(y), matrix @ operand)

    def test_integer_by_float_promotes_as_numpy(self):
        for c, x in (
            (np.int8, np.float32),
            (np.int64, np.float32),
            (np.float32, np.int16),
            (np.float16, np.float16),
            (np.float32, np.complex64),
        ):
            y = lo.Circulant(np.arange(1, 5).astype(c)) @ np.arange(4).astype(x)
            assert y.dtype == np.result_type(c, x)
            np.testing.assert_allclose(y, scipy.linalg.circulant(np.arange(1, 5)) @ np.arange(4))

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_is_transformed_in_single(self, dtype):
        c, x = torch.arange(1, 9).to(dtype), torch.ones(8, 2).to(dtype)
        y = lo.Circulant(c) @ x
        assert y.dtype == dtype
        assert y.tolist() == [[36.0, 36.0]] * 8

    @every_backend
    @pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "int8", "int64", "bool"])
    def test_hadamard_of_every_dtype(self, backend, dtype):
        x = (np.arange(12).reshape(4, 3) % 3).astype(dtype)
        y = as_numpy(lo.Hadamard(4) @ on(backend, x))
        assert y.dtype == (np.dtype(dtype) if dtype != "bool" else np.int64)
        np.testing.assert_array_equal(y, scipy.linalg.hadamard(4) @ x)

    @every_backend
    @pytest.mark.parametrize(
        ("dtype", "expected"), [("float32", "complex64"), ("float64", "complex128"), ("complex64", "complex64")]
    )
    def test_transforms_are_complex(self, backend, dtype, expected):
        x = array(6).astype(dtype)
        y = lo.DFT(6) @ on(backend, x)
        assert as_numpy(y).dtype == expected
        np.testing.assert_allclose(as_numpy(y), np.fft.fft(x), rtol=1e-5)

    def test_complex_circulants_of_real_vectors_and_back(self):
        c, x = array(5) + 1j * array(5), array(5)
        matrix = scipy.linalg.circulant(c)
        assert_close(lo.Circulant(c).H @ x, matrix.conj().T @ x)
        assert_close(lo.Circulant(x) @ c, scipy.linalg.circulant(x) @ c)

    def test_jax_without_x64(self):
        import jax

        with jax.enable_x64(False):
            y = lo.Circulant(jnp.arange(1, 6)) @ jnp.arange(5)
            assert y.dtype == jnp.int32
            assert y.tolist() == (scipy.linalg.circulant(np.arange(1, 6)) @ np.arange(5)).tolist()


def test_the_corner_is_that_of_the_column_as_in_scipy():
    c, r = torch.tensor([1.0, 2.0]), torch.tensor([7.0, 3.0, 4.0], requires_grad=True)
    A = lo.Toeplitz(c, r)
    assert A.to_dense().tolist() == [[1, 3, 4], [2, 1, 3]]
    (A @ torch.ones(3)).sum().backward()
    torch.testing.assert_close(r.grad, torch.tensor([0.0, 2.0, 1.0]))


@every_backend
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_magnitudes_are_powers_of_two_just_below(backend, dtype):
    limits = np.finfo(dtype)
    powers = np.ldexp(np.ones(1, dtype), np.arange(limits.minexp, limits.maxexp))
    found = [
        backends.to_numpy(backends.magnitude(on(backend, one.astype(dtype)), -1))[:, 0]
        for one in (powers[:, None], np.nextafter(2 * (powers[:-1, None]), 0, dtype=dtype), -1.5 * powers[:, None])
    ]
    np.testing.assert_array_equal(found[0], powers)
    np.testing.assert_array_equal(found[1], powers[:-1])
    np.testing.assert_array_equal(found[2], powers)
    none = on(backend, np.array([[0, 0], [0, np.nan]], dtype))
    np.testing.assert_array_equal(backends.to_numpy(backends.magnitude(none, -1)), np.ones((2, 1)))


def test_what_is_not_finite_spreads_over_its_vector_alone():
    x = np.ones((4, 3))
    x[1, 0], x[2, 2] = np.nan, np.inf
    for A in (lo.Circulant(np.ones(4)), lo.Toeplitz(np.ones(5), np.ones(4)), lo.DFT(4)):
        with np.errstate(invalid="ignore"):
            y = A @ x
        assert not np.isfinite(y[:, [0, 2]]).any()
        assert np.isfinite(y[:, 1]).all()


@every_backend
def test_empty(backend):
    none, two = on(backend, np.ones(0)), on(backend, np.ones(2))
    for A, m, n in (
        (lo.Circulant(none), 0, 0),
        (lo.Toeplitz(none, two), 0, 2),
        (lo.Toeplitz(two, none), 2, 0),
        (lo.DFT(0), 0, 0),
    ):
        assert A.shape == (m, n)
        assert A.cost(batch=3).macs == 0
        for operator in (A, A.T, A.H):
            m, n = operator.shape
            y = as_numpy(operator @ on(backend, np.ones((n, 3))))
            assert y.shape == (m, 3)
            assert not y.any()


def test_empty_batches_have_gradients():
    layer = lo.circulant(32, 32).to_layer()
    x = torch.zeros(0, 32, requires_grad=True)
    layer(x).sum().backward()
    assert layer.c.grad.tolist() == [0.0] * 32
    assert x.grad.shape == (0, 32)


def test_transposes_share_the_leaves():
    c, r = array(4), array(3)
    A = lo.Toeplitz(c, r)
    assert A.T.c is c
    assert A.T.r is r
    assert A.T.T.shape == (4, 3)
    assert (A @ A.H).is_positive_semidefinite
    assert (A.H @ A).is_hermitian
    assert lo.Circulant(c).is_symmetric is None
    assert lo.assume(lo.Circulant(c), lo.Tag.LOWER_TRIANGULAR).T.is_lower_triangular is None


def test_tags():
    assert lo.DFT(5).is_symmetric
    assert lo.DFT(5).is_hermitian is False
    assert lo.DFT(5).is_orthogonal is False
    assert lo.DFT(5, norm="ortho").is_orthogonal
    assert lo.Hadamard(4).is_hermitian
    assert lo.Hadamard(4).is_orthogonal is False  # H / √n is
    assert lo.Hadamard(1).is_positive_definite


def test_costs():
    n, batch = 1024, 8
    real = 25_600  # 2.5 n log2 n
    assert lo.Circulant(lo.spec(n)).cost(batch).macs == 0
    assert lo.Circulant(lo.spec(n)).flops(batch) == real * (1 + 2 * batch) + 6 * (n // 2 + 1) * batch
    assert lo.Circulant(lo.spec(n, dtype="complex64")).flops(batch) == 15_360 * (1 + 2 * batch) + n * batch
    assert lo.DFT(n).flops(batch) == 15_360 * batch
    assert lo.Hadamard(n).cost(batch).macs == 2 * 32 * n * batch
    assert lo.fans(lo.circulant(64, 256)) == {"c": (256, 64)}
    assert lo.fans(lo.toeplitz(64, 256)) == {"c": (256, 64), "r": (256, 64)}
    assert lo.lr_multipliers(lo.circulant(64, 256)) == {"c": 1.0}


def test_initial_scale():
    for family in (lo.circulant, lo.toeplitz):
        for m, n in ((300, 300), (400, 100), (100, 400)):
            norm = np.linalg.norm(family(m, n, dtype="float64").init(seed=0).to_dense(), 2)
            assert 0.5 <= norm / np.sqrt(m / n) <= 6, (family, m, n, norm)


def steps(operator, batch):
    return [step.kind for step in operator._lower(batch)]


class TestTheFasterWay:
    """Convolutions of some hundred numbers multiply by their matrix, written out; longer ones by transforms."""

    @every_backend
    @pytest.mark.parametrize("family", [lo.toeplitz, lo.circulant])
    def test_way(self, backend, family):
        def ways(d):
            operator = family(d, d).init(seed=0, backend=backend)
            return ["tile" in steps(each, batch) for each in (operator, operator.T) for batch in (1, 2048)]

        assert ways(64)[1::2] == [True, True]
        assert ways(512)[::2] == [False, False]
        assert ways(4096) == [False, False] * 2

    def test_tall_and_wide_matrices_are_written_by_their_shorter_side(self):
        for m, n in ((1500, 2), (2, 1500), (1500, 0), (0, 1500)):
            operator = lo.Toeplitz(array(m), array(n))
            for each in (operator, operator.T):
                assert each._written <= 2 * (m + n) * max(min(m, n), 1)
                assert each.to_dense().shape == each.shape
        c, r = array(1500), array(2)
        np.testing.assert_array_equal(lo.Toeplitz(c, r).to_dense(), scipy.linalg.toeplitz(c, r))

    def test_autocast_narrows_no_transform_and_hence_no_matrix(self):
        operator = lo.toeplitz(64, 64).init(seed=0, backend="torch")
        x = torch.ones(64, 1024)
        assert "tile" in steps(operator, 1024)
        with torch.autocast("cpu", torch.bfloat16):
            assert {(operator @ x).dtype, (operator @ x[:, 0]).dtype} == {torch.float32}
            assert "tile" not in steps(operator, 1024)

    @every_backend
    def test_frozen(self, backend):
        c, r, x = array(40).astype("float32"), array(30).astype("float32"), array(30, 500).astype("float32")
        operator = lo.Toeplitz(on(backend, c), on(backend, r))
        frozen = lo.freeze(operator @ lo.Permute(np.arange(30)[::-1].copy()), batch=500)
        assert type(frozen.factors[0]) is lo.Dense
        assert_close(frozen @ on(backend, x), scipy.linalg.toeplitz(c, r) @ x[::-1], 40, "float32")
        assert type(lo.freeze(operator.T.T, 1)) is lo.Dense
        symbolic = lo.freeze(lo.circulant(64, 48), batch=16)
        assert type(symbolic) is lo.Dense
        assert symbolic.is_symbolic
        assert symbolic.shape == (64, 48)
        large, whole = lo.toeplitz(8192, 8192), lo.Toeplitz(on(backend, np.arange(4)), on(backend, np.arange(4)))
        assert lo.freeze(large) is large
        assert lo.freeze(whole) is whole  # of integers, exact

    def test_a_decision_is_made_once_a_structure(self):
        operator = lo.toeplitz(61, 67).init(seed=0)
        operator.T._plan(8)
        before = len(choosing.PLANS)
        operator.T._plan(9)
        operator.with_leaves([leaf + 1 for _, leaf in operator.named_leaves()]).T._plan(10)
        assert len(choosing.PLANS) == before

    def test_natural_order_and_other_leaves(self):
        with natural_order():
            assert "tile" not in steps(lo.toeplitz(64, 64), 16)
        assert "tile" not in steps(lo.Toeplitz(array(9).astype(int), array(9).astype(int)), 16)  # exact, in float64
        assert "tile" not in steps(lo.Toeplitz(array(9).astype("float16"), array(9).astype("float16")), 16)

    @pytest.mark.parametrize(
        ("backend", "dtype", "sizes"),
        [
            *itertools.product(
                ("numpy", "torch"), ("float64", "complex128"), [(6, 6), (5, 9), (9, 5), (1, 4), (4, 1), (1, 1)]
            ),
            # which compiles every size and dtype anew
            pytest.param("jax", "complex128", (5, 9), marks=pytest.mark.full),
        ],
    )
    def test_both_ways_have_the_same_products_and_gradients(self, monkeypatch, backend, dtype, sizes):
        m, n = sizes
        monkeypatch.setattr(convolution, "MATRIX_GAIN", 0)  # the matrix is always faster
        monkeypatch.setattr(choosing, "PLANS", Plans(bound=64))
        random = randoms(f"ways {m} {n}", dtype)
        for operator in (lo.Toeplitz(random(m), random(n)), lo.Circulant(random(max(m, n)), m, n)):
            for each in (operator, operator.T, operator.H):
                x, rows = random(each.shape[1], 3), random(2, 3, each.shape[0])
                assert steps(each.to(backend=backend), 3) == ["tile", "matmul"]
                found = self._products_and_gradients(each.to(backend=backend), on(backend, x), on(backend, rows))
                with natural_order():
                    expected = self._products_and_gradients(each.to(backend=backend), on(backend, x), on(backend, rows))
                for one, other in zip(found, expected, strict=True):
                    assert_close(one, as_numpy(other), 1 + np.abs(as_numpy(other)).max())

    def _products_and_gradients(self, operator, x, rows):
        products = [operator @ x, operator @ x[:, 0], rows @ operator, operator @ x[None]]
        if operator.backend == "torch":
            leaves = [leaf.detach().clone().requires_grad_() for _, leaf in operator.named_leaves()]
            y = operator.with_leaves(leaves) @ x
            return [*products, *torch.autograd.grad((y * y.conj()).real.sum(), leaves)]
        if operator.backend == "jax":
            gradient = jax.grad(lambda operator: (jnp.abs(operator @ x) ** 2).sum())(operator)
            return [*products, *[leaf for _, leaf in gradient.named_leaves()]]
        return products


@pytest.mark.full
def test_the_matrix_compiles_with_symbolic_sizes():
    @torch.compile(fullgraph=True, backend="aot_eager", dynamic=True)
    def matrix(c):
        return lo.Circulant(c).to_dense()

    for n in (4, 7):
        c = torch.arange(n) + 0.5
        torch.testing.assert_close(matrix(c), lo.Circulant(c).to_dense(), rtol=0, atol=0)


def test_of_numbers_beside_a_fake_mode():
    A, x = lo.Circulant(torch.randn(64)), torch.randn(64)
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert (A @ x).shape == (64,)
