"""Sparse matrices."""

import numpy as np
import scipy.sparse

import linops as lo
from cases.marks import small, thorough
from cases.matrices import block_matrix

ROWS, COLUMNS = [3, 0, 0, 4, 3, 1, 3], [1, 2, 0, 2, 0, 0, 1]  # in no order, a position twice, row 2 empty


def entries_matrix(values, rows, columns, size):
    """Entry by entry; entries at the same position add up."""
    matrix = np.zeros(size, values.dtype)
    for value, row, column in zip(values, rows, columns):
        matrix[row, column] += value
    return matrix


@thorough
@small(
    *(lambda array, size=size: lo.Sparse(array(0), [], [], size) for size in ((0, 3), (3, 0), (0, 0))),
    lambda array: lo.Sparse(array(1), [0], [0], (1, 1)),
)
def case_sparse_tall(array):
    values = array(7)
    return lo.Sparse(values, ROWS, COLUMNS, (5, 3)), entries_matrix(values, ROWS, COLUMNS, (5, 3))


def case_sparse_wide(array):
    values = array(7)
    return lo.Sparse(values, COLUMNS, ROWS, (3, 6)), entries_matrix(values, COLUMNS, ROWS, (3, 6))


def case_sparse_square_of_scipy(array):
    a = array(4, 4) * np.array([[1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 0, 1], [0, 1, 0, 0]])
    a = a.astype(array(1).dtype)
    return lo.Sparse(scipy.sparse.csc_array(a)), a


def case_sparse_of_no_entries(array):
    return lo.Sparse(array(0), [], [], (3, 2)), np.zeros((3, 2), array(1).dtype)


@thorough
def case_sparse_transposed_in_blocks(array):
    values, d = array(7), array(2)
    sparse = lo.Sparse(values, ROWS, COLUMNS, (5, 3)).T
    dense = entries_matrix(values, ROWS, COLUMNS, (5, 3)).T
    return lo.BlockDiag([lo.kron(lo.Diagonal(d), sparse), sparse.H]), block_matrix(
        [np.kron(np.diag(d), dense), dense.conj().T]
    )
