"""Some rows and columns of an operator."""

import numpy as np

import linops as lo
from cases.marks import small, thorough
from cases.matrices import axes_matrix, block_matrix


@thorough
@small(
    lambda array: lo.Dense(array(3, 4))[1:1, :],
    lambda array: lo.Dense(array(3, 4))[::2, 4:],
    lambda array: lo.Dense(array(3, 4))[3:, 4:],
    lambda array: lo.Dense(array(3, 4))[1:2, 3:],
)
def case_sliced_block(array):
    a = array(4, 6)
    return lo.Dense(a)[1:3, 2:5], np.array([[a[i, j] for j in (2, 3, 4)] for i in (1, 2)])


@thorough
@small(
    lambda array: lo.Dense(array(3, 4))[[2, 0, 1], 4:],
    lambda array: lo.Dense(array(3, 4))[[0, 2], 4:],
    lambda array: lo.Dense(array(3, 4))[[], [0, 0]],
    lambda array: lo.Dense(array(3, 4))[[], []],
    lambda array: lo.Dense(array(3, 4))[1:2, [3]],
    lambda array: lo.Selected(lo.Dense(array(3, 4)), np.array([1]), np.array([3])),
)
def case_sliced_indices(array):
    blocks = array(2, 3, 2)
    matrix = block_matrix(blocks)  # 6×4
    rows, columns = [5, 0, 0, 3, 2], [3, 0, 0]
    return lo.BlockDiag(blocks)[[-1, 0, 0, 3, 2], np.array([3, -4, 0])], np.array(
        [[matrix[i, j] for j in columns] for i in rows]
    )


@thorough
def case_sliced_steps(array):
    u, v = array(5, 2), array(2, 6)
    matrix = np.array([[sum(u[i, r] * v[r, j] for r in range(2)) for j in (1, 3, 5)] for i in (4, 3, 2, 1, 0)])
    return lo.LowRank(u, v)[::-1, [False, True] * 3], matrix


def case_sliced_rows_of_a_view(array):
    return lo.Permute.axes((2, 3), (1, 0))[1::2], axes_matrix((2, 3), (1, 0))[[1, 3, 5]]


def case_sliced_columns_of_complex(array):
    a = array(3, 3)
    matrix = (2j * a)[:, [2, 0, 2]]
    return (2j * lo.Dense(a))[..., [2, 0, 2]], matrix


@thorough
def case_sliced_principal(array):
    d, a = array(4), array(4, 4)
    return lo.Diagonal(d)[[2, 0], [2, 0]] @ lo.Dense(a)[1:3, ::3][::-1], np.diag(d[[2, 0]]) @ a[[2, 1]][:, [0, 3]]


def case_sliced_beside_the_diagonal(array):
    a = array(5, 5)
    return lo.Dense(a)[2:5, 1:4], np.array([[a[i, j] for j in (1, 2, 3)] for i in (2, 3, 4)])
