"""Reference matrices, from their definitions."""

import numpy as np


def axes_matrix(dims, order):
    """The matrix of y = x.reshape(dims).transpose(order).ravel(), column by column."""
    n = int(np.prod(dims))
    matrix = np.zeros((n, n))
    for column in range(n):
        unit = np.zeros(n)
        unit[column] = 1
        matrix[:, column] = unit.reshape(dims).transpose(order).ravel()
    return matrix


def index_matrix(indices):
    """The matrix of y[i] = x[indices[i]], entry by entry."""
    matrix = np.zeros((len(indices), len(indices)))
    for row, column in enumerate(indices):
        matrix[row, column] = 1
    return matrix


def block_matrix(blocks):
    """Blocks along the diagonal."""
    rows, columns = sum(len(block) for block in blocks), sum(block.shape[1] for block in blocks)
    matrix = np.zeros((rows, columns), np.result_type(*blocks))
    i = j = 0
    for block in blocks:
        p, q = block.shape
        matrix[i : i + p, j : j + q] = block
        i, j = i + p, j + q
    return matrix


def pad_matrix(m, n):
    """Ones on the diagonal."""
    matrix = np.zeros((m, n))
    for i in range(min(m, n)):
        matrix[i, i] = 1
    return matrix


def kron_matrix(*factors):
    """np.kron of any number of factors."""
    matrix = np.ones((1, 1))
    for factor in factors:
        matrix = np.kron(matrix, factor)
    return matrix.astype(np.result_type(*factors))
