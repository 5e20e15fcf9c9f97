"""`lo.project` of very large and small numbers, and of NaN and infinity in operators."""

import warnings

import numpy as np
import pytest
from test_projection import dense, made

import linops as lo
from linops.linalg import inputs
from linops.operators.scaled import Scaled
from linops.projection.magnitude import shares

SPEC = lo.spec
#: structures of size 16, one for each way of finding and of scaling a member
TARGETS = {
    **{
        text: text
        for text in (
            "low_rank:rank=2",
            "btt:rank=2",
            "btt:cores=3",
            "monarch:blocks=3",
            "kronecker",
            "tensor_train:rank=2",
            "butterfly",
            "blast:blocks=4:rank=3",
            "block_diag:blocks=5",
            "toeplitz",
            "circulant",
            "tridiagonal",
            "symmetric",
        )
    },
    "two terms": lo.Diagonal(SPEC(16)) + lo.LowRank(SPEC(16, 2), SPEC(2, 16)),
    "in a product": lo.Permute.random(16, seed=0) @ (lo.Diagonal(SPEC(16)) + lo.LowRank(SPEC(16, 2), SPEC(2, 16))),
    "blocks": lo.BlockDiag([lo.LowRank(SPEC(8, 2), SPEC(2, 8)), lo.Dense(SPEC(8, 8))]),
    "uneven": lo.BlockDiag(SPEC(4, 4, 7)) @ lo.Permute.random(28, seed=0) @ lo.BlockDiag(SPEC(4, 7, 4)),
    "factors": lo.Circulant(SPEC(16)) @ lo.Diagonal(SPEC(16)),
    "descent": lo.KroneckerSum(SPEC(4, 4), SPEC(4, 4)),
}
#: sizes of float32: squares of the first vanish and of the second overflow, numbers of the last are nearly subnormal
EXPONENTS = (-83, 66, -120)


def matrix(is_complex=False):
    rng = np.random.default_rng(0)
    W = rng.standard_normal((16, 16)) + (1j * rng.standard_normal((16, 16)) if is_complex else 0)
    return W.astype("complex64" if is_complex else "float32")


def scaled(W, exponent):
    """A matrix times a power of two, in single precision."""
    wide = W.astype(complex if np.iscomplexobj(W) else float) * 2.0**exponent
    return wide.astype(W.dtype)


