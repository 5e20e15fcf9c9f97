"""Empty and 1×1 operators, NaN and infinity, integers and booleans."""

from collections import defaultdict

import numpy as np
import pytest
import torch
from cases import CASES
from coverage_page import operator_classes
from helpers import as_numpy, build, each, every_case, every_eager_backend, on

import linops as lo
from linops.testing import check_operator


def array(*shape):
    return np.random.default_rng(0).standard_normal(shape)


#: the smallest operators of each class, as cases give them
SMALL = defaultdict(list)
for case in CASES.values():
    for make in getattr(case, "small", ()):
        SMALL[type(make(array)).__name__].append(make)
#: a power of two, unit vectors; ranks follow from dims
NEVER_EMPTY = ("Hadamard", "Householder", "BlockTensorTrain")
SMALLEST = [(kind, number) for kind, makers in SMALL.items() for number in range(len(makers))]


def test_every_class_is_tried_small():
    # of functions of a vector of one number at least
    missing = set(operator_classes()) - {"Jacobian", "Hessian"} - set(SMALL)
    assert not missing, f"@small on a case of {', '.join(sorted(missing))}"
    for kind, makers in SMALL.items():
        operators = [make(array) for make in makers]
        assert any(operator.shape == (1, 1) for operator in operators) or kind in ("BlockDiag", "Kronecker")
        assert any(0 in operator.shape for operator in operators) or kind in NEVER_EMPTY


@pytest.mark.parametrize(("kind", "number"), SMALLEST)
@every_eager_backend
def test_empty_and_smallest_operators_conform(kind, number, backend):
    check_operator(
        SMALL[kind][number](array), backend=backend, skip={"compile": "test_conformance.py has it"}, rtol=1e-13
    )


@pytest.mark.parametrize("kind", each(8, SMALL))
def test_smallest_operators_on_jax(kind):
    operator = next(
        operator for make in reversed(SMALL[kind]) if 0 in (operator := make(array)).shape or make is SMALL[kind][0]
    )
    only = {"dense", "transposes", "vectors_and_matrices", "batches", "left_products", "dtypes", "gradient", "tags"}
    check_operator(operator, backend="jax", skip=set(lo.testing.CHECKS) - only, rtol=1e-13)


# ---------------------------------------------------------------- NaN and infinity


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@every_eager_backend
@every_case
def test_what_is_not_finite_reaches_every_row_that_reads_it(case, backend, value):
    operator, matrix, array = build(case, "float64", backend)
    x = array(matrix.shape[1], 3)
    for column in range(matrix.shape[1]):
        x[column, 1] = value
        with np.errstate(invalid="ignore"):  # infinity minus infinity, and times zero
            y = as_numpy(operator @ on(backend, x))
        reads = matrix[:, column] != 0
        found = y[reads, 1]
        assert np.isnan(found).all() if np.isnan(value) else not np.isfinite(found).any()
        assert np.isfinite(y[:, [0, 2]]).all()  # other vectors are not touched
        x[column, 1] = 0.0


@every_eager_backend
def test_nan_of_a_leaf_reaches_its_rows(backend):
    matrix = np.arange(6.0).reshape(2, 3)
    matrix[1, 2] = np.nan
    y = as_numpy(lo.Dense(on(backend, matrix)) @ on(backend, np.ones(3)))
    assert y[0] == 3
    assert np.isnan(y[1])


@every_eager_backend
def test_structure_passes_by_what_it_does_not_read(backend):
    # a dense matrix of the same map would make NaN of 0 · NaN; a structure does not read what it multiplies by zero
    x = on(backend, np.array([np.nan, 1.0, np.inf, 2.0]))
    np.testing.assert_array_equal(as_numpy(lo.Permute([3, 2, 1, 0]) @ x), [2.0, np.inf, 1.0, np.nan])
    np.testing.assert_array_equal(as_numpy(lo.Permute.axes((2, 2), (1, 0)) @ x), [np.nan, np.inf, 1.0, 2.0])
    np.testing.assert_array_equal(as_numpy(lo.Pad(2, 4) @ x), [np.nan, 1.0])
    np.testing.assert_array_equal(as_numpy(lo.Identity(4) @ x), as_numpy(x))
    np.testing.assert_array_equal(as_numpy(lo.Zero(2, 4) @ x), [0.0, 0.0])
    blocks = lo.BlockDiag(on(backend, np.ones((2, 2, 2))))
    np.testing.assert_array_equal(as_numpy(blocks @ x), [np.nan, np.nan, np.inf, np.inf])


