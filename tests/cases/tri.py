"""Triangular, tridiagonal, reflections, Kronecker sums, blocks in a grid, low rank plus diagonal."""

import numpy as np

import linops as lo
from cases.marks import small, thorough
from cases.matrices import axes_matrix, kron_matrix


def triangle(a, lower):
    """One triangle of a matrix, entry by entry."""
    kept = np.zeros_like(a)
    for i in range(len(a)):
        for j in range(len(a)):
            if (j <= i) if lower else (j >= i):
                kept[i, j] = a[i, j]
    return kept


def tridiagonal_matrix(lower, diag, upper):
    """Three diagonals."""
    return np.diag(lower, -1) + np.diag(diag) + np.diag(upper, 1)


def reflection(v):
    """I - 2 v vᴴ / (vᴴ v)."""
    return (np.eye(len(v)) - 2 * np.outer(v, v.conj()) / np.vdot(v, v)).astype(v.dtype)


def kron_sum_matrix(*factors):
    """Σ_k I ⊗ … ⊗ A_k ⊗ … ⊗ I."""
    sizes = [len(factor) for factor in factors]
    terms = [
        kron_matrix(np.eye(int(np.prod(sizes[:k]))), factor, np.eye(int(np.prod(sizes[k + 1 :]))))
        for k, factor in enumerate(factors)
    ]
    return sum(terms)


@thorough
@small(
    lambda array: lo.Triangular(array(0, 0), lower=True),
    lambda array: lo.Triangular(array(1, 1), lower=False),
)
def case_triangular_lower(array):
    a = array(4, 4)
    return lo.Triangular(a, lower=True), triangle(a, True)


def case_triangular_upper(array):
    a = array(3, 3)
    return lo.Triangular(a, lower=False), triangle(a, False)


def case_triangular_one(array):
    a = array(1, 1)
    return lo.Triangular(a), a


@thorough
@small(
    lambda array: lo.Tridiagonal(array(0), array(0), array(0)),
    lambda array: lo.Tridiagonal(array(0), array(1), array(0)),
)
def case_tridiagonal(array):
    lower, diag, upper = array(4), array(5), array(4)
    return lo.Tridiagonal(lower, diag, upper), tridiagonal_matrix(lower, diag, upper)


def case_tridiagonal_symmetric(array):
    beside, diag = array(2), array(3)
    return lo.Tridiagonal(beside, diag, beside), tridiagonal_matrix(beside, diag, beside)


def case_tridiagonal_two(array):
    lower, diag, upper = array(1), array(2), array(1)
    return lo.Tridiagonal(lower, diag, upper), tridiagonal_matrix(lower, diag, upper)


def case_tridiagonal_one(array):
    diag = array(1)
    return lo.Tridiagonal(array(0), diag, array(0)), np.diag(diag)


@small(lambda array: lo.Householder(array(1)), lambda array: lo.Householder(array(2, 1)))
def case_householder(array):
    v = array(4)
    return lo.Householder(v), reflection(v)


def case_householder_one_row(array):
    v = array(1, 3)
    return lo.Householder(v), reflection(v[0])


def case_householder_of_size_one(array):
    v = array(1)
    return lo.Householder(v), -np.ones((1, 1), v.dtype)


@thorough
def case_householder_product(array):
    v = array(3, 5)
    return lo.Householder(v), reflection(v[0]) @ reflection(v[1]) @ reflection(v[2])


def case_householder_product_reversed(array):
    v = array(3, 2)  # more reflections than the size
    return lo.Householder(v, reverse=True), reflection(v[2]) @ reflection(v[1]) @ reflection(v[0])


@small(
    lambda array: lo.KroneckerSum(array(0, 0), array(2, 2)),
    lambda array: lo.KroneckerSum(array(1, 1), array(1, 1)),
)
def case_kronecker_sum(array):
    a, b = array(2, 2), array(3, 3)
    return lo.KroneckerSum(a, b), kron_sum_matrix(a, b)


@thorough
def case_kronecker_sum_of_operators(array):
    a, d, u, v = array(2, 2), array(2), array(3, 1), array(1, 3)
    operator = lo.KroneckerSum(lo.LowRank(u, v), lo.Diagonal(d), a)
    return operator, kron_sum_matrix(u @ v, np.diag(d), a)


