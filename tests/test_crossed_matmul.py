"""Two block products in parts: the same numbers, and only where nothing but numbers is asked for."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import linops as lo
import linops.backends.torch_blocks as torch_backend
from linops import backends

# blocks, n, rank, m, p, batch
SHAPES = ((4, 3, 2, 5, 7, 6), (1, 5, 1, 3, 2, 4), (3, 1, 4, 1, 1, 9), (2, 2, 3, 8, 5, 33))


@pytest.fixture
def parts(monkeypatch):
    """Splits products of any size, and records in how many parts each was made."""
    seen, in_parts = [], torch_backend._crossed_in_parts

    def spy(first, second, x, count):
        seen.append(count)
        return in_parts(first, second, x, count)

    monkeypatch.setattr(torch_backend, "TORCH_SPLIT", 1)
    monkeypatch.setattr(torch_backend, "TORCH_PART", 100)
    monkeypatch.setattr(torch_backend, "_crossed_in_parts", spy)
    return seen


def operands(shape, dtype=torch.float64):
    blocks, n, rank, m, p, batch = shape
    generator = torch.Generator().manual_seed(0)
    sizes = ((blocks, rank * m, n), (m, p, blocks * rank), (blocks, n, batch))
    return [torch.randn(*size, dtype=dtype, generator=generator) for size in sizes]


def definition(first, second, x):
    blocks, m = first.shape[0], second.shape[0]
    between = np.einsum("jrin,jnk->jrik", first.reshape(blocks, -1, m, first.shape[2]), x)
    return np.einsum("iojr,jrik->iok", second.reshape(m, second.shape[1], blocks, -1), between)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64, torch.bfloat16])
def test_parts_give_the_product(parts, shape, dtype):
    first, second, x = operands(shape, dtype)
    wide = torch.complex128 if dtype.is_complex else torch.float64
    expected = definition(*(a.to(wide).numpy() for a in (first, second, x)))
    y = backends.crossed_matmul(first, second, x)
    assert len(parts) == 1
    assert y.dtype is dtype
    assert y.is_contiguous()
    tolerance = 0.1 if dtype is torch.bfloat16 else 1e-4
    np.testing.assert_allclose(y.to(wide).numpy(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("backend", ["numpy", "jax"])
@pytest.mark.parametrize("shape", SHAPES)
def test_other_backends_give_the_product(backend, shape):
    arrays = [a.numpy() for a in operands(shape, torch.float32)]
    y = backends.crossed_matmul(*(backends.asarray(a, backend) for a in arrays))
    np.testing.assert_allclose(np.asarray(y), definition(*arrays), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layout", ["rows", "columns", "strided"])
def test_an_operator_runs_in_parts_from_any_layout(parts, layout):
    A = lo.btt(60, 24, rank=2).init(seed=0, backend="torch", dtype="float64")
    x = torch.randn(24, 10, dtype=torch.float64)
    given = {"rows": x.T.contiguous().T, "columns": x, "strided": torch.stack([x, x], -1)[..., 0]}[layout]
    torch.testing.assert_close(A @ given, A.to_dense() @ x)
    assert max(parts) > 1


def test_flops_counted_are_those_of_the_whole(parts):
    first, second, x = operands(SHAPES[0])
    with FlopCounterMode(display=False) as counter:
        backends.crossed_matmul(first, second, x)
    assert parts
    assert counter.get_total_flops() == 2 * (first.numel() + second.numel()) * x.shape[2]


def test_gradients_of_every_kind_take_the_whole(parts):
    arrays = operands(SHAPES[0])
    (backends.crossed_matmul(arrays[0], arrays[1], arrays[2].clone().requires_grad_()).sum()).backward()
    assert not parts
    for wanted in range(3):
        leaves = [a.clone().requires_grad_(number == wanted) for number, a in enumerate(arrays)]
        assert torch.autograd.gradcheck(backends.crossed_matmul, leaves, check_forward_ad=True, check_batched_grad=True)
        assert torch.autograd.gradgradcheck(backends.crossed_matmul, leaves)
    parts.clear()  # the finite differences of gradcheck are of mere values
    directions = [torch.randn_like(a) for a in arrays]
    torch.func.jvp(backends.crossed_matmul, tuple(arrays), tuple(directions))
    stacked = torch.stack([arrays[2], 2 * arrays[2]])
    torch.func.vmap(lambda x: backends.crossed_matmul(arrays[0], arrays[1], x))(stacked)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(arrays[2], directions[2])
        y = backends.crossed_matmul(arrays[0], arrays[1], dual)
        tangent = torch.autograd.forward_ad.unpack_dual(y).tangent
    assert not parts
    torch.testing.assert_close(tangent, backends.crossed_matmul(arrays[0], arrays[1], directions[2]))
    assert parts


def test_autocast_keeps_its_dtype(parts):
    arrays = operands(SHAPES[0], torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert backends.crossed_matmul(*arrays).dtype is torch.bfloat16
    assert not parts


def test_parameters_run_in_parts_without_gradients_alone(parts):
    layer = lo.btt(60, 24, rank=2).to_layer(bias=False)
    x = torch.randn(10, 24)
    y = layer(x)
    assert y.requires_grad
    assert not parts
    with torch.no_grad():
        torch.testing.assert_close(layer(x), y.detach())
    with torch.inference_mode():
        torch.testing.assert_close(layer(x), y.detach())
    assert len(parts) == 2


def test_other_dtypes_are_refused_as_ever(parts):
    first, second, x = operands(SHAPES[0])
    with pytest.raises(RuntimeError, match=r"dtype|scalar type"):
        backends.crossed_matmul(first, second, x.float())


def test_compiled_and_exported_products_are_whole(parts):
    layer = lo.btt(60, 24, rank=2).to_layer(bias=False)
    x = torch.randn(10, 24)
    with torch.no_grad():
        exported = torch.export.export(layer, (x,), dynamic_shapes=({0: torch.export.Dim("batch", min=2)},))
        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager", dynamic=True)(x)
        assert not parts
        torch.testing.assert_close(exported.module()(x[:7]), layer(x[:7]))
        torch.testing.assert_close(compiled, layer(x))
