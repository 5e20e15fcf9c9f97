"""Callables and derivatives as operators."""

import numpy as np

import linops as lo
from cases.limits import only
from cases.marks import SMALLEST, of, small, thorough
from linops import backends

without_numpy = only("torch", "jax", because="NumPy has no derivatives")


def from_numpy(array):
    return backends.asarray(array, "torch")


def multiply(x, a):
    return a @ x


def multiply_adjoint(y, a):
    return a.mT.conj() @ y


def weighted(x, a, d):
    return d[:, None] * (a @ x)


def weighted_adjoint(y, a, d):
    return a.mT.conj() @ (d.conj()[:, None] * y)


def summed(x, w):
    return (w * x).sum(-1)


def summed_columns(x, w):
    return (w[..., None] * x).sum(1)


def neighbours(x, g):
    return g * x[1:] + 2j * x[:-1]


def squares(x, w):
    return (w * x**2).sum(-1)


def chain(x, w):
    return (w * x[1:] ** 2 * x[:-1]).sum()


@thorough
@small(
    *(
        lambda array, m=m, n=n: lo.Function((m, n), multiply, multiply_adjoint, (array(m, n),), macs=m * n)
        for m, n in SMALLEST
    )
)
def case_function_wide(array):
    a = array(3, 4)
    return lo.Function((3, 4), multiply, multiply_adjoint, (a,), macs=12), a


def case_function_of_matrices(array):
    a, d = array(4, 2), array(4)
    return lo.Function((4, 2), weighted, weighted_adjoint, (a, d), vectorized=True, macs=8), np.diag(d) @ a


def case_function_nested(array):
    a, b, c = array(2, 3), array(2, 2), array(2, 6)
    function = lo.Function((2, 3), multiply, multiply_adjoint, [a], macs=6)
    return lo.kron(function, lo.Dense(b)).conj() @ lo.Dense(c).H, np.kron(a, b).conj() @ c.conj().T


def case_function_known_by_its_adjoint(array):
    a = array(1, 1)
    return lo.Function((1, 1), multiply_adjoint, multiply, (a,), macs=1), a.conj()


@without_numpy
@thorough
def case_function_transposed_by_the_framework(array):
    a = array(4, 3)
    return lo.Function((4, 3), summed, params=(a,)), a


@without_numpy
def case_function_with_complex_entries(array):
    g = array(3)
    return lo.Function((3, 4), neighbours, params=(g,), complex_entries=True), np.diag(g, 1)[:3] + 2j * np.eye(3, 4)


@without_numpy
def case_function_of_matrices_transposed_by_the_framework(array):
    a = array(2, 3)
    return lo.Function((2, 3), summed_columns, params=(a,), vectorized=True).H, a.conj().T


@without_numpy
@thorough
@of(lo.Jacobian)
def case_jacobian_tall(array):
    x, w = array(3), array(4, 3)
    return lo.Jacobian(squares, from_numpy(x), (from_numpy(w),)), 2 * w * x


@without_numpy
@of(lo.Jacobian)
def case_jacobian_reverse(array):
    x, w = array(3), array(2, 3)
    return lo.Jacobian(squares, from_numpy(x), (from_numpy(w),), mode="reverse"), 2 * w * x


@without_numpy
@of(lo.Product)
def case_jacobian_in_a_product(array):
    x, w, a = array(3), array(2, 3), array(4, 2)
    jacobian = lo.Jacobian(squares, from_numpy(x), (from_numpy(w),))
    return lo.Dense(from_numpy(a)) @ jacobian @ jacobian.H, a @ (2 * w * x) @ (2 * w * x).conj().T


def chain_hessian(x, w):
    """Σ w[i] x[i+1]² x[i], twice differentiated."""
    n = len(x)
    matrix = np.zeros((n, n), x.dtype)
    for i in range(n - 1):
        matrix[i + 1, i + 1] += 2 * w[i] * x[i]
        matrix[i, i + 1] += 2 * w[i] * x[i + 1]
        matrix[i + 1, i] += 2 * w[i] * x[i + 1]
    return matrix


@without_numpy
@thorough
@of(lo.Hessian)
def case_hessian(array):
    x, w = array(4), array(3)
    return lo.Hessian(chain, from_numpy(x), (from_numpy(w),)), chain_hessian(x, w)


@without_numpy
@of(lo.Sum)
def case_hessian_reverse(array):
    x, w = array(3), array(2)
    hessian = lo.Hessian(chain, from_numpy(x), (from_numpy(w),), mode="reverse")
    return lo.Identity(3) + hessian.H, np.eye(3) + chain_hessian(x, w).conj().T
