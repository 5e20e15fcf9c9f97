"""Gradients with respect to every leaf and the operand, against finite differences and closed forms."""

import jax
import numpy as np
import pytest
import torch
from helpers import as_numpy, assert_close, build, every_case, on, uses
from jax.test_util import check_grads


@uses("torch")
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@every_case
def test_torch_gradcheck(case, dtype):
    operator, matrix, array = build(case, dtype, "torch")
    inputs = [leaf.requires_grad_() for _, leaf in operator.named_leaves()]
    x, y = on("torch", array(matrix.shape[1], 2)), on("torch", array(2, matrix.shape[0]))

    def products(x, y, *leaves):
        rebuilt = operator.with_leaves(leaves)
        return rebuilt @ x, y @ rebuilt, rebuilt @ x[:, 0]

    assert torch.autograd.gradcheck(products, (x.requires_grad_(), y.requires_grad_(), *inputs), fast_mode=True)


@uses("torch", "complex128")
@every_case
def test_torch_gradient_of_the_operand_is_the_adjoint(case):
    operator, matrix, array = build(case, "complex128", "torch")
    for shape in ((matrix.shape[1],), (matrix.shape[1], 3), (2, matrix.shape[1], 3)):
        x = on("torch", array(*shape)).requires_grad_()
        y = operator @ x
        weights = array(*y.shape)
        (gradient,) = torch.autograd.grad(y, x, on("torch", weights))
        assert_close(gradient, matrix.conj().T @ weights, np.abs(matrix).T @ np.abs(weights), "complex128")


@uses("torch")
@every_case
def test_torch_gradient_of_leaves_is_that_of_the_dense_matrix(case):
    """d/dθ sum(W ∘ (A x)) two ways: through the product, and through the dense matrix times x."""
    operator, matrix, array = build(case, "float64", "torch")
    leaves = [leaf.requires_grad_() for _, leaf in operator.named_leaves()]
    if not leaves:
        return
    x = on("torch", array(matrix.shape[1], 3))
    y = operator @ x
    weights = on("torch", array(*y.shape)).to(y.dtype)
    ours = torch.autograd.grad(y, leaves, weights)
    theirs = torch.autograd.grad(operator.to_dense() @ x.to(y.dtype), leaves, weights)
    for one, other in zip(ours, theirs):
        assert_close(one, as_numpy(other), np.abs(as_numpy(weights)).sum() * (1 + np.abs(as_numpy(other))))


def test_torch_double_backward():
    operator, _, array = build("block_tensor_train_tall_rank_two", "float64", "torch")
    leaves = [leaf.requires_grad_() for _, leaf in operator.named_leaves()]
    x = on("torch", array(operator.shape[1], 2)).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x, *leaves: operator.with_leaves(leaves) @ x, (x, *leaves), fast_mode=True)


@uses("jax")
@every_case
def test_jax_gradients(case):
    operator, matrix, array = build(case, "float64", "jax")
    x = on("jax", array(matrix.shape[1], 2))

    @jax.jit
    def loss(operator, x):
        y = operator @ x
        return (y * y.conj()).real.sum() + (x.mT @ operator.T).real.sum()

    check_grads(loss, (operator, x), order=1, modes=["rev"], atol=1e-5, rtol=1e-5)
    gradient = jax.jit(jax.grad(loss))(operator, x)
    assert type(gradient) is type(operator)
    assert [name for name, _ in gradient.named_leaves()] == [name for name, _ in operator.named_leaves()]


def test_torch_and_jax_gradients_agree():
    from cases import CASES

    for case in ("nested_kronecker_of_sums", "tensor_train_three_cores", "block_tensor_train_three_cores_tall", "scaled_gain"):
        assert case in CASES
        ours, matrix, array = build(case, "float64", "torch")
        theirs = ours.to(backend="jax")
        x = array(matrix.shape[1], 3)
        leaves = [leaf.requires_grad_() for _, leaf in ours.named_leaves()]
        one = torch.autograd.grad(((ours @ on("torch", x)) ** 3).sum(), leaves)
        other = jax.jit(jax.grad(lambda operator, x: ((operator @ x) ** 3).sum()))(theirs, on("jax", x))
        for gradient, (_, leaf) in zip(one, other.named_leaves(), strict=True):
            np.testing.assert_allclose(as_numpy(gradient), as_numpy(leaf), rtol=1e-10, atol=1e-10)
