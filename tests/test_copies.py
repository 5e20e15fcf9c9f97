"""Pickle, deepcopy, moves between backends and dtypes, hashing."""

import copy
import pickle

import numpy as np
import pytest
from helpers import BACKENDS, as_numpy, assert_close, assert_is, build, eager, every_backend, every_case, leaves, uses

import linops as lo


@uses("complex128")
@every_backend
@every_case
def test_pickle_and_deepcopy(case, backend):
    operator, matrix, _ = build(case, "complex128", backend)
    for twin in (pickle.loads(pickle.dumps(operator)), copy.deepcopy(operator), copy.copy(operator)):
        assert type(twin) is type(operator)
        assert twin.backend == operator.backend
        assert repr(twin) == repr(operator)
        assert_is(eager(twin, case), matrix, "complex128")


@every_case
def test_deepcopy_shares_no_memory(case):
    operator, _, _ = build(case)
    for ours, theirs in zip(leaves(operator), leaves(copy.deepcopy(operator))):
        assert not np.shares_memory(ours, theirs)


@uses("complex128")
@pytest.mark.parametrize("target", BACKENDS)
@every_backend
@every_case
def test_move_between_backends(case, backend, target):
    operator, matrix, _ = build(case, "complex128", backend)
    moved = operator.to(backend=target)
    assert moved.backend == (target if leaves(operator) else None)
    assert str(moved.dtype).removeprefix("torch.") == str(operator.dtype).removeprefix("torch.")
    assert_is(moved if target == "torch" else eager(moved, case), matrix, "complex128")


@pytest.mark.parametrize(("dtype", "target"), [("float64", "float32"), ("float32", "float64"), ("float64", "complex128")])
@every_backend
@every_case
def test_change_dtype(case, backend, dtype, target):
    operator, matrix, _ = build(case, dtype, backend)
    moved = operator.to(dtype=target)
    assert moved.backend == operator.backend
    assert all(str(leaf.dtype).removeprefix("torch.") == target for leaf in leaves(moved))
    assert_close(eager(moved, case).to_dense(), matrix, dtype="float32" if "32" in dtype + target else "float64")


@uses(*BACKENDS)
@every_case
def test_move_keeps_numbers_exactly(case):
    operator, _, _ = build(case)
    there_and_back = operator.to(backend="torch").to(backend="jax").to(backend="numpy")
    for ours, theirs in zip(leaves(operator), leaves(there_and_back)):
        assert np.array_equal(ours, as_numpy(theirs))


@every_case
def test_hash_and_equality_are_identity(case):
    operator, _, _ = build(case)
    twin = copy.copy(operator)
    assert {operator: 1}[operator] == 1
    assert operator == operator
    assert operator != twin
    assert len({operator, twin}) == 2


@every_case
def test_asarray_is_dense(case):
    operator, matrix, _ = build(case)
    np.testing.assert_allclose(np.asarray(operator), matrix, rtol=1e-12, atol=1e-12)
    assert np.asarray(operator, dtype="complex128").dtype == np.complex128


def test_built_in_sum():
    matrix = np.ones((2, 2))
    np.testing.assert_array_equal(sum([lo.Dense(matrix), lo.Dense(matrix)]).to_dense(), 2 * matrix)
