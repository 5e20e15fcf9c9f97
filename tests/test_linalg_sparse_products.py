"""Sums with products of sparse operators, such as Aᴴ A + c I, stay sparse where linear algebra solves with them."""

import jax
import numpy as np
import pytest
from helpers import as_numpy, each, on
from jax.test_util import check_grads
from torch import tensor
from torch.autograd import gradcheck

import linops as lo
from linops.linalg.inversion import inverse_
from linops.linalg.merging import merged

M, N = 45, 30


def numbers(*shape, dtype="float64", seed=0):
    random = np.random.default_rng(seed)
    real = random.standard_normal(shape)
    return real + 1j * random.standard_normal(shape) if dtype == "complex128" else real


def sparse(values, m=M, n=N):
    return lo.Sparse(values, np.arange(m), np.arange(m) * 7 % n, (m, n))


SUMS = {
    "Gram": lambda S: S.H @ S + 0.5 * lo.Identity(N),
    "Gram, indefinite": lambda S: S.H @ S - 1.4 * lo.Identity(N),
    "weighted": lambda S: S.T @ lo.Diagonal(S.values * 2) @ S + lo.Identity(N),
    "multiple": lambda S: 3 * (S.T @ S) - lo.Sparse(S.values[:2], [0, 1], [1, 0], (N, N)) + 9 * lo.Identity(N),
}


@pytest.mark.parametrize("name", SUMS)
@pytest.mark.parametrize("backend", ["numpy", "torch", "jax"])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_they_are_solved_by_superlu(name, backend, dtype):
    A = SUMS[name](sparse(on(backend, numbers(M, dtype=dtype))))
    matrix, b = as_numpy(A.to_dense()), numbers(N, 2, dtype=dtype, seed=1)
    one = merged(A)
    assert isinstance(one, lo.Sparse)
    assert one.num_params < N * N // 4
    np.testing.assert_allclose(as_numpy(one.to_dense()), matrix, atol=1e-12)
    assert "that of the simplified sum" in inverse_.find(A).says
    np.testing.assert_allclose(matrix @ as_numpy(lo.linalg.solve(A, on(backend, b))), b, atol=1e-10)
    sign, logarithm = lo.linalg.slogdet(A)
    expected, size = np.linalg.slogdet(matrix)
    np.testing.assert_allclose([complex(sign), complex(logarithm)], [expected, size], atol=1e-10)


def solution(name, backend):
    b = on(backend, numbers(N))
    return lambda values: lo.linalg.solve(SUMS[name](sparse(values)), b)


@pytest.mark.parametrize("name", each(4, SUMS))
def test_they_have_derivatives(name):
    values = numbers(M)
    assert gradcheck(solution(name, "torch"), [tensor(values, requires_grad=True)])
    check_grads(jax.jit(solution(name, "jax")), (on("jax", values),), 1, modes=["rev"])


def test_many_entries_at_one_place_and_none():
    S = lo.Sparse(np.array([1.0, 2, 3]), [0, 0, 2], [1, 1, 0], (3, 2))
    for A in (S.T @ S + lo.Identity(2), S @ S.T + lo.Identity(3), S.T @ (0 * S) + lo.Identity(2)):
        np.testing.assert_allclose(A.to_dense() @ lo.linalg.inv(A).to_dense(), np.eye(A.shape[0]), atol=1e-12)


def test_products_of_many_entries_are_written_out():
    S = lo.Sparse(numbers(400), np.repeat(np.arange(20), 20), np.tile(np.arange(20), 20), (20, 20))
    A = S.T @ S + lo.Identity(20)
    assert not isinstance(merged(A), lo.Sparse)
    np.testing.assert_allclose(A.to_dense() @ lo.linalg.solve(A, np.ones(20)), np.ones(20), atol=1e-9)
    mixed = S.T @ lo.Dense(numbers(20, 20)) + lo.Identity(20)
    np.testing.assert_allclose(mixed.to_dense() @ lo.linalg.solve(mixed, np.ones(20)), np.ones(20), atol=1e-9)


def test_changed_numbers_count():
    values = numbers(M)
    S = sparse(values)
    A = S.T @ S + lo.Identity(N)
    before = lo.linalg.solve(A, np.ones(N))
    S.values[:] *= 2
    after = lo.linalg.solve(A, np.ones(N))
    assert np.abs(before - after).max() > 1e-3
    np.testing.assert_allclose(A.to_dense() @ after, np.ones(N), atol=1e-10)
