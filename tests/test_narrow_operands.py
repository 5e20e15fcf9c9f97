"""Operands of narrow and odd dtypes: what NumPy computes, without overflow on the way."""

import numpy as np
import pytest
import torch

import linops as lo

TALL = np.arange(8.0).reshape(4, 2)


@pytest.mark.parametrize("number", [100, -1, 300, 2.5, 1e5])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.float16])
def test_numbers_scale_narrow_operands_without_overflow(number, dtype):
    x = np.array([100, 3], dtype)
    scaled = number * lo.Dense(TALL)  # tall: where dtypes agree, the operand is scaled
    np.testing.assert_allclose(scaled @ x, number * (TALL @ x))
    np.testing.assert_allclose(x @ scaled.T, number * (TALL @ x))


@pytest.mark.parametrize("dtype", [np.uint8, np.bool_])
def test_arrays_without_negatives_are_subtracted(dtype):
    array = np.array([[1, 2], [3, 0]]).astype(dtype)
    np.testing.assert_array_equal((lo.Dense(np.eye(2)) - array).to_dense(), np.eye(2) - array)
    np.testing.assert_array_equal((array - lo.Dense(np.eye(2))).to_dense(), array - np.eye(2))


def test_long_complex_numbers_keep_their_imaginary_part():
    np.testing.assert_array_equal((np.clongdouble(1 + 2j) * lo.Identity(2)).to_dense(), (1 + 2j) * np.eye(2))


@pytest.mark.parametrize("dtype", ["int8", "int16", "uint64", ">i8"])
def test_permutations_take_integers_of_every_kind(dtype):
    permute = lo.Permute(np.array([3, 1, 0, 2]).astype(dtype)[::-1])  # a negative stride, too
    assert (permute @ torch.arange(4.0)).tolist() == [2, 0, 1, 3]
    assert (permute.to(backend="torch") @ torch.arange(4.0)).tolist() == [2, 0, 1, 3]


def test_permutations_keep_their_own_indices():
    indices = np.array([2, 0, 1])
    permute = lo.Permute(indices)
    indices[:] = 0
    np.testing.assert_array_equal(permute @ np.arange(3.0), [2, 0, 1])


def test_narrow_torch_indices():
    permute = lo.Permute(torch.tensor([1, 2, 0], dtype=torch.uint8))
    assert (permute @ torch.arange(3.0)).tolist() == [1, 2, 0]


def test_specs_and_arrays_in_one_expression_change_dtype():
    mixed = lo.Dense(lo.spec(3, 4)) @ lo.Dense(np.ones((4, 2)))
    assert mixed.to(dtype="float64").factors[0].matrix.dtype == np.float64
    assert mixed.to(dtype="float32").factors[1].matrix.dtype == np.float32


def test_empty_operators_have_multipliers():
    assert lo.lr_multipliers(lo.Dense(lo.spec(3, 0))) == {"matrix": 1.0}
    assert lo.lr_multipliers(lo.Dense(lo.spec(0, 3)), "sgd") == {"matrix": 1.0}


def test_costs_of_numpy_batches_do_not_overflow():
    assert lo.Dense(lo.spec(10**6, 10**6)).flops(np.int32(100)) == 2 * 10**14
