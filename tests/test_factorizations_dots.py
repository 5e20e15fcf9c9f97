"""Inner products along the last axis, on three backends."""

import numpy as np
import pytest

from linops import backends
from linops.backends import factorizations as lapack


@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 7), (0, 3), (3, 0)])
@pytest.mark.parametrize("dtype", ["float32", "complex64"])
@pytest.mark.parametrize("backend", ["numpy", "torch", "jax"])
def test_inner_products(backend, dtype, shape):
    rng = np.random.default_rng(0)
    x, y, *imaginary = rng.standard_normal((4, *shape))
    if dtype == "complex64":
        x, y = x + 1j * imaginary[0], y + 1j * imaginary[1]
    found = lapack.dots(backends.asarray(x, backend, dtype), backends.asarray(y, backend, dtype))
    assert backends.backend_of(found) == backend
    found = backends.to_numpy(found)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, np.sum(x.conj() * y, axis=-1), rtol=1e-5, atol=1e-5)
