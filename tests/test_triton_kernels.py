"""Triton's kernels, run by its interpreter on a CPU: products, gradients, dtypes, odd sizes, tracing, FLOPs."""

import importlib
import os
import subprocess
import sys
from math import prod
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import linops as lo
from linops.kernels.triton_passes import passes

pytest.importorskip("triton", reason="triton is not installed: pip install triton; it runs without a GPU, interpreted")
ops = importlib.import_module("linops.kernels.triton_ops")
crossed = importlib.import_module("linops.kernels.triton_crossed")

APART = {torch.float32: 2e-6, torch.bfloat16: 2e-2, torch.float16: 3e-3}
#: J, R, M, N, P, K
SIZES = [(4, 2, 5, 3, 7, 9), (3, 3, 2, 20, 17, 33), (5, 17, 3, 4, 4, 5), (2, 1, 1, 1, 1, 1), (16, 1, 16, 16, 16, 8)]
EMPTY = [(3, 2, 2, 4, 4, 0), (2, 0, 3, 3, 3, 4), (2, 1, 2, 0, 2, 3)]
#: (B, C) of each digit
SIDES = [((2, 2),) * 4, ((2, 4), (4, 2)), ((3, 5),), ((16, 16),), ((7, 1),)]


def random(*shape, dtype=torch.float32, grad=False):
    return torch.randn(shape, generator=torch.Generator().manual_seed(prod(shape)), dtype=dtype).requires_grad_(grad)


def close(found, expected, dtype=torch.float32, times=1):
    assert found.shape == expected.shape
    assert found.dtype == dtype
    scale = expected.double().norm()
    assert (found.double() - expected.double()).norm() <= times * APART[dtype] * scale


def test_kernels_are_interpreted():
    assert crossed.INTERPRETED, "TRITON_INTERPRET is not 1: conftest.py sets it before anything imports triton"


# ---------------------------------------------------------------- two block products


def operands(sizes, dtype=torch.float32, grad=False):
    J, R, M, N, P, K = sizes
    return [random(*shape, dtype=dtype, grad=grad) for shape in ((J, R, M, N), (M, P, J, R), (J, N, K))]


def by_hand(first, second, x):
    return torch.einsum("mpjr,jrmk->mpk", second, torch.einsum("jrmn,jnk->jrmk", first, x))


@pytest.mark.parametrize("dtype", APART, ids=str)
@pytest.mark.parametrize("sizes", SIZES + EMPTY, ids=str)
def test_crossed_products(sizes, dtype):
    first, second, x = operands(sizes, dtype)
    expected = by_hand(first.double(), second.double(), x.double())
    found = ops.crossed_matmul(first, second, x)
    close(found, expected, dtype)
    assert found.is_contiguous()
    rows = x.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    by_rows = ops.crossed_matmul(first, second, rows)
    close(by_rows, expected, dtype)
    if x.shape[2] > 1 and x.numel():
        assert by_rows.permute(2, 0, 1).is_contiguous()


@pytest.mark.parametrize("tile", range(4))
def test_every_tile_gives_the_product(tile):
    first, second, x = operands((9, 3, 5, 18, 33, 20))
    close(ops.crossed_matmul(first, second, x, tile), by_hand(first, second, x))


def test_crossed_products_of_any_strides():
    first, second, x = operands(SIZES[0])
    scattered = [torch.stack([t, t], -1)[..., 0].transpose(0, 1).contiguous().transpose(0, 1) for t in (first, second)]
    close(ops.crossed_matmul(*scattered, x.expand(4, 3, 9)[:, :, ::2]), by_hand(first, second, x[:, :, ::2]))
    one = random(1, 3, 9).expand(4, 3, 9)
    close(ops.crossed_matmul(first, second, one), by_hand(first, second, one))


