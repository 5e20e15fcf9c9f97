"""Determinants of sparse operators by SuperLU, with derivatives by entries of the inverse."""

import jax
import numpy as np
import pytest
import torch
from helpers import as_numpy, on
from jax.test_util import check_grads
from torch.autograd import gradcheck, gradgradcheck

import linops as lo
from linops.linalg import determinants_of_sparse

N = 7
RANDOM = np.random.default_rng(0)
ROWS = np.r_[np.arange(N), RANDOM.integers(0, N, 9), 0]
COLUMNS = np.r_[RANDOM.permutation(N), RANDOM.integers(0, N, 9), 3]  # two entries in one place
BACKENDS = ("numpy", "torch", "jax")


def numbers(dtype):
    random = np.random.default_rng(1)
    values = random.standard_normal(ROWS.size)
    return values + 1j * random.standard_normal(ROWS.size) if dtype == "complex128" else values


def sparse(values):
    return lo.Sparse(values, ROWS, COLUMNS, (N, N))


def value(values):
    sign, logarithm = lo.linalg.slogdet(sparse(values))
    return logarithm + (2 * sign.real + sign.imag if "complex" in str(values.dtype) else 0)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_values(backend, dtype):
    A = sparse(on(backend, numbers(dtype)))
    sign, logarithm = lo.linalg.slogdet(A)
    expected = np.linalg.slogdet(as_numpy(A.to_dense()))
    np.testing.assert_allclose([complex(sign), float(logarithm)], [expected.sign, expected.logabsdet], atol=1e-12)
    assert [str(one.dtype).removeprefix("torch.") for one in (sign, logarithm)] == [dtype, "float64"]
    nothing = sparse(0 * A.values)
    assert float(lo.linalg.slogdet(nothing)[1]) == -np.inf
    assert complex(lo.linalg.det(nothing)) == 0


def test_halves():
    for values in (torch.ones(2, dtype=torch.bfloat16), jax.numpy.ones(2, "bfloat16"), np.ones(2, "float16")):
        sign, logarithm = lo.linalg.slogdet(lo.Sparse(4 * values, [0, 1], [1, 0], (2, 2)))
        assert (float(sign), sign.dtype) == (-1, values.dtype)
        assert float(logarithm) == pytest.approx(2 * np.log(4), rel=1e-2)


@pytest.mark.full
@pytest.mark.parametrize("panel", [1, 2**22])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_derivatives_in_torch(dtype, panel, monkeypatch):
    monkeypatch.setattr(determinants_of_sparse, "_PANEL", panel)  # one column of the inverse at a time, or all
    leaf = torch.tensor(numbers(dtype), requires_grad=True)
    assert gradcheck(value, leaf)
    assert gradcheck(value, leaf, check_forward_ad=True, check_backward_ad=False)
    assert gradgradcheck(value, leaf)
    other = torch.autograd.grad(torch.linalg.slogdet(sparse(leaf).to_dense())[1], leaf)
    found = torch.autograd.grad(lo.linalg.slogdet(sparse(leaf))[1], leaf)
    torch.testing.assert_close(found, other)


def test_transformed_in_torch():
    x = torch.tensor(numbers("float64"))
    many = torch.func.vmap(torch.func.grad(value))(torch.stack([x, 2 * x]))
    torch.testing.assert_close(many[0], 2 * many[1])
    expected = torch.func.hessian(lambda x: torch.linalg.slogdet(sparse(x).to_dense())[1])(x)
    torch.testing.assert_close(torch.func.hessian(value)(x), expected)


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")  # of torch's own
def test_compiled_by_torch():
    x = torch.tensor(numbers("float64"))
    made = sparse(x)

    def logarithm(x):
        return lo.linalg.slogdet(made.with_leaves([x]))[1]

    leaf = x.clone().requires_grad_()
    found = torch.autograd.grad(torch.compile(logarithm, backend="eager")(leaf), leaf)
    torch.testing.assert_close(found, torch.autograd.grad(logarithm(leaf), leaf))


def test_a_sparse_solve_has_a_hessian_in_torch_func():
    x, b = torch.tensor(numbers("float64")), torch.ones(N, dtype=torch.float64)
    found = torch.func.hessian(lambda x: lo.linalg.solve(sparse(x), b).sum())(x)
    expected = torch.func.hessian(lambda x: torch.linalg.solve(sparse(x).to_dense(), b).sum())(x)
    torch.testing.assert_close(found, expected)


@pytest.mark.full
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_derivatives_in_jax(dtype):
    x = on("jax", numbers(dtype))
    check_grads(value, (x,), 2)
    check_grads(jax.jit(value), (x,), 1)
    many = jax.vmap(jax.grad(value))(jax.numpy.stack([x, 3 * x]))
    np.testing.assert_allclose(many[0], jax.grad(value)(x), atol=1e-10)
    made = sparse(x)  # whose places are traced here
    np.testing.assert_allclose(jax.jit(lambda A: lo.linalg.slogdet(A)[1])(made), lo.linalg.slogdet(made)[1], atol=1e-10)


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_large_ones(backend):
    n = 6000
    at = np.arange(n)
    A = lo.Sparse(np.r_[4 * np.ones(n), np.ones(n)], np.r_[at, at], np.r_[at, (at + 1) % n], (n, n)).to(backend=backend)

    def logarithm(values):
        return lo.linalg.slogdet(A.with_leaves([values]))[1]

    if backend == "jax":
        found, gradient = jax.value_and_grad(logarithm)(A.values)
    else:
        leaf = A.values.clone().requires_grad_()
        found = logarithm(leaf)
        (gradient,) = torch.autograd.grad(found, leaf, create_graph=True)
        with pytest.raises(ValueError, match=r"no matrix of more than .*take the whole inverse"):
            torch.autograd.grad(gradient.sum(), leaf)
    assert float(as_numpy(found)) == pytest.approx(n * np.log(4))
    np.testing.assert_allclose(as_numpy(gradient), (as_numpy(A.rows) == as_numpy(A.columns)) / 4, atol=1e-12)
