"""What programs give of a step of a layer is the difference quotient that the operators give."""

import numpy as np
import pytest
import torch

import linops as lo
from linops.nn.renormalizing import STEP
from linops.nn.torch import differences, layer_steps
from linops.nn.torch.differences import Blocks, Pairs, program

A, B, C = lo.dense(6, 6), lo.low_rank(6, 6, rank=2), lo.block_diag(6, 6, blocks=2)
BUTTERFLIES = {
    "butterfly": lo.butterfly(32, 32),
    "wide butterfly": lo.butterfly(8, 32),
    "tall butterfly": lo.butterfly(32, 16),
    "transposed butterfly": lo.butterfly(16, 8).T,
    "Kronecker of small ones": lo.kron(lo.dense(2, 3), lo.dense(4, 2), lo.dense(3, 3)),
}
OTHERS = {
    "low rank": lo.low_rank(8, 12, rank=2),
    "btt": lo.btt(24, 16),
    "btt of three cores": lo.btt(64, 27, cores=3, rank=2),
    "monarch": lo.monarch(24, 16, blocks=2),
    "kronecker": lo.kronecker(36, 25),
    "tensor train": lo.tensor_train(64, 36, rank=3),
    "tensor train of three": lo.tensor_train(64, 64, rank=2, cores=3),
    "blast": lo.blast(16, 24, blocks=2, rank=3),
    "product": lo.dense(9, 6) @ B @ lo.block_diag(6, 8, blocks=2),
    "with a diagonal": A @ lo.Diagonal(lo.spec(6)) @ A,
    "power": lo.dense(8, 8) ** 3,
    "three vectors": lo.dense(7, 3) @ lo.dense(3, 3),
    "one input": lo.dense(20, 3) @ lo.dense(3, 1),
}


def drawn(operator, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(leaf.shape, generator=generator, dtype=dtype) for _, leaf in operator.named_leaves()]


def expected(operator, leaves, moves):
    """Δ as a matrix."""
    now = operator.with_leaves(leaves).to_dense()
    after = [leaf if move is None else leaf + STEP * move[1] * move[0] for leaf, move in zip(leaves, moves)]
    return (operator.with_leaves(after).to_dense() - now) / STEP


def check(operator, kind, dtype=torch.float64, still=()):
    leaves = drawn(operator, dtype=dtype)
    directions = drawn(operator, 1, dtype)
    moves = [None if i in still else (one, 0.5 + 0.1 * i) for i, one in enumerate(directions)]
    found = program(operator.structure, leaves)
    assert type(found) is kind
    apply, adjoint = found.products(leaves, moves)
    matrix = expected(operator, leaves, moves)
    n = operator.shape[1]
    basis = torch.linalg.qr(torch.randn(n, min(n, 4), dtype=dtype, generator=torch.Generator().manual_seed(2))).Q
    for x in (basis, basis.contiguous(), torch.cat([basis, basis])[n:]):
        there = apply(x)
        lengths = torch.linalg.vector_norm(matrix @ x, dim=0)
        torch.testing.assert_close(torch.linalg.vector_norm(there, dim=found.others), lengths)
        torch.testing.assert_close(
            adjoint(there), matrix.mH @ (matrix @ x), rtol=1e-7, atol=1e-7 * lengths.max().item()
        )


@pytest.mark.parametrize("name", BUTTERFLIES)
def test_small_blocks_are_multiplied_elementwise(name):
    check(BUTTERFLIES[name], Pairs)


@pytest.mark.parametrize("name", OTHERS)
def test_other_blocks_are_multiplied_in_batches(name):
    check(OTHERS[name], Blocks)


@pytest.mark.parametrize(("operator", "kind"), [(lo.butterfly(16, 16), Pairs), (lo.btt(24, 16), Blocks)])
def test_leaves_may_be_complex_or_stay(operator, kind):
    check(operator, kind, torch.complex128)
    count = len(drawn(operator))
    for still in range(count):
        check(operator, kind, still={still})
        check(operator, kind, still={*range(count)} - {still})


@pytest.mark.parametrize("operator", [lo.butterfly(16, 16), lo.btt(16, 16), lo.kronecker(16, 16)])
def test_leaves_and_directions_may_lie_in_any_way(operator):
    leaves, directions = drawn(operator), drawn(operator, 1)
    moves = [(one, 0.5) for one in directions]
    plain = program(operator.structure, leaves).products(leaves, moves)

    def strewn(one):
        return torch.stack([one, one], -1).transpose(0, 1).contiguous().transpose(0, 1)[..., 1]

    others = program(operator.structure, leaves).products(
        [strewn(one) for one in leaves], [(strewn(one), rate) for one, rate in moves]
    )
    x = torch.eye(16, 4, dtype=torch.float64)
    torch.testing.assert_close(others[1](others[0](x)), plain[1](plain[0](x)))


@pytest.mark.parametrize(
    "operator",
    [
        A @ B + C,
        lo.circulant(8, 8),
        lo.low_rank(6, 6, rank=2) * np.array(2.0),
        (A @ B)[1:3],
        lo.BlockDiag([A, B @ C]),
    ],
)
def test_what_is_no_network_of_products_has_no_program(operator):
    assert program(operator.structure, drawn(operator)) is None


def test_other_leaves_than_those_of_the_structure_have_none():
    operator = lo.low_rank(6, 6, rank=2)
    U, V = drawn(operator)
    for leaves in ([U[:5], V], [U.float(), V], [torch.nn.Parameter(U), V], [U.to("meta"), V]):
        assert program(operator.structure, leaves) is None
    assert program(operator.structure, [U, V]) is not None


def test_it_is_looked_for_once_for_a_structure(monkeypatch):
    operator, calls, found = lo.kronecker(8, 4), [], differences._found
    monkeypatch.setattr(differences, "_found", lambda *given: calls.append(1) or found(*given))
    structure = operator.structure
    for seed in range(3):
        program(structure, drawn(operator, seed))
    assert len(calls) == 1


@pytest.mark.parametrize("name", ["butterfly", "transposed butterfly", "btt", "kronecker", "blast"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_steps_are_those_without_programs(name, dtype, monkeypatch):
    def trained():
        torch.manual_seed(0)
        layer = (BUTTERFLIES | OTHERS)[name].to_layer(bias=False).to(dtype)
        optimizer = lo.nn.muon.Muon(lo.nn.param_groups(layer, lr=0.05, optimizer="muon"), every=1)
        x = torch.randn(32, layer.in_features, dtype=dtype)
        shares = []
        for _ in range(4):
            optimizer.zero_grad()
            (layer(x) - 1).square().sum().backward()
            optimizer.step()
            shares.append(optimizer.state[next(layer.parameters())]["layer_share"])
        return shares

    found, given = trained(), []
    monkeypatch.setattr(layer_steps, "program", lambda *_: given.append(1))
    assert trained() == pytest.approx(found, rel=2e-4 if dtype == torch.float32 else 2e-2)
    assert len(given) == 4