@pytest.mark.parametrize("needed", [(1, 1, 1), (0, 0, 1), (1, 0, 0), (0, 1, 0)], ids=str)
def test_gradients_of_crossed_products(needed):
    given = operands(SIZES[0], grad=True)
    given = [t if wanted else t.detach() for t, wanted in zip(given, needed)]
    leaves = [t for t in given if t.requires_grad]
    y = ops.crossed_matmul(*given)
    upstream = random(*y.shape)
    found = torch.autograd.grad(y, leaves, upstream, create_graph=True)
    expected = torch.autograd.grad(by_hand(*given), leaves, upstream, create_graph=True)
    for a, b in zip(found, expected):
        close(a, b)
    if sum(needed) > 1:  # second derivatives
        again, wanted = (torch.autograd.grad(sum(t.square().sum() for t in each), leaves) for each in (found, expected))
        for a, b in zip(again, wanted):
            close(a, b, times=2)


def test_crossed_products_are_counted_and_traced():
    given = operands(SIZES[0], grad=True)
    with FlopCounterMode(display=False) as counted:
        ops.crossed_matmul(*given)
    first, second, x = given
    assert counted.get_total_flops() == 2 * (first.numel() + second.numel()) * x.shape[2]
    with torch._subclasses.FakeTensorMode():
        assert ops.crossed_matmul(*operands(SIZES[0])).shape == (5, 7, 9)


@pytest.mark.full
@pytest.mark.parametrize("layout", ["rows", "features"])
def test_crossed_products_obey_torch(layout):
    first, second, x = operands(SIZES[0], grad=True)
    x = x if layout == "features" else random(9, 4, 3).permute(1, 2, 0).requires_grad_()
    torch.library.opcheck(torch.ops.linops.crossed_matmul.default, (first, second, x, 1))
    torch._dynamo.reset()
    program = torch.compile(lambda *given: ops.crossed_matmul(*given).sin(), fullgraph=True, backend="aot_eager")
    close(program(first, second, x), by_hand(first, second, x).sin(), times=10)


def test_crossed_products_that_do_not_fit():
    first, second, x = operands(SIZES[0])
    with pytest.raises(
        ValueError, match=r"first and x of shapes \(4, 2, 5, 3\) and \(4, 4, 9\); expected \(J, R, M, N\)"
    ):
        ops.crossed_matmul(first, second, random(4, 4, 9))
    with pytest.raises(ValueError, match=r"first and second of shapes \(4, 2, 5, 3\) and \(5, 7, 4, 3\)"):
        ops.crossed_matmul(first, random(5, 7, 4, 3), x)
    with pytest.raises(TypeError, match=r"operands of torch.float32, torch.float64; expected one dtype"):
        ops.crossed_matmul(first, second, x.double())


# ---------------------------------------------------------------- small factors


def a_pass(sides, rising=False, dtype=torch.float32, grad=False, outer=2, inner=3, vectors=5):
    x = random(outer, prod(c for _, c in sides), inner, vectors, dtype=dtype, grad=grad)
    return x, [random(*shape, dtype=dtype, grad=grad) for shape in ops._wanted(x, sides, rising)]


@pytest.mark.parametrize("sides", SIDES, ids=str)
@pytest.mark.parametrize("rising", [False, True])
@pytest.mark.parametrize("dtype", APART, ids=str)
def test_passes(sides, rising, dtype):
    x, factors = a_pass(sides, rising, dtype)
    expected = ops._in_turn(x.double(), [factor.double() for factor in factors], rising)[-1]
    close(ops.small_factors(x, factors, rising), expected, dtype)
    rows = x.permute(3, 0, 1, 2).contiguous().permute(1, 2, 3, 0)
    close(ops.small_factors(rows, factors, rising), expected, dtype)


@pytest.mark.parametrize("sizes", [{"vectors": 0}, {"outer": 0}, {"inner": 1, "vectors": 300}, {"inner": 40}], ids=str)
def test_passes_of_few_and_of_many_numbers(sizes):
    x, factors = a_pass(SIDES[1], **sizes)
    close(ops.small_factors(x, factors, False), ops._in_turn(x, factors, False)[-1])