def check(target, backend, exponent, is_complex=False, **norm):
    W, norm = matrix(is_complex), {name: made(one, backend) for name, one in norm.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        best, its = lo.project(made(W, backend), target, return_info=True, **norm)
        found, info = lo.project(made(scaled(W, exponent), backend), target, return_info=True, **norm)
    found, best = (dense(one).astype(complex) for one in (found, best))
    np.testing.assert_allclose(found / 2.0**exponent, best, atol=3e-5 * np.abs(best).max())
    for name in ("weight_error", "bound", "activation_error"):
        one, other = getattr(info, name), getattr(its, name)
        assert one == other if other is None else one == pytest.approx(other, rel=1e-5, abs=1e-6)
    assert (info.method, info.is_optimal) == (its.method, its.is_optimal)
    assert info.converged == its.converged or info.method == "L-BFGS"  # whose steps rounding changes


@pytest.mark.parametrize("exponent", EXPONENTS)
@pytest.mark.parametrize("target", TARGETS)
def test_as_of_the_rescaled_matrix(target, exponent):
    check(TARGETS[target], "numpy", exponent)


@pytest.mark.full
@pytest.mark.parametrize("exponent", EXPONENTS[:2])
@pytest.mark.parametrize("backend", ["torch", "jax"])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("is_complex", [False, True])
def test_on_other_backends(target, backend, exponent, is_complex):
    if target == "descent" and is_complex and backend == "jax":
        pytest.skip("no case of its own")
    check(TARGETS[target], backend, exponent, is_complex)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("target", ["low_rank:rank=2", "btt", "two terms"])
def test_in_other_norms(target, backend):
    C = np.diag(np.linspace(1, 2, 16)) + 0.1
    for norm in ({"second_moment": C}, {"column_weights": np.linspace(1, 2, 16)}):
        for exponent in EXPONENTS:
            check(TARGETS.get(target, target), backend, exponent, **norm)


@pytest.mark.parametrize("target", ["low_rank:rank=2", "btt", "toeplitz", "block_diag"])
@pytest.mark.parametrize("size", [1e-300, 1e-170, 1e170])
def test_sizes_of_metrics_do_not_matter(target, size):
    W, X = matrix().astype(float), np.random.default_rng(1).standard_normal((40, 16))
    C, a = X.T @ X, np.linspace(1, 2, 16)
    for one, other in (
        ({"second_moment": C, "row_weights": a}, {"second_moment": C * size, "row_weights": a / size}),
        ({"second_moment": C, "cross": C + 0.1}, {"second_moment": C * size, "cross": (C + 0.1) * size}),
        ({"output_metric": C, "column_weights": a}, {"output_metric": C * size, "column_weights": a * size}),
    ):
        best, found = (dense(lo.project(W, target, **norm)) for norm in (one, other))
        np.testing.assert_allclose(found, best, atol=1e-7)


def test_orthogonal_matrices_and_permutations_keep_their_size():
    W = matrix()
    for target in ("orthogonal", "permutation", lo.Householder(SPEC(16, 16))):
        for exponent in EXPONENTS:
            found, best = (dense(lo.project(one, target)) for one in (scaled(W, exponent), W))
            np.testing.assert_allclose(found, best, atol=1e-5)


def test_given_terms_and_factors_stay():
    """They are scaled with W meanwhile, and are the same arrays afterwards."""
    W, given = matrix().astype(float), lo.Toeplitz(np.linspace(1, 0, 16), np.linspace(1, 2, 16))
    for exponent in (-300, 300):
        size = 2.0**exponent
        there = given.with_leaves([leaf * size for _, leaf in given.named_leaves()])
        D = np.linspace(1, 2, 16) * size
        found = lo.project(W * size, there + lo.btt(16, 16))
        best = lo.project(W, given + lo.btt(16, 16))
        np.testing.assert_allclose(dense(found) / size, dense(best), atol=1e-8)
        assert found.terms[0].c is there.c
        found = lo.project(W * size, lo.Diagonal(D) @ lo.LowRank(SPEC(16, 2), SPEC(2, 16)))
        best = lo.project(W, lo.Diagonal(D / size) @ lo.LowRank(SPEC(16, 2), SPEC(2, 16)))
        np.testing.assert_allclose(dense(found) / size, dense(best), atol=1e-8)
        assert found.factors[0].diagonal is D
        found, best = (lo.project(W * one, Scaled(given, 1, SPEC())) for one in (size, 1))
        np.testing.assert_allclose(dense(found) / size, dense(best), atol=1e-8)


@pytest.mark.parametrize("target", TARGETS)
def test_zeros_and_subnormal_numbers(target):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        W = np.zeros((16, 16), "float32")
        found, info = lo.project(W, TARGETS[target], return_info=True)
    assert not dense(found).any() or target in ("factors", "descent")
    assert np.isfinite(dense(found)).all()
    step = np.finfo("float32").smallest_subnormal
    W = (np.round(matrix() * 100) * step).astype("float32")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found, info = lo.project(W, TARGETS[target], return_info=True)
        _, best = lo.project(np.round(matrix() * 100), TARGETS[target], return_info=True)
    assert info.weight_error == pytest.approx(best.weight_error, abs=0.03)  # of numbers of few digits


def test_factors_are_in_balance():
    for exponent in (0, *EXPONENTS):
        A = lo.project(scaled(matrix(), exponent), "btt:cores=3")
        stds = lo.initial_stds(A)
        sizes = [np.sqrt(np.mean(leaf.astype(float) ** 2)) / stds[name] for name, leaf in A.named_leaves()]
        np.testing.assert_allclose(sizes, sizes[0], rtol=1e-5)


def test_what_is_multiplied():
    assert shares(lo.btt(16, 16, cores=3), 6) == [2, 2, 2]
    assert shares(lo.Toeplitz(SPEC(4), SPEC(4)), 6) == [6, 6]
    assert shares(lo.Diagonal(SPEC(16)) + lo.LowRank(SPEC(16, 2), SPEC(2, 16)), 6) == [6, 3, 3]
    assert shares(lo.Diagonal(np.ones(4)) @ lo.Dense(SPEC(4, 4)), 6) == [0, 6]
    assert shares(lo.Identity(4) + lo.Diagonal(SPEC(4)), 6) is None  # which is not multiplied


# ---------------------------------------------------------------- no numbers


@pytest.mark.parametrize("backend", ["numpy", "torch", "jax"])
@pytest.mark.parametrize("number", [np.nan, np.inf])
@pytest.mark.parametrize("is_large", [False, True])
def test_operators_with_nan_and_infinity(backend, number, is_large, monkeypatch):
    if is_large:
        monkeypatch.setattr(inputs, "DENSE_LIMIT", 100)
    W = matrix()
    W[3, 4] = number
    ones = np.ones(16, "float32")
    for A in (lo.Dense(made(W, backend)) @ lo.Diagonal(made(ones, backend)), lo.Diagonal(made(W[3] * ones, backend))):
        for target in ("low_rank:rank=2", "btt", "toeplitz", "kronecker", "symmetric"):
            for norm in ({}, {"column_weights": made(ones, backend)}):
                with pytest.raises(ValueError, match=r"project\(.*16×16.*\): the matrix holds NaN or infinity"):
                    lo.project(A, target, **norm)