# ---------------------------------------------------------------- integers and booleans

WITHOUT_ARRAYS = {
    "identity": lambda: lo.Identity(6),
    "permute": lambda: lo.Permute([5, 3, 1, 0, 2, 4]),
    "axes": lambda: lo.Permute.axes((2, 3), (1, 0)),
    "crop": lambda: lo.Pad(4, 6),
    "pad": lambda: lo.Pad(8, 6),
    "zero": lambda: lo.Zero(3, 6),
    "product": lambda: lo.Pad(4, 6) @ lo.Permute.axes((2, 3), (1, 0)),
    "blocks": lambda: lo.BlockDiag([lo.Identity(2), lo.Pad(3, 4)]),
    "kronecker": lambda: lo.Kronecker(lo.Identity(2), lo.Permute([2, 0, 1])),
}


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int64", "float16", "longdouble"])
@pytest.mark.parametrize("name", WITHOUT_ARRAYS)
def test_operators_without_arrays_keep_every_dtype(name, dtype):
    operator = WITHOUT_ARRAYS[name]()
    matrix = operator.to_dense()
    x = np.random.default_rng(0).integers(0, 2, (6, 3)).astype(dtype)
    for y, expected in (
        (operator @ x, matrix @ x),
        (operator @ x[:, 0], matrix @ x[:, 0]),
        (x.T @ operator.T, x.T @ matrix.T),
    ):
        assert y.dtype == x.dtype
        np.testing.assert_array_equal(y.astype(float), expected.astype(float))


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int64", "float16", "float32", "complex64"])
@pytest.mark.parametrize("number", [2, 2.5, 1j])
def test_numbers_promote_as_numpys(number, dtype):
    x = np.random.default_rng(0).integers(0, 2, (6, 3)).astype(dtype)
    y = (number * lo.Permute.axes((2, 3), (1, 0))) @ x
    expected = number * x.reshape(2, 3, 3).swapaxes(0, 1).reshape(6, 3)
    assert y.dtype == expected.dtype
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("operand", ["bool", "int8", "uint8", "int32", "int64", "float16"])
@pytest.mark.parametrize("leaf", ["int8", "int64", "float16", "float32", "float64", "complex64"])
def test_operands_promote_as_numpys(leaf, operand):
    a = np.random.default_rng(0).integers(-3, 4, (3, 3)).astype(leaf)
    x = np.random.default_rng(1).integers(0, 4, (3, 2)).astype(operand)
    for operator, matrix in (
        (lo.Dense(a), a),
        (lo.Dense(a) + lo.Identity(3), a + np.eye(3, dtype=leaf)),
        (lo.Dense(a) + 3.0 * lo.Identity(3), None),
    ):
        y = operator @ x
        if matrix is not None:
            assert y.dtype == (matrix @ x).dtype
            np.testing.assert_array_equal(y, matrix @ x)
        assert y.dtype == np.result_type(operator.dtype, x.dtype)
        assert (x.T @ operator).dtype == y.dtype


def test_parts_without_arrays_do_not_compute_in_a_narrow_operands_dtype():
    a = np.ones((2, 2), np.float32)
    x = np.array([100, 100], np.int8)
    np.testing.assert_array_equal((lo.Dense(a) + 3 * lo.Identity(2)) @ x, [500, 500])
    y = (lo.Dense(a) + 1e5 * lo.Identity(2)) @ np.ones(2, np.float16)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, [100002, 100002])


def test_torch_refuses_to_mix_dtypes():
    for dtype in (torch.int64, torch.bool, torch.float64):
        with pytest.raises(RuntimeError, match="dtype"):
            lo.Dense(torch.ones(2, 2)) @ torch.ones(2, dtype=dtype)
