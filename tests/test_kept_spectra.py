"""Spectra that circulant and Toeplitz operators keep are those of the numbers that their leaves hold now."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import scipy.linalg
import torch
from helpers import as_numpy
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad

import linops as lo
from linops.plan import natural_order

N = 48


def circulant(*leaves):
    return lo.Circulant(*leaves[:1])


def toeplitz(*leaves):
    return lo.Toeplitz(*leaves)


def expected(make, leaves):
    c, r = map(as_numpy, leaves)
    return scipy.linalg.circulant(c) if make is circulant else scipy.linalg.toeplitz(c, [c[0], *r[1:]])


def numbers(seed, *shape, backend="torch"):
    array = np.random.default_rng(seed).standard_normal(shape)
    return torch.from_numpy(array) if backend == "torch" else array


def close(found, wanted):
    np.testing.assert_allclose(as_numpy(found), as_numpy(wanted), rtol=0, atol=1e-12)


@pytest.fixture(autouse=True)
def transforms():
    """Not the matrix, which would be faster at this size."""
    with natural_order():
        yield


each = pytest.mark.parametrize("make", [circulant, toeplitz])
backends = pytest.mark.parametrize("backend", ["numpy", "torch"])


@each
@backends
@pytest.mark.parametrize("columns", [None, 3])
def test_of_numbers_that_change(make, backend, columns):
    leaves = numbers(0, N, backend=backend), numbers(1, N, backend=backend)
    A = make(*leaves)
    x = numbers(2, N, *([] if columns is None else [columns]), backend=backend)
    for step in range(4):
        for _ in range(3):
            close(A @ x, expected(make, leaves) @ as_numpy(x))
            close(A.T @ x, expected(make, leaves).T @ as_numpy(x))
            rows = x if columns is None else x.T
            close(rows @ A, as_numpy(rows) @ expected(make, leaves))
        assert all(A._spectra[reverse] for reverse in (False, True))
        changed = leaves[step % 2]
        if step < 2:
            changed[step + 3] += 1
        elif backend == "torch":
            changed.data.numpy()[7] -= 2  # which torch does not count as a version
        else:
            changed[:] = changed[::-1].copy()


@each
@backends
def test_copies_keep_nothing(make, backend):
    leaves, x = (numbers(0, N, backend=backend), numbers(1, N, backend=backend)), numbers(2, N, backend=backend)
    A = make(*leaves)
    for _ in range(3):
        A @ x
    for other in (copy.deepcopy(A), pickle.loads(pickle.dumps(A))):
        assert "_spectra" not in other.__dict__
        close(other @ x, A @ x)


@each
@backends
def test_of_numbers_that_are_not_finite_or_overflow(make, backend):
    leaves = numbers(0, N, backend=backend), numbers(1, N, backend=backend)
    A, x = make(*leaves), numbers(2, N, backend=backend)
    for _ in range(3):
        A @ x
    leaves[0][2] = float("nan")
    for _ in range(2):
        assert np.isnan(as_numpy(A @ x)).all()
    leaves[0][2] = 1.0
    wanted = expected(make, leaves) @ as_numpy(x)
    leaves[0][:] *= 1e300
    leaves[1][:] *= 1e300
    for _ in range(3):
        np.testing.assert_allclose(as_numpy(A @ (1e6 * x)) / 1e306, wanted, rtol=0, atol=1e-12)


@each
def test_gradients_after_products_without(make):
    leaves, x = (numbers(0, N).requires_grad_(), numbers(1, N).requires_grad_()), numbers(2, N)
    A = make(*leaves)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            for _ in range(3):
                close(A @ x, expected(make, [leaf.detach() for leaf in leaves]) @ x.numpy())
    wanted = torch.autograd.grad(make(*leaves).to_dense()[3] @ x, leaves, allow_unused=True)
    found = torch.autograd.grad((A @ x)[3], leaves, allow_unused=True)
    for one, other in zip(found, wanted):
        assert (one is None) == (other is None)
        if one is not None:
            close(one, other)
    assert torch.autograd.gradcheck(lambda *some: make(*some) @ x, leaves)


@each
def test_gradients_of_the_operand_through_what_inference_kept(make):
    leaves, x = (numbers(0, N), numbers(1, N)), numbers(2, N)
    A = make(*leaves)
    with torch.inference_mode():
        for _ in range(3):
            A @ x
    x.requires_grad_()
    (found,) = torch.autograd.grad((A @ x)[5], x)
    close(found, expected(make, leaves)[5])


@each
def test_leaves_of_inference(make):
    with torch.inference_mode():
        leaves = numbers(0, N) + 0, numbers(1, N) + 0
        A = make(*leaves)
        for _ in range(3):
            A @ numbers(2, N)
    close(A @ numbers(2, N), expected(make, leaves) @ numbers(2, N).numpy())


@each
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad])
def test_derivatives_forward_and_maps(make, mode):
    leaves, x, tangent = (numbers(0, N), numbers(1, N)), numbers(2, N), numbers(3, N)
    A = make(*leaves)
    for _ in range(3):
        A @ x
    with forward_ad.dual_level(), mode():
        dual = forward_ad.make_dual(leaves[0], tangent)
        B = make(dual, leaves[1])
        for _ in range(3):
            moved = forward_ad.unpack_dual(B @ x).tangent
        close(moved, expected(make, (tangent, torch.zeros_like(leaves[1]))) @ x.numpy())
        close(forward_ad.unpack_dual(A @ forward_ad.make_dual(x, tangent)).tangent, A @ tangent)
    many = numbers(4, 5, N)
    close(torch.func.vmap(lambda v: A @ v)(many), many.numpy() @ expected(make, leaves).T)


@each
def test_beside_a_fake_mode(make):
    leaves, x = (numbers(0, N), numbers(1, N)), numbers(2, N)
    A, B = make(*leaves), make(*leaves)
    for _ in range(3):
        A @ x
    with FakeTensorMode(allow_non_fake_inputs=True):
        for operator in (A, B):
            for _ in range(3):
                assert (operator @ x).shape == (N,)
    for operator in (A, B):
        for _ in range(3):
            close(operator @ x, expected(make, leaves) @ x.numpy())


@each
@pytest.mark.filterwarnings("ignore")
def test_what_is_traced_has_its_leaves(make):
    leaves, x = [numbers(0, N), numbers(1, N)], numbers(2, N)
    A = make(*leaves)
    layer = A.to_layer(bias=False).requires_grad_(False)
    for _ in range(3):
        layer(x)
    traced = torch.jit.trace(layer, x, check_trace=False)
    for parameter in layer.parameters():
        parameter.mul_(3)
    close(traced(x), 3 * (expected(make, leaves) @ x.numpy()))
