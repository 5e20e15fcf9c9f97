"""What random expressions found."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch

import linops as lo


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(
    ("narrow", "wide"),
    [("float16", "float64"), ("float32", "float64"), ("complex64", "complex128"), ("float32", "complex128")],
)
def test_reflections_have_the_precision_of_the_product(count, narrow, wide):
    v = np.random.default_rng(0).standard_normal((count, 4)).astype(narrow)
    expected, x = np.eye(4, dtype=wide), np.arange(1.0, 5).astype(wide)
    for row in v.astype(wide):
        expected = expected @ (np.eye(4) - 2 * np.outer(row, row.conj()) / np.vdot(row, row))
    A = lo.Householder(v)
    np.testing.assert_allclose(A @ x, expected @ x, rtol=1e-13)
    np.testing.assert_allclose(x @ A, x @ expected, rtol=1e-13)
    np.testing.assert_allclose((A + np.zeros((4, 4), wide)).to_dense(), expected, atol=1e-14)


def test_scalars_merge_in_the_precision_of_the_whole():
    """Two narrow scalars, or one and a narrow factor, beside what is wide."""
    gain, wide = np.asarray(0.1, np.float32), np.random.default_rng(0).standard_normal((3, 3))
    narrow = np.random.default_rng(1).standard_normal((3, 3)).astype(np.float32)
    for A, scalar, matrix in (
        (gain * lo.Hadamard(2) @ lo.Householder(wide[0, :2]) @ (gain * lo.Hadamard(2)), np.float64(gain) ** 2, None),
        (-3 * (gain * lo.Dense(wide)), -3 * np.float64(gain), wide),
        (0.1 * (lo.Dense(narrow) @ lo.Triangular(wide)), 0.1, narrow.astype(float) @ np.tril(wide)),
    ):
        expected = A.to_dense() if matrix is None else scalar * matrix
        np.testing.assert_allclose(lo.simplify(A).to_dense(), expected, rtol=1e-13)


def test_parts_take_in_scalars_in_the_precision_of_the_whole():
    """Integers would wrap around, and narrow numbers be rounded."""
    whole, small = np.random.default_rng(0).standard_normal((2, 2)), np.full((2, 2), 100, np.int8)
    narrow = whole.astype(np.float32)
    for part in (small, narrow):
        for A in (
            lo.Block([[lo.Dense(whole), lo.Dense(part)], [None, lo.Dense(part)]]),
            lo.BlockDiag([lo.Dense(part), lo.Dense(whole)]),
            lo.KroneckerSum(lo.Dense(part), lo.Dense(whole)),
            lo.Dense(whole) @ lo.LowRank(part, whole) + lo.Dense(part),
            lo.LowRank(part[:, :1], whole[:1]),
        ):
            np.testing.assert_allclose(lo.simplify(A + A).to_dense(), 2 * A.to_dense(), rtol=1e-13)
            np.testing.assert_allclose(lo.simplify(0.1 * A).to_dense(), 0.1 * A.to_dense(), rtol=1e-13)


@pytest.mark.parametrize("reverse", [False, True])
def test_several_reflections_in_long_double(reverse):
    v = np.random.default_rng(0).standard_normal((3, 4)).astype(np.longdouble)
    expected = np.eye(4, dtype=np.longdouble)
    for row in v[::-1] if reverse else v:
        expected = expected @ (np.eye(4) - 2 * np.outer(row, row) / (row @ row))
    tolerance = 100 * np.finfo(np.longdouble).eps
    np.testing.assert_allclose(lo.Householder(v, reverse).to_dense(), expected, rtol=tolerance, atol=tolerance)


def test_sparse_booleans_on_jax():
    values, dense = np.array([True, True, False]), np.array([[True, False], [True, False]])
    A = lo.Sparse(values, [0, 1, 0], [0, 0, 1], (2, 2)).to(backend="jax")
    np.testing.assert_array_equal(A.to_dense(), dense)
    np.testing.assert_array_equal(A[:, [1, 0]] @ jnp.array([False, True]), [True, True])
    np.testing.assert_array_equal(A[:, [0, 0]] @ jnp.array([False, True]), [True, True])
    np.testing.assert_array_equal(jnp.array([True, False]) @ A[[1, 1]], [True, False])


def test_integers_become_floats_before_they_are_summed():
    x = np.full(3, 100, np.int8)
    # which has no array, and so no dtype of its own
    A = lo.KroneckerSum(lo.Permute(np.array([1, 0, 2])), lo.Pad(1, 1)) / 3
    np.testing.assert_allclose(A @ x, A.to_dense() @ x)
    np.testing.assert_allclose(x @ A, x @ A.to_dense())
    np.testing.assert_allclose((lo.Identity(3) * 0.5 + lo.Identity(3)) @ x, 1.5 * x.astype(float))
    B = lo.KroneckerSum(lo.Function((3, 3), lambda y: 3 * y, lambda y: 3 * y), lo.DFT(1))
    np.testing.assert_allclose(B @ x, np.full(3, 400))
    assert ((A @ torch.tensor(x)) - torch.tensor(A.to_dense() @ x, dtype=torch.float32)).abs().max() < 1e-4
