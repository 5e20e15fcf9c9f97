"""Tensor trains and block tensor trains."""

import numpy as np

import linops as lo
from cases.marks import small, thorough


def case_tensor_train_one_core(array):
    (core,) = (array(1, 4, 3, 1),)
    return lo.TensorTrain([core]), core[0, :, :, 0]


@small(
    lambda array: lo.TensorTrain([array(1, 1, 1, 1), array(1, 1, 1, 1)]),
    lambda array: lo.TensorTrain([array(1, 0, 2, 2), array(2, 2, 2, 1)]),
    lambda array: lo.TensorTrain([array(1, 2, 0, 2), array(2, 2, 2, 1)]),
    lambda array: lo.TensorTrain([array(1, 2, 2, 0), array(0, 2, 2, 1)]),
)
def case_tensor_train_two_cores_square(array):
    a, b = array(1, 2, 3, 2), array(2, 3, 2, 1)
    return lo.TensorTrain([a, b]), np.einsum("aijb,bklc->ikjl", a, b).reshape(6, 6)


def case_tensor_train_two_cores_tall(array):
    a, b = array(1, 4, 2, 3), array(3, 3, 2, 1)
    return lo.TensorTrain([a, b]), np.einsum("aijb,bklc->ikjl", a, b).reshape(12, 4)


def case_tensor_train_two_cores_wide(array):
    a, b = array(1, 2, 5, 2), array(2, 1, 3, 1)
    return lo.TensorTrain([a, b]), np.einsum("aijb,bklc->ikjl", a, b).reshape(2, 15)


@thorough
def case_tensor_train_three_cores(array):
    a, b, c = array(1, 2, 3, 2), array(2, 3, 1, 3), array(3, 2, 2, 1)
    return lo.TensorTrain([a, b, c]), np.einsum("aijb,bklc,cmnd->ikmjln", a, b, c).reshape(12, 6)


def case_tensor_train_four_cores(array):
    a, b, c, d = array(1, 2, 1, 2), array(2, 1, 2, 3), array(3, 2, 2, 2), array(2, 2, 3, 1)
    return lo.TensorTrain([a, b, c, d]), np.einsum("aijb,bklc,cmnd,dopq->ikmojlnp", a, b, c, d).reshape(8, 12)


def btt_two_cores(array, m1, m2, n2, n1, r):
    """W[(i1, i2), (j2, j1)] = Σ_ρ G1[ρ; i1; j1 j2] G2[ρ; i1 i2; j2], the cores stored as the docstring says."""
    first, second = array(n2, r * m1, n1), array(m1, m2, n2 * r)
    g1, g2 = first.reshape(n2, r, m1, n1), second.reshape(m1, m2, n2, r)
    matrix = np.zeros((m1, m2, n2, n1), first.dtype)
    for i1, i2, j2, j1 in np.ndindex(matrix.shape):
        matrix[i1, i2, j2, j1] = sum(g1[j2, rank, i1, j1] * g2[i1, i2, j2, rank] for rank in range(r))
    return lo.BlockTensorTrain([first, second]), matrix.reshape(m1 * m2, n2 * n1)


@small(
    lambda array: lo.BlockTensorTrain([array(1, 1, 1), array(1, 1, 1)]),
    # rank 0; its ranks follow from its dims, so those are > 0
    lambda array: lo.BlockTensorTrain([array(2, 0, 2), array(3, 2, 0)], (3, 2), (2, 2)),
)
def case_block_tensor_train_square(array):
    return btt_two_cores(array, m1=2, m2=3, n2=3, n1=2, r=1)


@thorough
def case_block_tensor_train_tall_rank_two(array):
    return btt_two_cores(array, m1=3, m2=4, n2=2, n1=3, r=2)


def case_block_tensor_train_wide_rank_three(array):
    return btt_two_cores(array, m1=2, m2=2, n2=3, n1=4, r=3)


def case_block_tensor_train_one_core(array):
    core = array(1, 3, 4)
    return lo.BlockTensorTrain([core], (3,), (4,)), core[0]


def btt_three_cores(array, out, into, ranks):
    """W[(i1 i2 i3), (j3 j2 j1)] = Σ G1[ρ1; i1; j1 j2 j3] G2[ρ1 ρ2; i1 i2; j2 j3] G3[ρ2; i1 i2 i3; j3]."""
    (m1, m2, m3), (n3, n2, n1), (r1, r2) = out, into, ranks
    cores = array(n3 * n2, r1 * m1, n1), array(m1 * n3, r2 * m2, n2 * r1), array(m1 * m2, m3, n3 * r2)
    # a, b, c = i1, i2, i3;  z, y, x = j3, j2, j1;  r, s = ρ1, ρ2
    g1 = cores[0].reshape(n3, n2, r1, m1, n1)
    g2 = cores[1].reshape(m1, n3, r2, m2, n2, r1)
    g3 = cores[2].reshape(m1, m2, m3, n3, r2)
    matrix = np.einsum("zyrax,azsbyr,abczs->abczyx", g1, g2, g3).reshape(m1 * m2 * m3, n3 * n2 * n1)
    return lo.BlockTensorTrain(cores, out, into), matrix


def case_block_tensor_train_three_cores(array):
    return btt_three_cores(array, (2, 2, 2), (2, 2, 2), (1, 1))


def case_block_tensor_train_three_cores_tall(array):
    return btt_three_cores(array, (2, 3, 4), (3, 2, 2), (2, 3))


@thorough
def case_block_tensor_train_three_cores_wide(array):
    return btt_three_cores(array, (2, 1, 3), (4, 2, 3), (3, 2))
