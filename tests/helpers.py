"""What the tests share: backends, dtypes, comparison with dense arithmetic."""

import zlib

import numpy as np
import pytest
from cases import CASES
from cases.limits import BACKENDS, DTYPES, names

import linops as lo
from linops import backends

#: largest error allowed, as a share of |A| |x|: some 100 roundings
TOLERANCE = {"float32": 1e-5, "complex64": 1e-5, "float64": 1e-13, "complex128": 1e-13}
#: families whose products are transforms, not contractions
FOURIER = ("circulant", "toeplitz")

every_case = pytest.mark.parametrize("case", CASES)
every_backend = pytest.mark.parametrize("backend", BACKENDS)
#: the backends that run a product without compiling it first
every_eager_backend = pytest.mark.parametrize("backend", ["numpy", "torch"])
every_dtype = pytest.mark.parametrize("dtype", DTYPES)
#: says which backends and dtypes a test over cases uses besides its parameters (NumPy and float64 are not said), for
#: cases with limits
uses = pytest.mark.uses


def each(step, values):
    """Parameters of which every `step`-th runs by default, and all under `-m full`."""
    rows = [value if isinstance(value, tuple) else (value,) for value in values]
    return [pytest.param(*row, marks=() if place % step == 0 else pytest.mark.full) for place, row in enumerate(rows)]


def randoms(name, dtype):
    """A function shape → random array of a dtype, the same numbers each time for a name."""
    random = np.random.default_rng(zlib.crc32(name.encode()))

    def array(*shape):
        real = random.standard_normal(shape)
        return np.asarray(real + 1j * random.standard_normal(shape) if "complex" in dtype else real, dtype)

    return array


def build(case, dtype="float64", backend="numpy"):
    """(operator on the backend, its dense matrix in NumPy, maker of random NumPy arrays)."""
    array = randoms(case, dtype)
    operator, matrix = CASES[case](array)
    return operator.to(backend=backend), matrix, array


def eager(operator, case):
    """A case's operator on a backend that runs products uncompiled: NumPy, or torch where the case has no NumPy."""
    return operator.to(backend="numpy" if "numpy" in names(CASES[case]) else "torch")


def on(backend, array):
    """A NumPy array on a backend."""
    return backends.asarray(array, backend)


def as_numpy(array):
    """An array of any backend in NumPy."""
    return backends.to_numpy(array)


def assert_close(actual, expected, scale=None, dtype="float64"):
    """Assert equal shapes, and errors within the tolerance of the dtype times a scale."""
    actual = as_numpy(actual)
    assert actual.shape == expected.shape
    scale = np.abs(expected) if scale is None else scale
    bound = TOLERANCE[dtype] * (float(np.max(scale)) if np.size(scale) else 0.0)
    error = float(np.max(np.abs(actual - expected))) if expected.size else 0.0
    assert error <= bound, f"error {error:.2e} above {bound:.2e}"


def assert_product(actual, matrix, x, dtype):
    """Assert that an array is the product of NumPy's matmul within rounding."""
    assert_close(actual, matrix @ x, np.abs(matrix) @ np.abs(x), dtype)


def assert_left_product(actual, x, matrix, dtype):
    """Assert that an array is x @ matrix within rounding."""
    assert_close(actual, x @ matrix, np.abs(x) @ np.abs(matrix), dtype)


def leaves(operator):
    """The leaves of an operator."""
    return [leaf for _, leaf in operator.named_leaves()]


def assert_is(operator, matrix, dtype="float64"):
    """Assert that an operator is a matrix: shape, entries, T, H and conj."""
    assert isinstance(operator, lo.LinearOperator)
    assert operator.shape == matrix.shape
    for ours, theirs in (
        (operator, matrix),
        (operator.T, matrix.T),
        (operator.H, matrix.conj().T),
        (operator.conj(), matrix.conj()),
    ):
        assert ours.shape == theirs.shape
        assert_close(ours.to_dense(), theirs, dtype=dtype)
