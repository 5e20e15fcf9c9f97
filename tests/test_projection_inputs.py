"""What users give to `lo.project` besides plain matrices, and what it must not lose on the way."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

import linops as lo

S = lo.spec


def random(*shape):
    return np.random.default_rng(0).standard_normal(shape)


def test_complex_operators_without_arrays_keep_their_imaginary_part():
    assert np.allclose(lo.project(lo.DFT(8), "dense").to_dense(), lo.DFT(8).to_dense())
    assert np.allclose(lo.project(1j * lo.Identity(5), "diagonal").diagonal, 1j)


@pytest.mark.parametrize("convert", [np.asarray, torch.tensor])
def test_multiples_of_given_operators_are_operators(convert):
    A, info = lo.project(convert(random(6, 6)), S() * lo.Identity(6), return_info=True)
    assert np.isclose(float(A.gain), np.trace(random(6, 6)) / 6)
    assert info.is_optimal
    assert A.to_dense().shape == (6, 6)
    with pytest.raises(ValueError, match="a multiple of zero"):
        lo.project(random(6, 6), 0 * lo.Dense(S(6, 6)))


def test_inputs_that_do_not_vary():
    for seed in range(5):
        x = torch.randn(1, 16, generator=torch.Generator().manual_seed(seed)).expand(50, 16)
        linear = nn.Linear(16, 16)
        torch.testing.assert_close(lo.nn.from_linear(linear, "btt", inputs=x)(x), linear(x))
    x = random(1000, 3) + 1e6
    moments = lo.Moments(3)
    for start in range(10):
        moments.add(x[start::10])
    assert np.allclose(moments.covariance, np.cov(x.T, bias=True), rtol=1e-9)
    assert np.allclose(moments.second_moment, x.T @ x / 1000, rtol=1e-12)


def test_tags_of_dense_targets_hold():
    W = random(6, 6)
    for tag, expected in (
        (lo.Tag.DIAGONAL, np.diag(np.diag(W))),
        (lo.Tag.LOWER_TRIANGULAR, np.tril(W)),
        (lo.Tag.UPPER_TRIANGULAR, np.triu(W)),
    ):
        assert np.array_equal(lo.project(W, lo.assume(lo.Dense(S(6, 6)), tag)).to_dense(), expected)
    with pytest.raises(NotImplementedError, match="one at a time"):
        lo.project(W, lo.assume(lo.Dense(S(6, 6)), lo.Tag.POSITIVE_DEFINITE))


def test_single_precision_does_not_lose_small_directions():
    n = 64
    Q = np.linalg.qr(random(n, n))[0]
    C = (Q * np.logspace(0, -8, n)) @ Q.T
    W = np.tril(random(n, n)).astype("float32")
    A, info = lo.project(W, "lower_triangular", second_moment=C, return_info=True)
    assert A.dtype == np.float32
    assert info.weight_error < 1e-6


@pytest.mark.parametrize("family", ["block_diag", "diagonal", "lower_triangular"])
def test_weighted_closed_forms_have_derivatives(family):
    W = torch.tensor(random(8, 8), requires_grad=True)
    C, G = torch.eye(8, dtype=torch.float64) + 0.1, torch.tensor(random(8, 8)[::-1].copy())
    loss = lambda W: (lo.project(W, family, second_moment=C).to_dense() * G).sum()  # noqa: E731
    assert torch.autograd.gradcheck(loss, W)


def test_given_arrays_stay_as_they_are():
    target = lo.Diagonal(np.arange(8.0) * 1e5) + lo.LowRank(S(8, 2), S(2, 8))
    found = lo.project(random(8, 8).astype("float16"), target)
    assert [leaf.dtype for _, leaf in found.named_leaves()] == [np.float64, np.float16, np.float16]
    assert np.array_equal(found.terms[0].diagonal, np.arange(8.0) * 1e5)


def test_blocks_of_structures_are_found_one_by_one():
    W, weights = random(16, 16), np.arange(16) + 1.0
    blocks = [lo.LowRank(S(8, 2), S(2, 8)), lo.Kronecker(lo.Dense(S(2, 4)), lo.Dense(S(4, 2)))]
    for options in ({}, {"row_weights": weights, "column_weights": weights}):
        A, info = lo.project(W, lo.BlockDiag(blocks), return_info=True, **options)
        assert info.is_optimal == (not options)  # weights of a Kronecker product have no closed form
        parts = {name: value[:8] for name, value in options.items()}
        assert np.allclose(A.to_dense()[:8, :8], lo.project(W[:8, :8], blocks[0], **parts).to_dense())
    grid = lo.Block([[lo.LowRank(S(8, 2), S(2, 8)), None], [lo.Identity(8), lo.Circulant(S(8))]])
    A, info = lo.project(W, grid, return_info=True)
    assert info.is_optimal
    assert np.allclose(A.to_dense()[8:, 8:], lo.project(W[8:, 8:], "circulant").to_dense())


def test_results_share_no_memory_with_the_matrix():
    W = random(4, 4)
    A = lo.project(W, "dense")
    W[0, 0] = 99
    assert np.array_equal(A.to_dense(), random(4, 4))


def test_ranks_above_what_is_useful():
    op = lo.LowRank(random(600, 5), random(5, 600))
    for W in (op, op.to_dense()):
        A, info = lo.project(W, lo.LowRank(S(600, 700), S(700, 600)), return_info=True)
        assert A.U.shape == (600, 700)
        assert info.weight_error < 1e-10


def test_lists_and_numbers_of_numpy():
    A = lo.project(random(8, 8), "btt", row_weights=[1.0] * 8, tol=np.float32(1e-3), max_iterations=np.int64(10))
    assert A.shape == (8, 8)
    with pytest.raises(TypeError, match="give them as inputs="):
        lo.project(random(8, 8), "btt", second_moment=lo.Moments(8))
    moments = lo.Moments(8)
    moments.add(random(3, 8))
    with pytest.warns(UserWarning, match="rank 3 at most"):
        lo.project(random(8, 8), "low_rank", inputs=moments)


def test_info_of_what_has_gradients_is_quiet():
    W = torch.tensor(random(8, 8), requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert lo.project(W, "btt", return_info=True)[1].weight_error < 1


def test_layers_of_one_shape_grow_by_numbers_of_their_own():
    model = nn.Sequential(lo.nn.torch.Linear(lo.btt(16, 16)), lo.nn.torch.Linear(lo.btt(16, 16)))
    lo.nn.grow_(model, "btt:rank=2")
    first, second = (dict(layer.named_parameters())["cores_0"][:, 4:] for layer in model)
    assert not torch.equal(first, second)
