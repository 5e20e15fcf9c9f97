"""Empty and 1×1 operators, NaN and infinity, integers and booleans."""

import numpy as np
import pytest
import torch
from cases.functions import multiply, multiply_adjoint
from coverage_page import operator_classes
from helpers import as_numpy, build, each, every_case, every_eager_backend, on

import linops as lo
from linops.testing import check_operator


def array(*shape):
    return np.random.default_rng(0).standard_normal(shape)


#: the smallest operators of each class: 0×n, n×0, 0×0 where they exist, and 1×1
SMALL = {
    "BlockDiag": [
        *(lambda shape=shape: lo.BlockDiag(array(*shape)) for shape in ((0, 2, 3), (2, 0, 3), (2, 3, 0), (1, 1, 1))),
    ],
    "BlockTensorTrain": [
        lambda: lo.BlockTensorTrain([array(1, 1, 1), array(1, 1, 1)]),
        # rank 0; its ranks follow from its dims, so those are > 0
        lambda: lo.BlockTensorTrain([array(2, 0, 2), array(3, 2, 0)], (3, 2), (2, 2)),
    ],
    "Dense": [lambda shape=shape: lo.Dense(array(*shape)) for shape in ((0, 3), (3, 0), (0, 0), (1, 1))],
    "Diagonal": [lambda: lo.Diagonal(array(0)), lambda: lo.Diagonal(array(1))],
    "Identity": [lambda: lo.Identity(0), lambda: lo.Identity(1)],
    "Kronecker": [
        lambda shape=shape: lo.Kronecker(array(*shape), array(2, 3)) for shape in ((0, 3), (3, 0), (0, 0), (1, 1))
    ],
    "LowRank": [
        *(
            lambda m=m, n=n, r=r: lo.LowRank(array(m, r), array(r, n))
            for m, n, r in ((0, 3, 2), (3, 0, 2), (0, 0, 0), (2, 3, 0), (1, 1, 1))
        ),
    ],
    "Pad": [lambda m=m, n=n: lo.Pad(m, n) for m, n in ((0, 3), (3, 0), (0, 0), (1, 1))],
    "Permute": [lambda: lo.Permute([]), lambda: lo.Permute([0])],
    "PermuteAxes": [lambda: lo.Permute.axes((0, 3), (1, 0)), lambda: lo.Permute.axes((), ())],
    "Power": [lambda: lo.Power(lo.Dense(array(0, 0)), 2), lambda: lo.Power(lo.Dense(array(1, 1)), 2)],
    "Product": [
        *(
            lambda m=m, k=k, n=n: lo.Product((lo.Dense(array(m, k)), lo.Dense(array(k, n))))
            for m, k, n in ((0, 2, 3), (3, 2, 0), (2, 0, 3))
        ),
        lambda: lo.Product((lo.Dense(array(1, 1)), lo.Dense(array(1, 1)))),
    ],
    "Scaled": [lambda shape=shape: lo.Scaled(lo.Dense(array(*shape)), 2) for shape in ((0, 3), (3, 0), (0, 0), (1, 1))],
    "Sum": [lambda shape=shape: lo.Sum((lo.Dense(array(*shape)),) * 2) for shape in ((0, 3), (3, 0), (0, 0), (1, 1))],
    "TensorTrain": [
        lambda: lo.TensorTrain([array(1, 1, 1, 1), array(1, 1, 1, 1)]),
        lambda: lo.TensorTrain([array(1, 0, 2, 2), array(2, 2, 2, 1)]),
        lambda: lo.TensorTrain([array(1, 2, 0, 2), array(2, 2, 2, 1)]),
        lambda: lo.TensorTrain([array(1, 2, 2, 0), array(0, 2, 2, 1)]),
    ],
    "Block": [
        lambda: lo.Block([[array(0, 3)], [array(2, 3)]]),
        lambda: lo.Block([[array(0, 0), array(0, 2)]]),
        lambda: lo.Block([[array(1, 1)]]),
    ],
    "Butterfly": [lambda: lo.Butterfly([array(1, 0, 2, 2)]), lambda: lo.Butterfly([array(1, 1, 1, 1)])],
    "Circulant": [lambda: lo.Circulant(array(0)), lambda: lo.Circulant(array(1))],
    "DFT": [lambda: lo.DFT(0), lambda: lo.DFT(1)],
    "Einsum": [lambda shape=shape: lo.Einsum("ij,j->i", array(*shape)) for shape in ((0, 3), (3, 0), (0, 0), (1, 1))],
    "DirectSum": [
        *(
            lambda sizes=sizes: lo.DirectSum([array(*size) for size in sizes])
            for sizes in (((0, 3), (2, 0)), ((0, 3),))
        ),
        lambda: lo.DirectSum([array(1, 1)]),
    ],
    "Function": [
        lambda m=m, n=n: lo.Function((m, n), multiply, multiply_adjoint, (array(m, n),), macs=m * n)
        for m, n in ((0, 3), (3, 0), (0, 0), (1, 1))
    ],
    "Hadamard": [lambda: lo.Hadamard(1)],
    "Householder": [lambda: lo.Householder(array(1)), lambda: lo.Householder(array(2, 1))],
    "KroneckerSum": [
        lambda: lo.KroneckerSum(array(0, 0), array(2, 2)),
        lambda: lo.KroneckerSum(array(1, 1), array(1, 1)),
    ],
    "Selected": [
        lambda: lo.Dense(array(3, 4))[[2, 0, 1], 4:],
        lambda: lo.Dense(array(3, 4))[[], [0, 0]],
        lambda: lo.Selected(lo.Dense(array(3, 4)), np.array([1]), np.array([3])),
    ],
    "Sliced": [
        lambda: lo.Dense(array(3, 4))[1:1, :],
        lambda: lo.Dense(array(3, 4))[[0, 2], 4:],
        lambda: lo.Dense(array(3, 4))[[], []],
        lambda: lo.Dense(array(3, 4))[1:2, [3]],
    ],
    "Sparse": [
        *(lambda size=size: lo.Sparse(array(0), [], [], size) for size in ((0, 3), (3, 0), (0, 0))),
        lambda: lo.Sparse(array(1), [0], [0], (1, 1)),
    ],
    "Toeplitz": [lambda m=m, n=n: lo.Toeplitz(array(m), array(n)) for m, n in ((0, 3), (3, 0), (0, 0), (1, 1))],
    "Triangular": [lambda: lo.Triangular(array(0, 0), lower=True), lambda: lo.Triangular(array(1, 1), lower=False)],
    "Tridiagonal": [
        lambda: lo.Tridiagonal(array(0), array(0), array(0)),
        lambda: lo.Tridiagonal(array(0), array(1), array(0)),
    ],
    "Zero": [lambda m=m, n=n: lo.Zero(m, n) for m, n in ((0, 3), (3, 0), (0, 0), (1, 1))],
}
#: a power of two, unit vectors; ranks follow from dims
NEVER_EMPTY = ("Hadamard", "Householder", "BlockTensorTrain")
SMALLEST = [(kind, number) for kind, makers in SMALL.items() for number in range(len(makers))]


def test_every_class_is_tried_small():
    # of functions of a vector of one number at least
    assert set(SMALL) == set(operator_classes()) - {"Jacobian", "Hessian"}
    for kind, makers in SMALL.items():
        operators = [make() for make in makers]
        assert {type(operator).__name__ for operator in operators} == {kind}
        assert any(operator.shape == (1, 1) for operator in operators) or kind in ("BlockDiag", "Kronecker")
        assert any(0 in operator.shape for operator in operators) or kind in NEVER_EMPTY


@pytest.mark.parametrize(("kind", "number"), SMALLEST)
@every_eager_backend
def test_empty_and_smallest_operators_conform(kind, number, backend):
    check_operator(SMALL[kind][number](), backend=backend, skip={"compile": "test_conformance.py has it"}, rtol=1e-13)


@pytest.mark.parametrize("kind", each(8, SMALL))
def test_smallest_operators_on_jax(kind):
    operator = next(
        operator for make in reversed(SMALL[kind]) if 0 in (operator := make()).shape or make is SMALL[kind][0]
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
