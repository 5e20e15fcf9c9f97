"""Symbolic operators for the tests of layers: every family, with padding and without, and expressions of no family."""

import numpy as np

import linops as lo


def _permuted():
    """Index arrays on both sides of a structure, one in a Kronecker factor."""
    inner = lo.Kronecker(lo.Permute.random(4, seed=1), lo.Dense(lo.spec(3, 2)))
    return lo.Permute.random(12, seed=2) @ inner @ lo.Permute.random(8, seed=3)


def _sparse(m, n, entries):
    """Entries at random positions, some of them twice."""
    random = np.random.default_rng(4)
    return lo.Sparse(lo.spec(entries), random.integers(m, size=entries), random.integers(n, size=entries), (m, n))


def _multiply(x, a):
    return a @ x


def _multiply_adjoint(y, a):
    return a.mT.conj() @ y


OPERATORS = {
    "dense": lambda: lo.dense(12, 8),
    "low_rank": lambda: lo.low_rank(12, 8, rank=2),
    "block_diag": lambda: lo.block_diag(12, 8, blocks=4),
    "block_diag_padded": lambda: lo.block_diag(11, 9, blocks=4),
    "kronecker": lambda: lo.kronecker(12, 8),
    "kronecker_three": lambda: lo.kronecker(24, 8, factors=3),
    "monarch": lambda: lo.monarch(12, 8, blocks=2),
    "monarch_padded": lambda: lo.monarch(13, 7, blocks=3),
    "tensor_train": lambda: lo.tensor_train(12, 8, rank=2),
    "tensor_train_three": lambda: lo.tensor_train(24, 27, rank=2, cores=3),
    "btt": lambda: lo.btt(12, 8),
    "btt_rank": lambda: lo.btt(16, 16, rank=2),
    "btt_three": lambda: lo.btt(27, 27, rank=2, cores=3),
    "btt_padded": lambda: lo.btt(13, 11),
    "circulant": lambda: lo.circulant(13, 17, allow_dearer=True),
    "toeplitz": lambda: lo.toeplitz(12, 8, allow_dearer=True),
    "hadamard": lambda: lo.Hadamard(8) @ lo.Diagonal(lo.spec(8)) @ lo.Hadamard(8),
    "butterfly": lambda: lo.butterfly(8, 12),
    "butterfly_padded": lambda: lo.butterfly(21, 13),
    "einsum": lambda: lo.einsum(27, 27),
    "blast": lambda: lo.blast(12, 8, blocks=2),
    "blast_padded": lambda: lo.blast(13, 7, rank=2),
    "butterfly_expression": lambda: lo.Butterfly([lo.spec(1, 4, 2, 2), lo.spec(2, 2, 2, 3)]),
    "einsum_expression": lambda: lo.Einsum(
        "ir, jr, kr, kp -> ipj", *(lo.spec(size, 2) for size in (3, 2, 2)), in_dims=(2, 3)
    ),
    "permuted": _permuted,
    "sum": lambda: lo.low_rank(8, 8, rank=1) + lo.Diagonal(lo.spec(8)),
    "sliced": lambda: lo.btt(16, 16)[::-2, [3, 0, 9, 9]],
    "function": lambda: lo.Function((12, 8), _multiply, _multiply_adjoint, (lo.spec(12, 8),)),
    "scaled": lambda: 2 * lo.btt(12, 8),
    "reflected_triangular": lambda: lo.Householder(lo.spec(2, 6)) @ lo.Triangular(lo.spec(6, 6), lower=False),
    "tridiagonal": lambda: lo.Tridiagonal(lo.spec(5), lo.spec(6), lo.spec(5)),
    "kronecker_sum": lambda: lo.KroneckerSum(lo.spec(2, 2), lo.spec(3, 3)),
    "block": lambda: lo.Block([[lo.low_rank(4, 3, rank=1), lo.spec(4, 2)], [lo.spec(3, 3), None]]),
    # sparse
    "sparse": lambda: _sparse(12, 8, 30),
    "sparse_transposed": lambda: _sparse(8, 12, 30).T,
    "low_rank_block": lambda: lo.low_rank_block(12, 8, rank=2, blocks=3),
    "low_rank_sparse": lambda: lo.low_rank_sparse(12, 8, rank=2, density=0.2),
    "low_rank_semi_structured": lambda: lo.low_rank_semi_structured(13, 9, rank=1, kept=1),
}
