"""Every case against NumPy's matmul with its dense matrix."""

import jax
import numpy as np
import pytest
from helpers import (
    as_numpy,
    assert_close,
    assert_is,
    assert_left_product,
    assert_product,
    build,
    every_case,
    every_dtype,
    every_eager_backend,
    on,
    uses,
)


@every_dtype
@every_eager_backend
@every_case
class TestEveryCase:
    def test_dense_transpose_adjoint_conjugate(self, case, backend, dtype):
        operator, matrix, _ = build(case, dtype, backend)
        assert_is(operator, matrix, dtype)

    def test_right_products(self, case, backend, dtype):
        operator, matrix, array = build(case, dtype, backend)
        n = matrix.shape[1]
        for shape in ((n,), (n, 1), (n, 5), (2, n, 3), (1, n, 1), (2, 3, n, 2), (0, n, 2), (n, 0)):
            x = array(*shape)
            assert_product(operator @ on(backend, x), matrix, x, dtype)

    def test_left_products(self, case, backend, dtype):
        operator, matrix, array = build(case, dtype, backend)
        m = matrix.shape[0]
        for shape in ((m,), (1, m), (5, m), (2, 3, m), (2, 1, 3, m), (0, m)):
            x = array(*shape)
            assert_left_product(on(backend, x) @ operator, x, matrix, dtype)

    def test_products_of_transpose_and_adjoint(self, case, backend, dtype):
        operator, matrix, array = build(case, dtype, backend)
        for shape in ((matrix.shape[0],), (matrix.shape[0], 3), (2, matrix.shape[0], 3)):
            x = array(*shape)
            assert_product(operator.T @ on(backend, x), matrix.T, x, dtype)
            assert_product(operator.H @ on(backend, x), matrix.conj().T, x, dtype)

    def test_dtype_is_that_of_the_dense_product(self, case, backend, dtype):
        operator, matrix, array = build(case, dtype, backend)
        x = array(matrix.shape[1], 2)
        # what has no array (Identity, Pad, …) takes the dtype of what it meets
        expected = np.result_type(x.dtype, 1j) if "complex" in str(matrix.dtype) else x.dtype
        assert as_numpy(operator @ on(backend, x)).dtype == expected
        if operator.dtype is not None:
            assert str(operator.dtype).removeprefix("torch.") == str(expected)
            assert as_numpy(operator.to_dense()).dtype == expected

    def test_strided_operands(self, case, backend, dtype):
        operator, matrix, array = build(case, dtype, backend)
        x = array(2 * matrix.shape[1], 6)[::2].T[::2].T  # no axis is contiguous
        assert_product(operator @ on(backend, x), matrix, x, dtype)


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


def check_on_jax(case, dtype, products):
    operator, matrix, array = build(case, dtype, "jax")
    m, n = matrix.shape
    xs, ys = [array(n), array(n, 5), array(2, 3, n, 1)], [array(m), array(5, m), array(2, 3, m)]
    found = products(operator, [on("jax", x) for x in xs], [on("jax", y) for y in ys])
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


@uses("jax")
@pytest.mark.parametrize("dtype", ["float32", "complex128"])  # float64: test_gradients.py and test_transforms.py
@every_case
def test_jax_compiled_with_the_operator_as_an_argument(case, dtype):
    check_on_jax(case, dtype, jax.jit(every_product))


@pytest.mark.parametrize("case", ["dense_wide", "block_diag_tall", "permute_indices"])
def test_jax_eager(case):
    check_on_jax(case, "complex128", every_product)


@every_eager_backend
@every_case
def test_results_never_share_memory_with_operands(case, backend):
    operator, matrix, array = build(case, "float64", backend)
    m, n = matrix.shape
    for shape in ((n,), (n, 1), (n, 3), (1, n, 2), (2, n, 1)):
        x = on(backend, array(*shape))
        before = as_numpy(x).copy()
        y = operator @ x
        y[...] = 7.0
        assert np.array_equal(as_numpy(x), before)
    for shape in ((m,), (1, m), (3, m), (2, 1, m)):
        x = on(backend, array(*shape))
        before = as_numpy(x).copy()
        y = x @ operator
        y[...] = 7.0
        assert np.array_equal(as_numpy(x), before)


@every_case
def test_products_leave_the_operator_as_it_was(case):
    operator, matrix, array = build(case)
    y = operator @ array(matrix.shape[1], 2)
    y[...] = 7.0
    z = operator @ array(matrix.shape[1])
    z[...] = 7.0
    assert_is(operator, matrix)
