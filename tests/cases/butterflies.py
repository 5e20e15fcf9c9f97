"""Butterflies, and einsums over named axes."""

import numpy as np

import linops as lo
from cases.marks import SMALLEST, small, thorough
from cases.matrices import axes_matrix


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


@small(lambda array: lo.Butterfly([array(1, 0, 2, 2)]), lambda array: lo.Butterfly([array(1, 1, 1, 1)]))
def case_butterfly_square(array):
    return butterfly(array, (4, 2, 2, 1), (2, 2, 2, 2), (1, 2, 2, 4))


def case_butterfly_rising(array):
    """Factors that copy between them: d rises as they act, as in transposes."""
    return butterfly(array, (1, 2, 2, 4), (2, 2, 2, 2), (4, 2, 2, 1))


@thorough
def case_butterfly_tall(array):
    return butterfly(array, (6, 2, 2, 1), (3, 2, 2, 2), (1, 3, 2, 4))


def case_butterfly_wide(array):
    return butterfly(array, (2, 3, 4, 1), (1, 2, 3, 4))


def case_butterfly_one_factor(array):
    return butterfly(array, (2, 3, 1, 4))


def case_butterfly_of_other_orders(array):
    """Patterns that neither follow nor refine the one before."""
    return butterfly(array, (4, 2, 2, 3), (3, 2, 1, 4), (1, 2, 2, 6))


@small(*(lambda array, shape=shape: lo.Einsum("ij,j->i", array(*shape)) for shape in SMALLEST))
def case_einsum_low_rank(array):
    u, v = array(5, 2), array(2, 3)
    return lo.Einsum("ir,rj,j->i", u, v), u @ v


@thorough
def case_einsum_two_factors(array):
    """Potapczynski et al., 2024: y[φεδ] = Σ B[φ,ε,ρ,γ,β] A[φ,δ,ρ,γ,α] x[γβα], which copies between the factors."""
    f, e, d, r, g, b, a = 2, 3, 2, 2, 3, 2, 4
    B, A = array(f, e, r, g, b), array(f, d, r, g, a)
    matrix = np.zeros((f, e, d, g, b, a), A.dtype)
    for φ, ε, δ, γ, β, α in np.ndindex(matrix.shape):
        matrix[φ, ε, δ, γ, β, α] = sum(B[φ, ε, ρ, γ, β] * A[φ, δ, ρ, γ, α] for ρ in range(r))
    return lo.Einsum("φεργβ,φδργα,γβα->φεδ", B, A, order=(1, 0)), matrix.reshape(f * e * d, g * b * a)


def case_einsum_blast(array):
    """W_ij = U_i diag(s_ij) V_j."""
    U, s, V = array(2, 3, 2), array(2, 2, 4), array(4, 2, 2)
    blocks = [[U[i] @ np.diag(s[:, i, j]) @ V[j] for j in range(4)] for i in range(2)]
    return lo.Einsum("ipr,rij,jrq,jq->ip", U, s, V), np.block(blocks)


def case_einsum_canonical(array):
    """A matrix product operator in canonical polyadic form: an axis of four tensors, which scale and sum it."""
    a, b, c, d = array(2, 3), array(3, 3), array(4, 3), array(2, 3)
    matrix = sum(np.kron(np.outer(a[:, r], c[:, r]), np.outer(b[:, r], d[:, r])) for r in range(3))
    return lo.Einsum("ir, jr, kr, lr, kl -> ij", a, b, c, d), matrix


@thorough
def case_einsum_scales_and_passes(array):
    """A diagonal over one axis, an axis that passes by, the axes of the result turned, and a new one."""
    d, w = array(3), array(4)
    matrix = np.zeros((2, 4, 3, 3, 2), d.dtype)
    for i, p, n in np.ndindex(3, 2, 4):
        matrix[p, n, i, i, p] = d[i] * w[n]
    return lo.Einsum("i,n,ip->pni", d, w, in_dims=(3, 2)), matrix.reshape(24, 6)


def case_einsum_one_tensor(array):
    """A sum over two axes with another between, of which none is first in the tensor: both are copied."""
    t = array(2, 3, 2, 2)
    return lo.Einsum("ambn,apb->mpn", t, in_dims=(2, 2, 2)), np.einsum("ambn,pq->mpnaqb", t, np.eye(2)).reshape(12, 8)


def case_nested_butterflies(array):
    """Between permutations of axes, transposed and as a factor of a Kronecker product."""
    (wide, one), (rising, two), (blast, three) = (
        case_butterfly_wide(array),
        case_butterfly_rising(array),
        case_einsum_blast(array),
    )
    a = array(2, 1)
    operator = lo.Permute.axes((2, 3), (1, 0)) @ wide @ lo.Permute.axes((4, 3), (1, 0)) @ lo.kron(blast, a) @ rising.T
    matrix = axes_matrix((2, 3), (1, 0)) @ one @ axes_matrix((4, 3), (1, 0)) @ np.kron(three, a) @ two.T
    return operator, matrix
