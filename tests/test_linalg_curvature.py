"""Second derivatives of determinants that are found by eigenvalues, where these coincide: as of dense ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import linops as lo

SIZES = (4, 3)
SUMS = {
    "kronecker sum": lambda one, other: lo.KroneckerSum(one, other),
    "three factors": lambda one, other: lo.KroneckerSum(one, other, lo.Identity(2)),
    "product and noise": lambda one, other: 2.0 * lo.Kronecker(one, other) + 1.5 * lo.Identity(12),
    "a negative shift": lambda one, other: lo.Kronecker(one, other) - 5.0 * lo.Identity(12),
    "sum and noise": lambda one, other: 0.5 * lo.KroneckerSum(one, other) + 1.5 * lo.Identity(12),
}


def hermitian(rng, n, is_complex):
    X = rng.standard_normal((n, n)) + (1j * rng.standard_normal((n, n)) if is_complex else 0)
    return X + X.conj().T


def points(is_complex, values=(2.0, 2.0, 3.0, 3.5)):
    """Matrices with eigenvalues that coincide, and two directions of each."""
    rng = np.random.default_rng(0)
    found = []
    for n in SIZES:
        Q = np.linalg.qr(hermitian(rng, n, is_complex))[0]
        found.append(((Q * values[:n]) @ Q.conj().T, *[hermitian(rng, n, is_complex) for _ in range(2)]))
    return found


def moved(structure, given, t):
    parts = [lo.assume(lo.Dense(M + t[0] * one + t[1] * other), lo.Tag.HERMITIAN) for M, one, other in given]
    return SUMS[structure](*parts)


@pytest.mark.parametrize("structure", SUMS)
@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("values", [(2.0, 2.0, 3.0, 3.5), (2.0, 2.0 + 8e-15, 3.0, 3.5), (1.0, 1.0, 1.0, 1.0)])
def test_in_torch(structure, is_complex, values):
    given = [tuple(map(torch.tensor, one)) for one in points(is_complex, values)]
    t = torch.zeros(2, dtype=torch.float64)

    def hessian(logarithm):
        return torch.autograd.functional.hessian(lambda t: logarithm(moved(structure, given, t)), t)

    ours = hessian(lambda A: lo.linalg.slogdet(A)[1])
    dense = hessian(lambda A: torch.linalg.slogdet(A.to_dense())[1])
    torch.testing.assert_close(ours, dense, rtol=1e-10, atol=1e-10)


@pytest.mark.full
@pytest.mark.parametrize("structure", SUMS)
@pytest.mark.parametrize("is_complex", [False, True])
def test_in_jax(structure, is_complex):
    given = [tuple(map(jnp.asarray, one)) for one in points(is_complex)]

    def ours(t):
        return lo.linalg.slogdet(moved(structure, given, t))[1]

    def dense(t):
        return jnp.linalg.slogdet(moved(structure, given, t).to_dense())[1]

    t = jnp.zeros(2)
    assert np.allclose(jax.jit(jax.hessian(ours))(t), jax.hessian(dense)(t), rtol=1e-10, atol=1e-10)


def test_pencils_and_parameters():
    rng = np.random.default_rng(1)
    given = [tuple(map(torch.tensor, one)) for one in points(False)]
    definite = []
    for n in SIZES:
        X = hermitian(rng, n, False)
        definite.append(lo.assume(lo.Dense(torch.tensor(X @ X + np.eye(n))), lo.Tag.POSITIVE_DEFINITE))

    def sums(t):
        parts = [lo.assume(lo.Dense(M + t[0] * one + t[1] * other), lo.Tag.HERMITIAN) for M, one, other in given]
        return (
            lo.Kronecker(*parts) + lo.Kronecker(*definite),
            (2 + t[1]) * lo.Kronecker(*parts) + (1 + t[0]) * lo.Identity(12),
        )

    t = torch.zeros(2, dtype=torch.float64)
    for k in range(2):
        ours = torch.autograd.functional.hessian(lambda t, k=k: lo.linalg.slogdet(sums(t)[k])[1], t)
        dense = torch.autograd.functional.hessian(lambda t, k=k: torch.linalg.slogdet(sums(t)[k].to_dense())[1], t)
        torch.testing.assert_close(ours, dense, rtol=1e-9, atol=1e-9)