def case_kronecker_sum_of_views(array):
    operator = lo.KroneckerSum(lo.Permute.axes((2, 2), (1, 0)), lo.Identity(3), lo.Pad(1, 1))
    return operator, kron_sum_matrix(axes_matrix((2, 2), (1, 0)), np.eye(3), np.eye(1))


def case_kronecker_sum_of_one_view(array):
    return lo.KroneckerSum(lo.Permute.axes((2, 2), (1, 0))), axes_matrix((2, 2), (1, 0))


def case_kronecker_sum_nested(array):
    a, b, lower, diag, upper = array(2, 2), array(1, 1), array(2), array(3), array(2)
    operator = lo.kron(lo.KroneckerSum(a, lo.Tridiagonal(lower, diag, upper)), b)
    return operator, np.kron(kron_sum_matrix(a, tridiagonal_matrix(lower, diag, upper)), b)


@small(
    lambda array: lo.Block([[array(0, 3)], [array(2, 3)]]),
    lambda array: lo.Block([[array(0, 0), array(0, 2)]]),
    lambda array: lo.Block([[array(1, 1)]]),
)
def case_block_of_arrays(array):
    a, b, c, d = array(2, 3), array(2, 1), array(4, 3), array(4, 1)
    return lo.Block([[a, b], [c, d]]), np.block([[a, b], [c, d]])


@thorough
def case_block_with_zeros(array):
    a, d = array(2, 3), array(2)
    operator = lo.Block(
        [[a, lo.Zero(2, 2), None], [None, lo.Diagonal(d), lo.Identity(2)], [None, lo.Zero(1, 2), lo.Zero(1, 2)]]
    )
    matrix = np.zeros((5, 7), a.dtype)
    matrix[:2, :3], matrix[2:4, 3:5], matrix[2:4, 5:] = a, np.diag(d), np.eye(2)
    return operator, matrix


def case_block_of_views(array):
    stack = lo.hstack(lo.Permute.axes((2, 2), (1, 0)), lo.Zero(4, 1))  # a product that is a view of its operand
    return stack, np.hstack([axes_matrix((2, 2), (1, 0)), np.zeros((4, 1))])


def case_block_symmetric(array):
    a, d, u = array(3, 2), array(2), array(3, 1)
    corner = lo.Tridiagonal(a[:2, 0], array(3), a[:2, 0])
    matrix = np.block(
        [[corner.to_dense(), a, u], [a.T, np.diag(d), np.zeros((2, 1))], [u.T, np.zeros((1, 2)), np.zeros((1, 1))]]
    )
    return lo.Block([[corner, a, u], [a.T, lo.Diagonal(d), None], [u.T, None, lo.Zero(1, 1)]]), matrix


def case_block_triangular(array):
    lower, b, v = array(2, 2), array(3, 2), array(3)
    operator = lo.Block([[lo.Triangular(lower), None], [b, lo.Diagonal(v)]])
    return operator, np.block([[triangle(lower, True), np.zeros((2, 3))], [b, np.diag(v)]])


def case_block_hstack(array):
    a, p, q = array(4, 3), array(2, 2, 1), array(4, 2)
    blocks = np.zeros((4, 2), a.dtype)
    blocks[:2, :1], blocks[2:, 1:] = p
    return lo.hstack([a, lo.BlockDiag(p), q]), np.hstack([a, blocks, q])


def case_block_vstack(array):
    a, u, v = array(1, 3), array(2, 1), array(1, 3)
    return lo.vstack(a, lo.LowRank(u, v), lo.Identity(3)), np.vstack([a, u @ v, np.eye(3)])


@thorough
def case_low_rank_plus_diagonal(array):
    u, v, d = array(4, 2), array(2, 4), array(4)
    return lo.LowRank(u, v) + lo.Diagonal(d), np.einsum("ir,rj->ij", u, v) + np.diag(d)


def case_low_rank_gram_plus_identity(array):
    u = array(4, 2)
    return lo.LowRank(u, u.conj().T) + 2 * lo.Identity(4), np.einsum("ir,jr->ij", u, u.conj()) + 2 * np.eye(4)
