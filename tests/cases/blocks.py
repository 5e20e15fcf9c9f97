"""Block diagonal, low rank, Kronecker."""

import numpy as np

import linops as lo
from cases.marks import SMALLEST, small, thorough
from cases.matrices import axes_matrix, block_matrix, kron_matrix, pad_matrix


@small(
    *(lambda array, shape=shape: lo.BlockDiag(array(*shape)) for shape in ((0, 2, 3), (2, 0, 3), (2, 3, 0), (1, 1, 1)))
)
def case_block_diag_square(array):
    blocks = array(3, 2, 2)
    return lo.BlockDiag(blocks), block_matrix(blocks)


@thorough
def case_block_diag_tall(array):
    blocks = array(2, 4, 3)
    return lo.BlockDiag(blocks), block_matrix(blocks)


def case_block_diag_wide(array):
    blocks = array(4, 1, 3)
    return lo.BlockDiag(blocks), block_matrix(blocks)


def case_block_diag_one_block(array):
    blocks = array(1, 3, 2)
    return lo.BlockDiag(blocks), blocks[0]


@small(
    lambda array: lo.DirectSum([array(0, 3), array(2, 0)]),
    lambda array: lo.DirectSum([array(0, 3)]),
    lambda array: lo.DirectSum([array(1, 1)]),
)
def case_block_diag_list(array):
    a, b = array(2, 3), array(4, 1)
    return lo.BlockDiag([a, lo.Dense(b)]), block_matrix([a, b])


@thorough
def case_block_diag_of_operators(array):
    d, p, q = array(3), array(2, 2, 1), array(2, 4)
    operator = lo.BlockDiag([lo.Diagonal(d), lo.BlockDiag(p), lo.Identity(2), lo.Zero(1, 2), q])
    return operator, block_matrix([np.diag(d), block_matrix(p), np.eye(2), np.zeros((1, 2)), q])


def case_block_diag_of_views(array):
    operator = lo.BlockDiag([lo.Permute.axes((2, 3), (1, 0)), lo.Pad(2, 3)])
    return operator, block_matrix([axes_matrix((2, 3), (1, 0)), pad_matrix(2, 3)])


@small(
    *(
        lambda array, m=m, n=n, r=r: lo.LowRank(array(m, r), array(r, n))
        for m, n, r in ((0, 3, 2), (3, 0, 2), (0, 0, 0), (2, 3, 0), (1, 1, 1))
    )
)
def case_low_rank_square(array):
    u, v = array(5, 2), array(2, 5)
    return lo.LowRank(u, v), np.einsum("ir,rj->ij", u, v)


@thorough
def case_low_rank_tall(array):
    u, v = array(7, 2), array(2, 3)
    return lo.LowRank(u, v), np.einsum("ir,rj->ij", u, v)


def case_low_rank_wide(array):
    u, v = array(2, 3), array(3, 6)
    return lo.LowRank(u, v), np.einsum("ir,rj->ij", u, v)


@small(*(lambda array, shape=shape: lo.Kronecker(array(*shape), array(2, 3)) for shape in SMALLEST))
def case_kronecker_square(array):
    a, b = array(2, 2), array(3, 3)
    return lo.Kronecker(a, b), np.kron(a, b)


def case_kronecker_tall(array):
    a, b = array(3, 2), array(4, 3)
    return lo.Kronecker(a, b), np.kron(a, b)


def case_kronecker_wide(array):
    a, b = array(1, 3), array(2, 4)
    return lo.Kronecker(a, b), np.kron(a, b)


def case_kronecker_one_factor(array):
    a = array(3, 2)
    return lo.Kronecker(a), a


@thorough
def case_kronecker_three_factors(array):
    a, b, c = array(3, 1), array(1, 4), array(2, 2)
    return lo.Kronecker(a, b, c), kron_matrix(a, b, c)


def case_kronecker_four_factors(array):
    factors = array(2, 3), array(3, 1), array(1, 2), array(2, 2)
    return lo.Kronecker(*factors), kron_matrix(*factors)


@thorough
def case_kronecker_of_operators(array):
    d, blocks, a = array(2), array(2, 1, 2), array(3, 2)
    operator = lo.Kronecker(lo.Diagonal(d), lo.BlockDiag(blocks), a)
    return operator, kron_matrix(np.diag(d), block_matrix(blocks), a)


def case_kronecker_with_identities(array):
    a = array(3, 2)
    return lo.Kronecker(lo.Identity(2), a, lo.Identity(3)), kron_matrix(np.eye(2), a, np.eye(3))


def case_kronecker_of_views(array):
    operator = lo.Kronecker(lo.Identity(2), lo.Permute.axes((2, 2), (1, 0)), lo.Pad(2, 3))
    return operator, kron_matrix(np.eye(2), axes_matrix((2, 2), (1, 0)), pad_matrix(2, 3))


def case_kronecker_of_identities(array):
    return lo.Kronecker(lo.Identity(2), lo.Identity(3)), np.eye(6)


def case_kronecker_of_low_rank_and_products(array):
    u, v, a, b = array(2, 1), array(1, 3), array(2, 3), array(3, 2)
    return lo.kron(lo.LowRank(u, v), lo.Dense(a) @ lo.Dense(b)), np.kron(u @ v, a @ b)
