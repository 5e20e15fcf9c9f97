"""What is told of a solution passes through compiled and transformed functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import linops as lo
from linops.linalg import CG, GMRES, LSMR, SLQ, Hutchinson, lstsq, solve

A = np.array([[4.0, 1, 0], [1, 3, 1], [0, 1, 2]])


def told(matrix, b, method):
    operator = lo.assume(lo.Dense(matrix), lo.Tag.POSITIVE_DEFINITE)
    return (lstsq if isinstance(method, LSMR) else solve)(operator, b, method, return_info=True)


@pytest.mark.full
@pytest.mark.parametrize("method", [None, CG(1e-5), GMRES(1e-5), LSMR(1e-5)])
def test_info_comes_out_of_jit(method):
    matrix, b = jnp.asarray(A, "float32"), jnp.ones((3, 2), "float32")
    x, info = jax.jit(told, static_argnums=2)(matrix, b, method)
    plain_x, plain = told(matrix, b, method)
    np.testing.assert_allclose(x, plain_x, atol=1e-5)
    assert type(info) is lo.linalg.Info
    assert info.method == method
    assert bool(info.converged)
    assert abs(int(info.iterations) - plain.iterations) <= 1
    assert info.residual.shape == (2,)
    leaves, tree = jax.tree.flatten(plain)
    assert jax.tree.unflatten(tree, leaves).method == method


def test_info_comes_out_of_vmap():
    b = jnp.ones((4, 3), "float32")
    x, info = jax.vmap(lambda b: told(jnp.asarray(A, "float32"), b, CG(1e-5)))(b)
    assert x.shape == (4, 3)
    assert info.converged.shape == info.iterations.shape == info.residual.shape == (4,)
    leaves, tree = torch.utils._pytree.tree_flatten(told(torch.tensor(A), torch.ones(3).double(), CG())[1])
    assert torch.utils._pytree.tree_unflatten(leaves, tree).method == CG()


@pytest.mark.parametrize("name", ["trace", "logdet"])
def test_estimates_come_out_of_jit(name):
    method = Hutchinson(8, seed=0) if name == "trace" else SLQ(3, 8, seed=0)
    operator = lo.assume(lo.Dense(jnp.asarray(A, "float32")), lo.Tag.POSITIVE_DEFINITE)
    found, estimate = jax.jit(lambda a: getattr(lo.linalg, name)(a, method, return_info=True))(operator)
    assert np.isfinite(found)
    assert np.isfinite(estimate.standard_error)
    assert type(estimate.products) is int