@pytest.mark.parametrize("sides", [SIDES[1], SIDES[2]], ids=str)
@pytest.mark.parametrize("rising", [False, True])
def test_gradients_of_passes(sides, rising):
    x, factors = a_pass(sides, rising, grad=True)
    y, expected = ops.small_factors(x, factors, rising), ops._in_turn(x, factors, rising)[-1]
    upstream = random(*y.shape)
    leaves = [x, *factors]
    for a, b in zip(torch.autograd.grad(y, leaves, upstream), torch.autograd.grad(expected, leaves, upstream)):
        close(a, b)
    frozen = ops.small_factors(x, [factor.detach() for factor in factors], rising)
    close(
        torch.autograd.grad(frozen, x, upstream)[0],
        torch.autograd.grad(ops._in_turn(x, factors, rising)[-1], x, upstream)[0],
    )


def test_passes_are_counted():
    x, factors = a_pass(SIDES[0])
    with FlopCounterMode(display=False) as counted:
        ops.small_factors(x, factors, False)
    assert counted.get_total_flops() == 2 * sum(factor.numel() for factor in factors) * x.shape[3]


@pytest.mark.full
@pytest.mark.parametrize("rising", [False, True])
def test_passes_obey_torch(rising):
    x, factors = a_pass(SIDES[1], rising, grad=True)
    torch.library.opcheck(torch.ops.linops.small_factors.default, (x, factors, rising))


def test_passes_that_do_not_fit():
    x, factors = a_pass(SIDES[1])
    with pytest.raises(ValueError, match=r"expected factor 0 of shape \(2, 1, 2, 4, 4, 3\)"):
        ops.small_factors(x, factors[:1] * 2, False)
    with pytest.raises(ValueError, match="sides B and C of at most 16"):
        ops.small_factors(*a_pass(((17, 2),)), False)
    with pytest.raises(ValueError, match="powers of two"):
        ops.small_factors(*a_pass(((3, 2), (2, 2))), False)


# ---------------------------------------------------------------- chains of factors


CHAINS = {
    "butterfly": [(1, 32, 2, 2), (2, 16, 2, 2), (4, 8, 2, 2), (8, 4, 2, 2), (16, 2, 2, 2), (32, 1, 2, 2)],
    "odd": [(1, 4, 3, 2), (2, 2, 2, 3)],
    "wide": [(1, 8, 2, 4), (4, 2, 4, 2)],
    "of 16": [(1, 16, 16, 16), (16, 1, 16, 16)],
}


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("transposed", [False, True])
def test_a_butterfly_in_passes(name, transposed):
    operator = lo.Butterfly([random(*shape) for shape in CHAINS[name]])
    operator = operator.T if transposed else operator
    x = random(operator.shape[1], 7)
    expected, factors = operator.to_dense().double() @ x.double(), operator.factors[::-1]
    found = passes(operator.patterns[::-1])
    assert sorted(place for each in found for place in each.places) == [*range(len(factors))]
    for each in found:
        x = x.reshape(each.outer, each.columns, each.inner, 7)
        x = ops.small_factors(x, each.views([factors[place] for place in each.places]), each.rising).flatten(0, 2)
    close(x, expected)


def test_a_kronecker_product_in_passes():
    a, b, c = random(2, 2), random(4, 2), random(2, 4)
    x = random(16, 7)
    (found,) = passes([(1, 2, 2, 8), (2, 4, 2, 4), (8, 2, 4, 1)])
    y = ops.small_factors(x.reshape(1, 16, 1, 7), found.views([a, b, c]), found.rising).flatten(0, 2)
    close(y, lo.kron(a, b, c).to_dense() @ x)


def test_which_factors_share_a_pass():
    patterns = [(2**k, 2, 2, 2 ** (5 - k)) for k in range(6)]
    assert [each.places for each in passes(patterns)] == [(0, 1, 2, 3), (4, 5)]
    assert [(each.places, each.rising) for each in passes(patterns[::-1])] == [((3, 2, 1, 0), True), ((5, 4), True)]
    assert [each.places for each in passes([(1, 3, 3, 2), (3, 2, 2, 1)])] == [(0,), (1,)]
    assert passes([(1, 17, 2, 1)]) is None


@pytest.mark.full
def test_kernels_compile_for_gpus():
    script, environment = Path(__file__).with_name("compile_kernels.py"), dict(os.environ)
    environment.pop("TRITON_INTERPRET", None)
    run = subprocess.run([sys.executable, script, "sm_90"], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
