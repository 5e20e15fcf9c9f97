"""What dtypes and numbers promote to: each backend's own rules."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch

import linops as lo
from linops import backends

NAMES = [
    "bool",
    "uint8",
    "int8",
    "int32",
    "int64",
    "float16",
    "bfloat16",
    "float32",
    "float64",
    "complex64",
    "complex128",
]
NUMBERS = [True, 3, 2.5, 1j]


@pytest.mark.parametrize("name", NAMES)
def test_torch_promotes_as_its_tensors_do(name):
    dtype = getattr(torch, name)
    for number in NUMBERS:
        assert backends.result_type("torch", dtype, number) == torch.result_type(torch.ones(2, dtype=dtype), number)
    for other in NAMES:
        expected = torch.promote_types(dtype, getattr(torch, other))
        assert backends.result_type("torch", dtype, getattr(torch, other)) == expected


def test_numpy_and_jax_promote_as_themselves():
    assert backends.result_type("numpy", np.dtype("float32"), 2.5) == np.float32
    assert backends.result_type(None, np.dtype("int8"), np.dtype("float32")) == np.float32
    assert backends.result_type("jax", np.dtype("int32"), np.dtype("float32")) == jnp.float32
    assert np.result_type(np.int32, np.float32) == np.float64  # where the two differ


# ---------------------------------------------------------------- what has no dtype of its own still counts


def test_a_zero_beside_what_is_complex_or_has_numbers_keeps_the_dtype():
    zero = lo.Zero(2, 2)
    for A in (lo.DFT(2) @ zero, zero @ lo.DFT(2).H, lo.DFT(2) @ zero @ lo.DFT(2)):
        assert (A @ np.ones(2, "float32")).dtype == "complex64"
    assert ((0.5 * lo.Permute([1, 0])) @ zero @ np.ones(2, int)).dtype == "float64"
    assert isinstance(lo.Permute([1, 0]) @ zero, lo.Zero)


@pytest.mark.parametrize("make", [lambda f: f * (1 + 2j), lambda f: lo.DFT(1) @ f, lambda f: f @ lo.DFT(1)])
def test_halves_among_complex_numbers_are_computed_in_single_precision(make):
    A = make(lo.Function((1, 1), lambda x: 3 * x, lambda x: 3 * x))
    x = np.array([-0.93896484375], "float16")
    np.testing.assert_allclose(A @ x, A @ x.astype("float32"), rtol=1e-6)


def test_leaves_of_two_dtypes_are_not_merged_in_the_narrower_one():
    random = np.random.default_rng(0)
    wide = np.eye(2, 3).astype(np.longdouble)
    A = lo.Dense(random.standard_normal((6, 5)).astype("float32")) @ lo.LowRank(
        random.integers(-(2**31), 2**31, (5, 2)).astype("int32"), wide
    )
    exact = A.factors[0].matrix.astype(np.longdouble) @ A.factors[1].U.astype(np.longdouble) @ wide
    for B in (A, lo.simplify(A), lo.freeze(A)):
        np.testing.assert_allclose(B.to_dense(), exact, rtol=1e-17)
