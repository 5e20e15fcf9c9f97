"""What the code of README and docs is to type checkers: pyright and mypy read it in CI."""

from typing import Any, assert_type

import numpy as np
import torch

import linops as lo
from linops.cost import Cost
from linops.operators import Circulant, Dense, LowRank
from linops.structure import Structure
from linops.tags import Knowledge
from linops.testing import Report

A = lo.btt(64, 64).init(seed=0)
assert_type(A, lo.LinearOperator)
assert_type(A.T, lo.LinearOperator)
assert_type(A.H, lo.LinearOperator)
assert_type(A.conj(), lo.LinearOperator)
assert_type(A.shape, tuple[int, int])
assert_type(A.num_params, int)
assert_type(A.flops(batch=32), int)
assert_type(A.cost(), Cost)
assert_type(A.cost().macs, int)
assert_type(A.explain(batch=32), str)
assert_type(A.is_symbolic, bool)
assert_type(A.is_symmetric, bool | None)

assert_type(A @ A, lo.LinearOperator)
assert_type(A + A, lo.LinearOperator)
assert_type(A - A, lo.LinearOperator)
assert_type(2 * A, lo.LinearOperator)
assert_type(A * 2, lo.LinearOperator)
assert_type(A / 2, lo.LinearOperator)
assert_type(-A, lo.LinearOperator)
assert_type(A**2, lo.LinearOperator)

x = torch.zeros(64)
assert_type(A.to(backend="torch") @ x, torch.Tensor)
y = np.zeros(64, np.float32)
assert_type(A @ y, np.ndarray[tuple[int], np.dtype[np.float32]])
assert_type(A.cost(batch=32).flops, int)
assert_type(A[2:8, ::2], lo.LinearOperator)
assert_type(A.with_leaves([leaf for _, leaf in A.named_leaves()]), lo.LinearOperator)
assert_type(A.structure, Structure)
assert_type(A.tags, Knowledge)
assert_type(A.init(seed=0), lo.LinearOperator)
assert_type(lo.spec(3, 4), lo.Spec)
assert_type(A[[3, 1]], lo.LinearOperator)
assert_type(A[range(2), :], lo.LinearOperator)
assert_type(A[3], Any)  # an array of the operator's framework
assert_type(lo.assume(A, lo.Tag.SYMMETRIC), lo.LinearOperator)
assert_type(lo.initial_stds(A), dict[str, float | None])
assert_type(lo.allclose(A, A), bool)
assert_type(lo.hstack([A, A]), lo.Block)
assert_type(lo.testing.check_operator(A), Report)

P = lo.Permute.axes((16, 48), (1, 0))
M = P.T @ lo.BlockDiag(lo.spec(48, 16, 16)) @ P @ lo.BlockDiag(lo.spec(16, 48, 48))
assert_type(M, lo.LinearOperator)
assert_type(lo.Identity(3), lo.Identity)
assert_type(lo.Diagonal(np.ones(3)).diagonal, Any)  # of any framework

dense = lo.dense(4, 3).init(seed=0)  # the class stays: its fields can be read
assert_type(dense, Dense)
assert_type(dense.to(dtype="float64"), Dense)
assert_type(dense.with_leaves([np.ones((4, 3))]), Dense)

assert_type(lo.low_rank(64, 64, rank=2), LowRank)  # families keep their signatures
assert_type(lo.circulant(64, 64, allow_dearer=False), Circulant)

assert_type(lo.simplify(2 * A), lo.LinearOperator)
assert_type(lo.freeze(A, batch=4), lo.LinearOperator)
assert_type(lo.kron(A, A), lo.LinearOperator)
assert_type(lo.aslinearoperator(np.eye(3)), lo.LinearOperator)
assert_type(lo.same_structure(A, A), bool)
assert_type(lo.fans(A), dict[str, tuple[int, int]])
assert_type(lo.lr_multipliers(A), dict[str, float])
with lo.plan.natural_order():
    assert_type(A.flops(), int)

layer = lo.nn.torch.Linear(A, bias=True)
assert_type(layer, lo.nn.torch.Linear)
assert_type(lo.nn.param_groups(layer, 1e-3), list[dict[str, Any]])
model = torch.nn.Sequential(torch.nn.Linear(64, 64))
assert_type(lo.nn.from_linear(torch.nn.Linear(64, 64), "btt:rank=2"), lo.nn.torch.Linear)
report = lo.nn.replace_linear_(model, lo.btt)
assert_type(str(report), str)
assert_type(report.old_params, int)
assert_type(report[0].name, str)
assert_type([row.name for row in report], list[str])

optimizer = torch.optim.AdamW(lo.nn.param_groups(model, lr=1e-3))
assert_type(lo.nn.set_lr(optimizer, 1e-4), None)
assert_type(layer(torch.zeros(2, 64)), Any)  # as of any torch.nn.Module
assert_type(layer.bias, torch.nn.Parameter | None)
assert_type(layer.to_dense(), torch.nn.Linear)

assert_type(lo.linalg.inv(A), lo.LinearOperator)
assert_type(lo.linalg.explain("solve", A), str)
