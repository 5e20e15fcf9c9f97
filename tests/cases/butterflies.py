"""Butterflies, and einsums over named axes."""

import numpy as np

import linops as lo


def kronecker_sparse(factor):
    """The matrix of (F x)[i, β, j] = Σ_γ factor[j, i, β, γ] x[i, γ, j], entry by entry."""
    d, a, b, c = factor.shape
    matrix = np.zeros((a, b, d, a, c, d), factor.dtype)
    for j, i, row, column in np.ndindex(factor.shape):
        matrix[i, row, j, i, column, j] = factor[j, i, row, column]
    return matrix.reshape(a * b * d, a * c * d)


def butterfly(array, *patterns):
    factors = [array(d, a, b, c) for a, b, c, d in patterns]
    matrix = kronecker_sparse(factors[-1])
    for factor in factors[-2::-1]:
        matrix = kronecker_sparse(factor) @ matrix
    return lo.Butterfly(factors), matrix


def case_butterfly_square(array):
    return butterfly(array, (4, 2, 2, 1), (2, 2, 2, 2), (1, 2, 2, 4))


def case_butterfly_rising(array):
    """Factors that copy between them: d rises as they act, as in transposes."""
    return butterfly(array, (1, 2, 2, 4), (2, 2, 2, 2), (4, 2, 2, 1))


def case_butterfly_tall(array):
    return butterfly(array, (6, 2, 2, 1), (3, 2, 2, 2), (1, 3, 2, 4))


def case_butterfly_wide(array):
    return butterfly(array, (2, 3, 4, 1), (1, 2, 3, 4))


def case_butterfly_one_factor(array):
    return butterfly(array, (2, 3, 1, 4))


def case_butterfly_of_other_orders(array):
    """Patterns that neither follow nor refine the one before."""
    return butterfly(array, (4, 2, 2, 3), (3, 2, 1, 4), (1, 2, 2, 6))
