"""Triangular, tridiagonal, reflections, Kronecker sums, blocks in a grid: what the table of cases does not say."""

import numpy as np
import pytest
import torch
from helpers import assert_close, build, every_backend, on, randoms
from scipy.linalg import expm

import linops as lo
from linops.tags import Tag

array = randoms("tri", "float64")
complex_array = randoms("tri", "complex128")


def definite(n, maker=array):
    root = maker(n, n)
    return lo.assume(lo.Dense(root @ root.conj().T + np.eye(n)), Tag.POSITIVE_DEFINITE)


class TestTriangular:
    @every_backend
    def test_the_other_triangle_counts_for_nothing(self, backend):
        a = array(3, 3)
        clean = np.tril(a)
        a[np.triu_indices(3, 1)] = np.nan
        operator, x = lo.Triangular(on(backend, a), lower=True), array(3, 2)
        assert_close(operator @ on(backend, x), clean @ x)
        assert_close(operator.T.to_dense(), clean.T)

    def test_gradients_of_the_other_triangle_are_zero(self):
        a = on("torch", array(3, 3)).requires_grad_()
        (lo.Triangular(a, lower=False) @ on("torch", array(3))).sum().backward()
        assert not torch.tril(a.grad, -1).any()
        assert a.grad[torch.triu(torch.ones(3, 3, dtype=torch.bool))].all()

    def test_parameters_are_those_of_the_leaf(self):
        assert lo.Triangular(lo.spec(4, 4)).num_params == 16

    def test_tags(self):
        lower = lo.Triangular(array(3, 3), lower=True)
        assert (lower @ lower).is_lower_triangular is True
        assert lower.T.is_upper_triangular is True
        assert lower.is_upper_triangular is None
        assert (lower @ lower.T).is_positive_semidefinite is True


class TestTridiagonal:
    def test_second_differences(self):
        n = 5
        operator = lo.Tridiagonal(-np.ones(n - 1), np.full(n, 2.0), -np.ones(n - 1))
        angles = np.arange(1, n + 1) * np.pi / (n + 1)
        modes = np.sin(np.outer(np.arange(1, n + 1), angles))
        assert_close(operator @ modes, modes * (2 - 2 * np.cos(angles)), np.full(1, 4.0))

    def test_no_contraction(self):
        cost = lo.Tridiagonal(lo.spec(99), lo.spec(100), lo.spec(99)).cost()
        assert (cost.macs, cost.flops) == (0, 3 * 100 - 2 + 2 * 100 - 2)

    @every_backend
    def test_symmetric_where_the_diagonals_are_one(self, backend):
        beside, diag, other = (on(backend, complex_array(n)) for n in (2, 3, 2))
        assert lo.Tridiagonal(beside, diag, beside).is_symmetric is True
        assert lo.Tridiagonal(beside, diag, beside).is_hermitian is None
        assert lo.Tridiagonal(beside, diag, other).is_symmetric is None
        one = lo.spec(2)
        assert lo.Tridiagonal(one, lo.spec(3), one).is_symmetric is None  # two parameters


