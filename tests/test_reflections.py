"""Single reflections: without scaling where no square over- or underflows, with it elsewhere; one map either way."""

import numpy as np
import pytest
import torch
from helpers import as_numpy, every_backend, on

import linops as lo


@every_backend
@pytest.mark.parametrize("size", [1e30, 1e-30])
@pytest.mark.parametrize("scale", [1.0, 1e-11, 1e-18, 1e14, 1e18])
def test_the_size_of_the_operand_counts_for_nothing(backend, scale, size):
    rng = np.random.default_rng(1)
    v, X = rng.standard_normal(7).astype("float32"), rng.standard_normal((7, 3)).astype("float32")
    expected = X - 2 * np.outer(v, v @ X) / (v @ v)
    A, X = lo.Householder(on(backend, v * np.float32(scale))), X * np.float32(size)
    size = np.float32(size)
    np.testing.assert_allclose(as_numpy(A @ on(backend, X)) / size, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(as_numpy(A @ on(backend, X[:, 0])) / size, expected[:, 0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(as_numpy(A._rows(on(backend, X.T))) / size, expected.T, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-11, 1e14])
def test_gradients_of_the_vector_at_the_ends_of_what_is_not_scaled(scale):
    rng = torch.Generator().manual_seed(0)
    v, X = torch.randn(5, generator=rng), torch.randn(5, 3, generator=rng)

    def gradient(v):
        v = v.requires_grad_()
        return torch.autograd.grad((lo.Householder(v) @ X.to(v.dtype)).pow(3).sum(), v)[0]

    torch.testing.assert_close(gradient(v * scale) * scale, gradient(v.double()).float(), rtol=1e-4, atol=1e-4)


@every_backend
@pytest.mark.parametrize("scale", [1.0, 1e-18, 1e-30, 1e18, 1e30, 0.0])
def test_only_the_direction_counts(backend, scale):
    rng = np.random.default_rng(0)
    v, X = rng.standard_normal(7).astype("float32"), rng.standard_normal((7, 3)).astype("float32")
    expected = X - 2 * np.outer(v, v @ X) / (v @ v) if scale else X
    A = lo.Householder(on(backend, v * np.float32(scale)))
    np.testing.assert_allclose(as_numpy(A @ on(backend, X)), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(as_numpy(A @ on(backend, X[:, 0])), expected[:, 0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(as_numpy(A._rows(on(backend, X.T))), expected.T, rtol=1e-5, atol=1e-5)


def test_gradients_without_scaling_are_those_with_it():
    rng = torch.Generator().manual_seed(0)
    v = torch.randn(5, generator=rng, dtype=torch.float64)
    X = torch.randn(5, 3, generator=rng, dtype=torch.float64, requires_grad=True)

    def gradients(scale):
        scaled = (v * scale).requires_grad_()
        g, h = torch.autograd.grad((lo.Householder(scaled) @ X).pow(3).sum(), [scaled, X])
        return g * scale, h

    for one, other in zip(gradients(1.0), gradients(1e-20)):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
    assert torch.autograd.gradcheck(lambda v: lo.Householder(v) @ X, v.clone().requires_grad_())


def test_jacobians_and_maps_of_the_vector():
    v, x = torch.randn(4, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    J = torch.func.jacrev(lambda v: lo.Householder(v) @ x)(v)
    torch.testing.assert_close(J, torch.autograd.functional.jacobian(lambda v: lo.Householder(v) @ x, v))
    V = torch.randn(3, 4, dtype=torch.float64)
    mapped = torch.func.vmap(lambda v: lo.Householder(v) @ x)(V)
    torch.testing.assert_close(mapped, torch.stack([lo.Householder(v) @ x for v in V]))
