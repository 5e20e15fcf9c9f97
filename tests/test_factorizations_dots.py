"""Inner products along the last axis, on three backends."""

import numpy as np
import pytest

from linops import backends
from linops.backends import factorizations as lapack


def drawn(dtype, shape):
    """Two arrays of random numbers."""
    x, y, *imaginary = np.random.default_rng(0).standard_normal((4, *shape))
    return (x + 1j * imaginary[0], y + 1j * imaginary[1]) if dtype == "complex64" else (x, y)


@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 7), (0, 3), (3, 0)])
@pytest.mark.parametrize("dtype", ["float32", "complex64"])
@pytest.mark.parametrize("backend", ["numpy", "torch", "jax"])
def test_inner_products(backend, dtype, shape):
    x, y = drawn(dtype, shape)
    found = lapack.dots(backends.asarray(x, backend, dtype), backends.asarray(y, backend, dtype))
    assert backends.backend_of(found) == backend
    found = backends.to_numpy(found)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, np.sum(x.conj() * y, axis=-1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(5, 1), (3, 4), (7, 2), (0, 3), (3, 0)])
@pytest.mark.parametrize("dtype", ["float64", "complex64"])
@pytest.mark.parametrize("backend", ["numpy", "torch", "jax"])
def test_inner_products_of_columns(backend, dtype, shape):
    x, y = drawn(dtype, shape)
    found = lapack.column_dots(backends.asarray(x, backend, dtype), backends.asarray(y, backend, dtype))
    assert backends.backend_of(found) == backend
    np.testing.assert_allclose(backends.to_numpy(found), np.sum(x.conj() * y, axis=0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 8])
@pytest.mark.parametrize("backend", ["numpy", "torch", "jax"])
def test_inner_products_of_long_columns_keep_their_digits(backend, count):
    x = np.random.default_rng(0).random((10**5, count)).astype("float32")
    ours = backends.asarray(x, backend, "float32")
    expected = (x.astype("float64") ** 2).sum(0)
    np.testing.assert_allclose(backends.to_numpy(lapack.column_dots(ours, ours)), expected, rtol=1e-6)
