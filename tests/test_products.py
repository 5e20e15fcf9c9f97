"""Products on JAX uncompiled, and of one vector at sizes that choose kernels; test_conformance.py has every case."""

import numpy as np
import pytest
import torch
from helpers import BACKENDS, assert_close, assert_left_product, assert_product, build, on
from torch.utils.flop_counter import FlopCounterMode

import linops as lo


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


#: on both sides of each size by which a backend chooses how to multiply one vector
FOR_VECTORS = {
    "many blocks of 2": lambda: lo.BlockDiag(lo.spec(256, 2, 2)),
    "many wide blocks": lambda: lo.BlockDiag(lo.spec(200, 2, 8)),
    "small blocks": lambda: lo.BlockDiag(lo.spec(64, 12, 16)),
    "blocks": lambda: lo.BlockDiag(lo.spec(16, 24, 32)),
    "one block": lambda: lo.BlockDiag(lo.spec(1, 120, 96)),
    "few blocks": lambda: lo.BlockDiag(lo.spec(3, 24, 32)),
    "train of one core": lambda: lo.BlockTensorTrain([lo.spec(1, 120, 96)]),
    "train of two cores": lambda: lo.btt(480, 400, rank=2),
    "small train": lambda: lo.btt(256, 256),
    "train of three cores": lambda: lo.btt(512, 1728, rank=2, cores=3),
    "butterfly": lambda: lo.butterfly(512, 512),
    "shared small": lambda: lo.Kronecker(lo.spec(4, 6), lo.spec(6, 4)),
    "shared large": lambda: lo.Kronecker(lo.spec(20, 24), lo.spec(24, 20)),
    "sum of shared": lambda: lo.KroneckerSum(lo.spec(16, 16), lo.spec(20, 20)),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", FOR_VECTORS)
def test_one_vector(name, backend):
    A = FOR_VECTORS[name]().init(0, backend, dtype="float32")
    m, n = A.shape
    random, matrix = np.random.default_rng(1), np.asarray(A.to_dense(), "float64")
    x, y = random.standard_normal(n).astype("float32"), random.standard_normal(m).astype("float32")
    strided = np.repeat(x, 2)[::2]
    for operand in (on(backend, x), on(backend, strided)):
        assert_product(A @ operand, matrix, x, "float32")
    assert_product(A @ on(backend, x[:, None]), matrix, x[:, None], "float32")
    assert_product(A.T @ on(backend, y), matrix.T, y, "float32")
    assert_left_product(on(backend, y) @ A, y, matrix, "float32")


@pytest.mark.parametrize("name", FOR_VECTORS)
def test_one_vector_with_gradients_and_counted_flops(name):
    A = FOR_VECTORS[name]().init(0, "torch", dtype="float64")
    leaves = [leaf.requires_grad_() for _, leaf in A.named_leaves()]
    x = torch.randn(A.shape[1], dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        y = A @ x
    assert counter.get_total_flops() == 2 * A.cost().macs
    weights = torch.linspace(-1, 1, A.shape[0], dtype=torch.float64)
    found = torch.autograd.grad(weights @ y, [x, *leaves])
    columns = torch.autograd.grad((weights @ (A @ torch.stack([x, x], 1))).sum() / 2, [x, *leaves])
    for gradient, expected in zip(found, columns, strict=True):
        torch.testing.assert_close(gradient, expected)