class TestHouseholder:
    def test_reflects_its_vector(self):
        v = complex_array(4)
        operator = lo.Householder(v)
        assert_close(operator @ v, -v)
        assert_close(operator @ (operator @ v), v)
        assert operator.is_hermitian is True
        assert operator.is_symmetric is None
        assert operator.is_orthogonal is True
        assert operator.is_positive_semidefinite is False

    @pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
    def test_lengths_count_for_nothing(self, scale):
        v = array(3, 6)
        scales = np.array([[scale], [1.0], [-2.0]])
        assert_close(lo.Householder(v * scales).to_dense(), lo.Householder(v).to_dense(), np.ones(1))

    def test_as_many_as_the_size_stay_orthogonal(self):
        v = array(40, 40)
        v[1] = v[0]  # a reflection and its inverse
        dense = lo.Householder(v).to_dense()
        assert_close(dense @ dense.T, np.eye(40), np.ones(1))
        matrix = np.eye(40)
        for row in v:
            matrix = matrix - 2 * np.outer(matrix @ row, row) / (row @ row)
        assert_close(dense, matrix, np.ones(1))

    @every_backend
    @pytest.mark.parametrize("k", [1, 2])
    def test_a_vector_of_zeros_reflects_nothing(self, backend, k):
        v = array(k, 3)
        v[0] = 0
        expected = lo.Householder(v[1:]).to_dense() if k > 1 else np.eye(3)
        assert_close(lo.Householder(on(backend, v)).to_dense(), expected, np.ones(1))

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_narrow_dtypes(self, dtype):
        v, x = on("torch", array(3, 8)), on("torch", array(8, 2))
        narrow = lo.Householder(v.to(dtype)) @ x.to(dtype)
        assert narrow.dtype == dtype
        torch.testing.assert_close(narrow.double(), lo.Householder(v) @ x, rtol=0.05, atol=0.05)
        assert (lo.Householder(array(3, 8).astype("float16")) @ np.ones(8, "float16")).dtype == np.float16

    def test_transposes_share_the_leaf(self):
        v = array(3, 5)
        operator = lo.Householder(v)
        assert operator.T.v is v
        assert operator.T.reverse
        assert not operator.T.T.reverse

    def test_cost(self):
        k, n, batch = 3, 10, 7
        cost = lo.Householder(lo.spec(k, n)).cost(batch=batch)
        assert cost.macs == k * k * n + 2 * k * n * batch
        assert lo.Householder(lo.spec(n)).cost(batch=batch).macs == 2 * n * batch
        # the gradients of a solve: another, and an outer product
        assert cost.backward.macs == 2 * cost.macs + k * k * batch

    def test_layers_do_not_start_at_zero_by_a_reflection(self):
        with pytest.raises(ValueError, match="no factor of it can be zero"):
            lo.nn.torch.Linear(lo.Householder(lo.spec(4)), zero_init=True)


class TestKroneckerSum:
    def test_sylvester(self):
        a, b, x = array(3, 3), array(4, 4), array(3, 4)
        assert_close(lo.KroneckerSum(a, b) @ x.ravel(), (a @ x + x @ b.T).ravel(), np.full(1, 10.0))

    def test_exponential_is_the_product_of_exponentials(self):
        a, b = array(2, 2), array(3, 3)
        assert_close(expm(lo.KroneckerSum(a, b).to_dense()), np.kron(expm(a), expm(b)))

    def test_macs(self):
        assert lo.KroneckerSum(lo.spec(4, 4), lo.spec(5, 5), lo.spec(6, 6)).cost().macs == 120 * (4 + 5 + 6)

    def test_tags(self):
        root = lo.Dense(array(2, 1))
        assert lo.KroneckerSum(root @ root.T, definite(3)).is_positive_definite is True
        assert lo.KroneckerSum(root @ root.T, root @ root.T).is_positive_semidefinite is True
        assert lo.KroneckerSum(root @ root.T, root @ root.T).is_positive_definite is None
        assert lo.KroneckerSum(definite(2), -definite(3)).is_positive_semidefinite is None
        assert lo.KroneckerSum(definite(2), -definite(3)).is_symmetric is True
        assert lo.KroneckerSum(lo.Diagonal(array(2)), lo.Diagonal(array(3))).is_diagonal is True
        assert lo.KroneckerSum(lo.Permute.random(3), lo.Identity(2)).is_orthogonal is None

    def test_factors_in_a_list(self):
        assert lo.KroneckerSum([np.eye(2), np.eye(3)]).shape == (6, 6)


