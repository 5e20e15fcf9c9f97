"""Dense, diagonal, constants, permutations."""

import numpy as np

import linops as lo
from cases.marks import SMALLEST, small, thorough
from cases.matrices import axes_matrix, index_matrix, pad_matrix


@small(*(lambda array, shape=shape: lo.Dense(array(*shape)) for shape in SMALLEST))
def case_dense_square(array):
    a = array(4, 4)
    return lo.Dense(a), a


@thorough
def case_dense_tall(array):
    a = array(7, 3)
    return lo.Dense(a), a


def case_dense_wide(array):
    a = array(2, 6)
    return lo.Dense(a), a


def case_dense_transposed_memory(array):
    a = array(5, 3).T
    return lo.Dense(a), a


@thorough
@small(lambda array: lo.Diagonal(array(0)), lambda array: lo.Diagonal(array(1)))
def case_diagonal(array):
    d = array(5)
    return lo.Diagonal(d), np.diag(d)


@thorough
@small(lambda array: lo.Identity(0), lambda array: lo.Identity(1))
def case_identity(array):
    return lo.Identity(4), np.eye(4)


@small(*(lambda array, shape=shape: lo.Zero(*shape) for shape in SMALLEST))
def case_zero_square(array):
    return lo.Zero(3, 3), np.zeros((3, 3))


@thorough
def case_zero_tall(array):
    return lo.Zero(5, 2), np.zeros((5, 2))


def case_zero_wide(array):
    return lo.Zero(2, 5), np.zeros((2, 5))


@thorough
@small(*(lambda array, shape=shape: lo.Pad(*shape) for shape in SMALLEST))
def case_pad_pads(array):
    return lo.Pad(5, 3), pad_matrix(5, 3)


@thorough
def case_pad_crops(array):
    return lo.Pad(3, 5), pad_matrix(3, 5)


def case_pad_square(array):
    return lo.Pad(3, 3), pad_matrix(3, 3)


@thorough
@small(lambda array: lo.Permute([]), lambda array: lo.Permute([0]))
def case_permute_indices(array):
    indices = [3, 0, 2, 1, 4]
    return lo.Permute(indices), index_matrix(indices)


def case_permute_random(array):
    indices = np.random.default_rng(5).permutation(7)
    return lo.Permute.random(7, seed=5), index_matrix(indices)


@small(lambda array: lo.Permute.axes((0, 3), (1, 0)), lambda array: lo.Permute.axes((), ()))
def case_permute_two_axes(array):
    return lo.Permute.axes((2, 3), (1, 0)), axes_matrix((2, 3), (1, 0))


@thorough
def case_permute_three_axes(array):
    return lo.Permute.axes((2, 3, 4), (2, 0, 1)), axes_matrix((2, 3, 4), (2, 0, 1))


def case_permute_four_axes(array):
    return lo.Permute.axes((2, 1, 3, 2), (3, 1, 0, 2)), axes_matrix((2, 1, 3, 2), (3, 1, 0, 2))
