"""The leading eigenvectors of Hermitian matrices, where these are few and found apart from the others."""

import numpy as np
import pytest

from linops import backends
from linops.backends import factorizations as lapack

BACKENDS = ["numpy", "torch", pytest.param("jax", marks=pytest.mark.full)]


@pytest.mark.parametrize("spectrum", ["gaussian", "equal", "zero", "nines"])
@pytest.mark.parametrize(("n", "count"), [(4, 1), (33, 0), (33, 3), (64, 8), (64, 60)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_leading_eigenvectors(backend, dtype, n, count, spectrum):
    rng = np.random.default_rng(0)
    M = rng.standard_normal((2, 3, n, n)) + (1j * rng.standard_normal((2, 3, n, n)) if dtype[0] == "c" else 0)
    values = {
        "gaussian": np.sort(rng.standard_normal(n) ** 2),
        "equal": np.ones(n),
        "zero": np.zeros(n),
        "nines": np.arange(n) // 9,
    }[spectrum]
    Q = np.linalg.qr(M)[0]
    A = ((Q * values) @ Q.conj().swapaxes(-1, -2)).astype(dtype)
    given = backends.asarray(A, backend, dtype)
    found = lapack.leading_eigenvectors(given, count)
    assert backends.backend_of(found) == backend
    V = backends.to_numpy(found)
    assert V.shape == (2, 3, n, count)
    assert V.dtype == dtype
    eps = np.finfo(dtype).eps
    assert np.abs(V.conj().swapaxes(-1, -2) @ V - np.eye(count)).max(initial=0) <= 20 * n * eps
    held = np.trace(V.conj().swapaxes(-1, -2) @ A @ V, axis1=-2, axis2=-1).real
    assert np.allclose(held, values[n - count :].sum(), rtol=0, atol=20 * n * eps * values.max(initial=0))
    assert np.array_equal(backends.to_numpy(given), A)  # which is not written to


def test_leading_eigenvectors_of_what_is_not_finite_are_those_of_eigh():
    A = np.full((64, 64), np.nan)
    try:
        expected = np.linalg.eigh(A)[1][:, -2:]
    except np.linalg.LinAlgError:
        with pytest.raises(np.linalg.LinAlgError):
            lapack.leading_eigenvectors(A, 2)
    else:
        assert np.array_equal(lapack.leading_eigenvectors(A, 2), expected, equal_nan=True)
