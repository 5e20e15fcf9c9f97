"""Products on JAX without compilation; test_conformance.py has every case on every backend."""

import numpy as np
import pytest
from helpers import assert_close, assert_left_product, assert_product, build, on


def every_product(operator, xs, ys):
    """All kinds of products at once."""
    T, H = operator.T, operator.H
    return {
        "A @ x": [operator @ x for x in xs],
        "y @ A": [y @ operator for y in ys],
        "T @ y": [T @ y for y in ys[:1]],
        "H @ y": [H @ y.mT for y in ys[1:]],
        "dense": [operator.to_dense(), T.to_dense(), H.to_dense(), operator.conj().to_dense()],
    }


@pytest.mark.parametrize("case", ["dense_wide", "block_diag_tall", "permute_indices"])
def test_jax_eager(case):
    dtype = "complex128"
    operator, matrix, array = build(case, dtype, "jax")
    m, n = matrix.shape
    xs, ys = [array(n), array(n, 5), array(2, 3, n, 1)], [array(m), array(5, m), array(2, 3, m)]
    found = every_product(operator, [on("jax", x) for x in xs], [on("jax", y) for y in ys])
    T, H = matrix.T, matrix.conj().T
    for actual, x in zip(found["A @ x"], xs, strict=True):
        assert_product(actual, matrix, x, dtype)
        assert actual.dtype == np.result_type(x, *([1j] if np.iscomplexobj(matrix) else []))
    for actual, y in zip(found["y @ A"], ys, strict=True):
        assert_left_product(actual, y, matrix, dtype)
    assert_product(found["T @ y"][0], T, ys[0], dtype)
    for actual, y in zip(found["H @ y"], ys[1:], strict=True):
        assert_product(actual, H, np.swapaxes(y, -1, -2), dtype)
    for actual, expected in zip(found["dense"], (matrix, T, H, matrix.conj()), strict=True):
        assert_close(actual, expected, dtype=dtype)
