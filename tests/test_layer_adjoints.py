"""Adjoints that are made from a structure are those that the operator gives, whatever leaves they are filled with."""

import pytest
import torch

import linops as lo
from linops.nn.torch import adjoints
from linops.nn.torch.adjoints import adjoint

OPERATORS = {
    "low rank": lo.low_rank(8, 4, rank=2),
    "btt": lo.btt(8, 8, cores=3),
    "monarch": lo.monarch(8, 8, blocks=2),
    "tensor train": lo.tensor_train(8, 8, rank=2),
    "blast": lo.blast(8, 8, blocks=2, rank=1),
    "butterfly": lo.butterfly(8, 8),
    "kronecker": lo.kronecker(8, 4),
    "scaled sum": 2 * lo.low_rank(8, 8, rank=2) + lo.block_diag(8, 8, blocks=2),
}


def made(operator, leaves, alike=True):
    return adjoint(operator.structure.fill(leaves, alike=alike), operator.structure, leaves, alike=alike)


def drawn(operator, seed, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(leaf.shape, generator=generator, dtype=dtype) for _, leaf in operator.named_leaves()]


@pytest.mark.parametrize("name", OPERATORS)
def test_it_is_the_adjoint_of_leaves_that_come_later_too(name):
    operator = OPERATORS[name]
    for seed in range(3):
        leaves = drawn(operator, seed)
        x = torch.eye(operator.shape[0])[:, :4]
        torch.testing.assert_close(made(operator, leaves) @ x, operator.structure.fill(leaves).H @ x, rtol=0, atol=1e-6)


def test_it_is_looked_for_once_for_all_leaves_of_the_same_strides(monkeypatch):
    operator, calls = lo.kronecker(8, 4), []
    found = adjoints._found
    monkeypatch.setattr(adjoints, "_found", lambda *given: calls.append(1) or found(*given))
    structure = operator.structure
    for seed in range(3):
        leaves = drawn(operator, seed)
        adjoint(structure.fill(leaves, alike=True), structure, leaves, alike=True)
    assert len(calls) == 1


def test_leaves_may_lie_in_one_storage_and_in_any_order():
    operator = lo.low_rank(6, 4, rank=2)
    for seed in range(2):
        flat = torch.randn(100, generator=torch.Generator().manual_seed(seed))
        leaves = [flat[7:31:2].view(6, 2), flat[40:48].view(4, 2).mT]
        x = torch.eye(6)
        torch.testing.assert_close(made(operator, leaves) @ x, (leaves[0] @ leaves[1]).mT)


def test_complex_leaves_are_conjugated():
    operator = lo.low_rank(6, 4, rank=2)
    leaves = drawn(operator, 0, torch.complex64)
    torch.testing.assert_close(
        made(operator, leaves, alike=False) @ torch.eye(6, dtype=torch.complex64), (leaves[0] @ leaves[1]).mH
    )
    assert adjoint(operator.structure.fill(leaves), operator.structure, leaves, alike=True).dtype == torch.complex64
