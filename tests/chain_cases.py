"""Operators that are chains of tensors, and what their products are compared with."""

import torch

import linops as lo

TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-12}
OPERATORS = {
    "kronecker": lambda: lo.kron(lo.dense(5, 3), lo.dense(4, 6)),
    "kronecker of three": lambda: lo.kron(lo.dense(2, 3), lo.dense(4, 2), lo.dense(3, 5)),
    "kronecker of products": lambda: lo.kron(lo.dense(5, 3) @ lo.dense(3, 4), lo.block_diag(6, 4, blocks=2)),
    "kronecker of a diagonal": lambda: lo.kron(lo.Diagonal(lo.spec(3)), lo.dense(4, 6)),
    "btt": lambda: lo.btt(24, 20, rank=2),
    "btt of three cores": lambda: lo.btt(36, 64, rank=3, cores=3),
    "tensor train": lambda: lo.tensor_train(36, 64, rank=3, cores=3),
    "block diagonal": lambda: lo.block_diag(24, 36, blocks=4),
    "one block": lambda: lo.BlockDiag(lo.spec(1, 5, 7)),
    "monarch": lambda: lo.monarch(32, 32, blocks=4),
    "monarch that is no network": lambda: lo.monarch(24, 36, blocks=4),
    "butterfly": lambda: lo.butterfly(32, 32),
    "butterfly of other blocks": lambda: lo.Butterfly([lo.spec(1, 6, 2, 3), lo.spec(3, 6, 1, 4), lo.spec(12, 3, 2, 2)]),
    "butterfly whose factors copy": lambda: lo.Butterfly([lo.spec(4, 2, 3, 2), lo.spec(2, 4, 2, 5)]),
    "blast": lambda: lo.blast(24, 36, rank=5, blocks=3),
    "product": lambda: lo.dense(7, 40) @ lo.dense(40, 9) @ lo.Diagonal(lo.spec(9)),
    "product with a transform": lambda: (
        lo.dense(7, 4) @ lo.dense(4, 16) @ lo.Hadamard(16) @ lo.monarch(16, 16, blocks=4)
    ),
    "squares": lambda: lo.kron(lo.dense(1, 1), lo.dense(6, 1), lo.dense(1, 5)),
}


def concrete(name, dtype=torch.float64):
    return OPERATORS[name]().init(seed=0, backend="torch").to(dtype=dtype)


def plain(function):
    """What a function returns without kernels."""
    with lo.kernels.use("off"):
        return function()


def close(found, expected):
    assert found.dtype is expected.dtype
    assert found.shape == expected.shape
    assert (found - expected).norm() <= TOLERANCE[found.dtype] * expected.norm() + 1e-30
