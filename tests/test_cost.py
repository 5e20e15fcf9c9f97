"""Costs against JAX's counts of the same products, and by hand; test_conformance.py has torch's of every case."""

import jax
import pytest
from helpers import build, every_case, on

import linops as lo

BATCH = 6


#: contractions alone: no additions, scalings or axes of one that XLA would count or fold in its own way
CONTRACTIONS = (
    "dense_tall",
    "low_rank_tall",
    "block_diag_square",
    "block_diag_tall",
    "kronecker_tall",
    "tensor_train_two_cores_square",
    "block_tensor_train_tall_rank_two",
    "block_tensor_train_three_cores_tall",
    "product_of_two",
    "product_monarch",
    "power_dense",
    "butterfly_tall",
    "einsum_two_factors",
    "einsum_blast",
)


@pytest.mark.parametrize("case", CONTRACTIONS)
def test_contractions_against_jax(case):
    operator, matrix, array = build(case, "float32", "jax")
    x = on("jax", array(matrix.shape[1], BATCH))
    analysis = jax.jit(lambda operator, x: operator @ x).lower(operator, x).compile().cost_analysis()
    assert analysis["flops"] == operator.flops(batch=BATCH)


@pytest.mark.parametrize(
    ("case", "flops"),
    [("diagonal", 5), ("scaled_tall", 2 + 2 * 8), ("scaled_wide", 2 + 2 * 8), ("sum_of_dense", 3 + 4 * 12)],
)
def test_flops_outside_contractions(case, flops):
    operator, _, _ = build(case)
    assert operator.flops() == flops
    assert operator.flops(batch=BATCH) == BATCH * flops


@every_case
def test_bytes(case):
    operator, matrix, _ = build(case)
    cost = operator.cost(batch=BATCH)
    if cost.macs:
        assert cost.bytes_read >= 8 * matrix.shape[1] * BATCH / 2  # a crop may come first
        narrow = operator.to(dtype="float32").cost(batch=BATCH)
        assert 2 * narrow.bytes_read == cost.bytes_read or "complex" in case or operator.dtype is None


def test_bytes_of_a_dense_product():
    cost = lo.Dense(lo.spec(5, 3, dtype="float64")).cost(batch=7)
    assert cost.bytes_read == 8 * (5 * 3 + 3 * 7)
    assert cost.bytes_written == 8 * 5 * 7
    # gradients of the operand (reads that of the result, and A) and of A (reads that of the result, and the operand)
    assert cost.backward.bytes_read == 8 * (5 * 7 + 5 * 3 + 5 * 7 + 3 * 7)
    assert cost.backward.bytes_written == 8 * (3 * 7 + 5 * 3)


def test_kronecker_takes_the_order_of_fewest_macs():
    # 256×16 ⊗ 16×256: shrink first, 53 times fewer than the other order
    A = lo.kron(lo.spec(256, 16), lo.spec(16, 256))
    shrink, grow = 16 * 16 * 256 + 256 * 16 * 16, 256 * 16 * 256 + 256 * 16 * 256
    assert A.cost().macs == shrink < grow
    three = lo.kron(lo.spec(2, 8), lo.spec(5, 5), lo.spec(8, 2))
    assert three.cost().macs == 2 * 8 * 10 + 5 * 5 * 4 + 8 * 2 * 10
    assert three.cost().macs == three.T.cost().macs


def test_train_takes_the_cheaper_end():
    A = lo.TensorTrain([lo.spec(1, 2, 16, 3), lo.spec(3, 16, 2, 1)])
    forward = 2 * 3 * 16 * 2 + 16 * 3 * 2 * 2
    assert A.cost().macs == forward
    assert A.T.cost().macs == forward
