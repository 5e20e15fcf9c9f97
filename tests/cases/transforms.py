"""Circulant, Toeplitz, Hadamard, DFT."""

import numpy as np
import scipy.linalg

import linops as lo
from cases.marks import SMALLEST, small, thorough
from cases.matrices import block_matrix


def _circulant(c):
    n = len(c)
    return np.array([[c[(i - j) % n] for j in range(n)] for i in range(n)])


def _dft(n, sign=-1):
    return np.array([[np.exp(sign * 2j * np.pi * j * k / n) for k in range(n)] for j in range(n)])


@small(lambda array: lo.Circulant(array(0)), lambda array: lo.Circulant(array(1)))
def case_circulant(array):
    c = array(6)
    return lo.Circulant(c), _circulant(c)


def case_circulant_one(array):
    c = array(1)
    return lo.Circulant(c), _circulant(c)


def case_circulant_prime(array):
    c = array(17)  # not transformed as it is, but in a length of 36
    return lo.Circulant(c), _circulant(c)


def case_circulant_tall_transposed(array):
    c = array(5)
    return lo.Circulant(c, columns=2).T.conj(), _circulant(c)[:, :2].conj().T


@thorough
def case_circulant_block_prime(array):
    c = array(19)
    return lo.Circulant(c, rows=3, columns=18), _circulant(c)[:3, :18]


def case_circulant_in_a_product(array):
    c, d, a = array(4), array(4), array(4, 3)
    operator = lo.Circulant(c).H @ lo.Diagonal(d) @ lo.Circulant(c) @ lo.Dense(a)
    return operator, _circulant(c).conj().T @ np.diag(d) @ _circulant(c) @ a


@small(*(lambda array, m=m, n=n: lo.Toeplitz(array(m), array(n)) for m, n in SMALLEST))
def case_toeplitz_square(array):
    c, r = array(4), array(4)
    return lo.Toeplitz(c, r), scipy.linalg.toeplitz(c, r)


@thorough
def case_toeplitz_tall(array):
    c, r = array(6), array(3)
    return lo.Toeplitz(c, r), scipy.linalg.toeplitz(c, r)


@thorough
def case_toeplitz_wide_transposed(array):
    c, r = array(1), array(5)
    return lo.Toeplitz(c, r).T, scipy.linalg.toeplitz(c, r).T


def case_toeplitz_blocks(array):
    c, r, d = array(2), array(3), array(2)
    return lo.BlockDiag([lo.Toeplitz(c, r).H, lo.Diagonal(d)]), block_matrix(
        [scipy.linalg.toeplitz(c, r).conj().T, np.diag(d)]
    )


@small(lambda array: lo.Hadamard(1))
def case_hadamard(array):
    return lo.Hadamard(8), scipy.linalg.hadamard(8).astype(float)


def case_hadamard_one(array):
    return lo.Hadamard(1), np.eye(1)


@thorough
def case_hadamard_of_two_blocks(array):
    return lo.Hadamard(64), scipy.linalg.hadamard(64).astype(float)


def case_hadamard_in_a_kronecker(array):
    a = array(3, 2)
    return lo.Kronecker(a, lo.Hadamard(2), a), np.kron(np.kron(a, scipy.linalg.hadamard(2)), a)


@thorough
@small(lambda array: lo.DFT(0), lambda array: lo.DFT(1))
def case_dft(array):
    return lo.DFT(5), _dft(5)


def case_dft_ortho(array):
    return lo.DFT(4, norm="ortho"), _dft(4) / 2


def case_dft_adjoint(array):
    return lo.DFT(3).H, _dft(3, sign=1)


def case_dft_diagonalizes(array):
    d = array(4)
    return lo.DFT(4).H @ lo.Diagonal(d) @ lo.DFT(4) / 4, _dft(4, sign=1) @ np.diag(d) @ _dft(4) / 4


def case_dft_of_parts(array):
    return lo.kron(lo.DFT(2), lo.DFT(3).conj()), np.kron(_dft(2), _dft(3, sign=1))