class TestBlock:
    def test_symmetric_case(self):
        assert build("block_symmetric", "float64")[0].is_hermitian is True
        assert build("block_symmetric", "complex128")[0].is_symmetric is True
        assert build("block_symmetric", "complex128")[0].is_hermitian is None

    def test_zeros_cost_nothing(self):
        a = lo.spec(4, 4)
        full, sparse = lo.Block([[a, None], [None, a]]), lo.BlockDiag([lo.Dense(a), lo.Dense(a)])
        assert full.cost(batch=3) == sparse.cost(batch=3)
        assert "zeros" not in full.explain()
        assert lo.Block([[a, None], [None, lo.Zero(2, 2)]]).cost().flops == 2 * 16

    def test_names_of_leaves(self):
        operator = lo.Block([[lo.spec(2, 3), None], [lo.spec(1, 3), lo.LowRank(lo.spec(1, 1), lo.spec(1, 2))]])
        assert [name for name, _ in operator.named_leaves()] == [
            "blocks_0_0_matrix",
            "blocks_1_0_matrix",
            "blocks_1_1_U",
            "blocks_1_1_V",
        ]
        assert lo.fans(operator)["blocks_1_1_V"] == (2, 1)

    def test_with_leaves_is_checked(self):
        operator = lo.Block([[lo.spec(2, 3), lo.spec(2, 1)]])
        with pytest.raises(ValueError, match=r"row 0.*one height"):
            operator.with_leaves([np.ones((2, 3)), np.ones((3, 1))])
        nested = lo.Block([[lo.LowRank(lo.spec(2, 2), lo.spec(2, 3)), lo.spec(2, 1)]])
        with pytest.raises(ValueError, match="do not multiply"):
            nested.with_leaves([np.ones((2, 2)), np.ones((1, 3)), np.ones((2, 1))])

    @every_backend
    def test_symmetric_and_hermitian(self, backend):
        A, B = definite(2, complex_array).to(backend=backend), lo.Dense(complex_array(2, 3)).to(backend=backend)
        saddle = lo.Block([[A, B], [B.H, lo.Zero(3, 3)]])
        assert saddle.is_hermitian is True
        assert saddle.is_symmetric is None
        assert saddle.is_positive_semidefinite is None
        assert lo.Block([[A, B], [B.T, lo.Zero(3, 3)]]).is_hermitian is None
        symmetric = lo.assume(lo.Dense(complex_array(2, 2)), Tag.SYMMETRIC).to(backend=backend)
        assert lo.Block([[symmetric, B], [B.T, lo.Zero(3, 3)]]).is_symmetric is True
        assert lo.Block([[A, B], [-B.H, lo.Zero(3, 3)]]).is_hermitian is None

    def test_symbolic_blocks_are_two_parameters(self):
        one = lo.Dense(lo.spec(2, 2))
        assert lo.Block([[lo.Identity(2), one], [one.T, lo.Identity(2)]]).is_symmetric is None

    def test_triangular_and_diagonal(self):
        L, U = lo.Triangular(array(2, 2), lower=True), lo.Triangular(array(3, 3), lower=False)
        b = array(3, 2)
        assert lo.Block([[L, None], [b, lo.Identity(3)]]).is_lower_triangular is True
        assert lo.Block([[L, None], [b, U]]).is_lower_triangular is None
        assert lo.Block([[L.T, b.T], [None, U]]).is_upper_triangular is True
        assert lo.Block([[definite(2), None], [b, definite(3)]]).is_invertible is True
        assert lo.Block([[definite(2), b.T], [b, definite(3)]]).is_invertible is None
        assert lo.Block([[definite(2), None], [None, definite(3)]]).is_positive_definite is True
        assert lo.Block([[np.ones((1, 2)), None], [None, np.ones((2, 1))]]).is_diagonal is None

    def test_stacks(self):
        a, b = array(2, 3), array(2, 1)
        assert isinstance(lo.hstack(a, b), lo.Block)
        assert np.array_equal(lo.hstack([a, b]).to_dense(), np.hstack([a, b]))
        assert np.array_equal(lo.vstack(a.T, b.T).to_dense(), np.vstack([a.T, b.T]))


class TestLowRankPlusDiagonal:
    @every_backend
    @pytest.mark.parametrize("maker", [array, complex_array])
    def test_gram_plus_positive_diagonal_is_definite(self, backend, maker):
        u, d = on(backend, maker(4, 2)), on(backend, np.array([1.0, 2.0, 3.0, 4.0]).astype(maker(1).dtype))
        gram = lo.LowRank(u, u.conj().T)
        diagonal = lo.assume(lo.Diagonal(d), Tag.POSITIVE_DEFINITE)
        assert gram.is_positive_semidefinite is True
        assert gram.T.is_positive_semidefinite is True
        assert gram.is_positive_definite is None
        assert (gram + diagonal).is_positive_definite is True
        assert (gram + lo.Diagonal(d)).is_positive_definite is None
        assert (gram - diagonal).is_positive_semidefinite is None

    def test_other_arrays_are_not_known(self):
        u, v = complex_array(4, 2), complex_array(2, 4)
        assert lo.LowRank(u, v).is_symmetric is None
        assert lo.LowRank(u, u.T).is_symmetric is True
        assert lo.LowRank(u, u.T).is_hermitian is None
        assert lo.LowRank(lo.spec(4, 2), lo.spec(2, 4)).is_symmetric is None


def test_equal_specs_are_two_parameters():
    D = lo.Diagonal(lo.spec(3))
    assert (D @ D.H).is_positive_semidefinite is None
    kept = lo.Diagonal(np.ones(3))
    assert (kept @ kept.H).is_positive_semidefinite is True
