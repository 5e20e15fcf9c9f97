"""What dtypes and numbers promote to: each backend's own rules."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch

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
