"""What the algebra makes: products, sums, multiples, powers, nests."""

import numpy as np

import linops as lo
from cases.marks import SMALLEST, small, thorough
from cases.matrices import axes_matrix, block_matrix, index_matrix, pad_matrix
from cases.trains import case_block_tensor_train_wide_rank_three, case_tensor_train_two_cores_tall


@small(
    *(
        lambda array, m=m, k=k, n=n: lo.Product((lo.Dense(array(m, k)), lo.Dense(array(k, n))))
        for m, k, n in ((0, 2, 3), (3, 2, 0), (2, 0, 3), (1, 1, 1))
    )
)
def case_product_of_two(array):
    a, b = array(3, 4), array(4, 2)
    return lo.Dense(a) @ lo.Dense(b), a @ b


def case_product_of_views(array):
    operator = lo.Pad(5, 6) @ lo.Permute.axes((2, 3), (1, 0)) @ lo.Pad(6, 7)
    return operator, pad_matrix(5, 6) @ axes_matrix((2, 3), (1, 0)) @ pad_matrix(6, 7)


@thorough
def case_product_monarch(array):
    left, right = array(2, 4, 3), array(2, 3, 3)
    operator = (
        lo.Permute.axes((2, 4), (1, 0)) @ lo.BlockDiag(left) @ lo.Permute.axes((3, 2), (1, 0)) @ lo.BlockDiag(right)
    )
    matrix = axes_matrix((2, 4), (1, 0)) @ block_matrix(left) @ axes_matrix((3, 2), (1, 0)) @ block_matrix(right)
    return operator, matrix


def case_product_of_permutations(array):
    indices = np.random.default_rng(1).permutation(6)
    operator = lo.Permute(indices) @ lo.Permute.axes((2, 3), (1, 0)) @ lo.Permute(indices[::-1].copy())
    return operator, index_matrix(indices) @ axes_matrix((2, 3), (1, 0)) @ index_matrix(indices[::-1])


def case_product_diagonal_low_rank(array):
    d, u, v = array(4), array(4, 2), array(2, 5)
    return lo.Diagonal(d) @ lo.LowRank(u, v), np.diag(d) @ u @ v


def case_product_with_zero(array):
    a = array(3, 4)
    return lo.Zero(2, 3) @ lo.Dense(a), np.zeros((2, 4), a.dtype)


@small(*(lambda array, shape=shape: lo.Sum((lo.Dense(array(*shape)),) * 2) for shape in SMALLEST))
def case_sum_of_dense(array):
    a, b = array(3, 4), array(3, 4)
    return lo.Dense(a) + lo.Dense(b), a + b


@thorough
def case_sum_with_identity(array):
    u, v = array(4, 1), array(1, 4)
    return lo.Identity(4) + lo.LowRank(u, v), np.eye(4) + u @ v


def case_sum_of_views(array):
    operator = lo.Identity(6) + lo.Permute.axes((2, 3), (1, 0)) + lo.Permute([5, 4, 3, 2, 1, 0])
    return operator, np.eye(6) + axes_matrix((2, 3), (1, 0)) + index_matrix([5, 4, 3, 2, 1, 0])


def case_sum_with_plain_array(array):
    d, a = array(3), array(3, 3)
    return a - lo.Diagonal(d), a - np.diag(d)


@thorough
@small(*(lambda array, shape=shape: lo.Scaled(lo.Dense(array(*shape)), 2) for shape in SMALLEST))
def case_scaled_tall(array):
    a = array(4, 2)
    return -2.5 * lo.Dense(a), -2.5 * a


def case_scaled_wide(array):
    a = array(2, 4)
    return lo.Dense(a) / 4, a / 4


@thorough
def case_scaled_gain(array):
    gain, blocks = array(), array(2, 3, 2)
    return 2 * (gain * lo.BlockDiag(blocks)), 2 * gain * block_matrix(blocks)


def case_scaled_two_gains(array):
    one, two, a = array(), array(), array(3, 3)
    return one * (two * lo.Dense(a)), one * two * a


def case_scaled_view(array):
    return 3 * lo.Permute.axes((2, 3), (1, 0)), 3 * axes_matrix((2, 3), (1, 0))


def case_scaled_complex(array):
    a = array(3, 2)
    return (1 + 2j) * lo.Dense(a), (1 + 2j) * a


def case_scaled_complex_identity(array):
    return 1j * lo.Identity(3), 1j * np.eye(3)


def case_sum_with_complex_identity(array):
    a = array(3, 3)
    return lo.Dense(a) - 2j * lo.Identity(3), a - 2j * np.eye(3)


@small(
    lambda array: lo.Power(lo.Dense(array(0, 0)), 2),
    lambda array: lo.Power(lo.Dense(array(1, 1)), 2),
)
def case_power_dense(array):
    a = array(3, 3)
    return lo.Dense(a) ** 3, a @ a @ a


def case_power_of_views(array):
    matrix = axes_matrix((2, 2, 2), (1, 2, 0))
    return lo.Permute.axes((2, 2, 2), (1, 2, 0)) ** 2, matrix @ matrix


@thorough
def case_power_of_product(array):
    a, b = array(4, 2), array(2, 4)
    return (lo.Dense(a) @ lo.Dense(b)) ** 2, a @ b @ a @ b


def case_power_zero(array):
    return lo.Dense(array(3, 3)) ** 0, np.eye(3)


def case_nested_sum_of_products(array):
    a, b, d, g = array(3, 4), array(4, 3), array(3), array()
    operator = 2 * (lo.Dense(a) @ lo.Dense(b) + g * lo.Diagonal(d)) - lo.Identity(3)
    return operator, 2 * (a @ b + g * np.diag(d)) - np.eye(3)


@thorough
def case_nested_kronecker_of_sums(array):
    a, b, d = array(2, 3), array(2, 3), array(3)
    operator = lo.kron(lo.Dense(a) + lo.Dense(b), (lo.Diagonal(d) + lo.Identity(3)) ** 2)
    square = np.diag(d) + np.eye(3)
    return operator, np.kron(a + b, square @ square)


def case_nested_blocks_of_trains(array):
    train, dense = case_tensor_train_two_cores_tall(array)
    block, other = case_block_tensor_train_wide_rank_three(array)
    d = array(4)
    operator = lo.BlockDiag([train @ lo.Diagonal(d), -block])
    return operator, block_matrix([dense @ np.diag(d), -other])


def case_nested_transposes(array):
    a, blocks, u, v = array(3, 4), array(2, 2, 3), array(6, 2), array(2, 3)
    operator = (lo.Dense(a).H @ lo.LowRank(u, v).T).conj() @ lo.BlockDiag(blocks).T
    return operator, (a.conj().T @ (u @ v).T).conj() @ block_matrix(blocks).T
