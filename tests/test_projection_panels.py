"""`lo.project` of operators too large to be written out in norms of inputs and outputs, and of what entries are in."""

import tracemalloc
import warnings

import numpy as np
import pytest
from test_projection import dense, made
from test_projection_operators import planted

import linops as lo
from linops.linalg import inputs
from linops.operators.scaled import Scaled
from linops.projection import panels, structures

TARGETS = [
    "low_rank:rank=4",
    "btt:rank=2",
    "monarch:blocks=4",
    "monarch:blocks=5",  # of padded sizes
    "uneven",
    "toeplitz",
    "circulant",
    "block_diag:blocks=4",
    "block_diag:blocks=5",
    "rectangles",
    "diagonal",
    "tridiagonal",
    "between",
]
NORMS = ["plain", "column_weights", "weights", "second_moment", "output_metric", "inputs", "cross"]
#: of what has a closed form in every norm, or sweeps
CLOSED = [(target, norm) for target in TARGETS for norm in NORMS if target != "rectangles" or norm in NORMS[:3]]
OFTEN = ("plain", "weights", "second_moment", "output_metric")
PAIRS = [one if one[1] in OFTEN else pytest.param(*one, marks=pytest.mark.full) for one in CLOSED]
SQUARE = ("diagonal", "tridiagonal")


def structure(name, m, n):
    """A target by name."""
    spec = lo.spec
    if name == "uneven":
        return lo.BlockDiag(spec(4, m // 4, 7)) @ lo.Permute.random(28, seed=0) @ lo.BlockDiag(spec(4, 7, n // 4))
    if name == "rectangles":
        return lo.BlockDiag([lo.LowRank(spec(m // 2, 2), spec(2, n // 4)), lo.Dense(spec(m // 2, n - n // 4))])
    if name == "between":
        return lo.Permute.random(m, seed=1) @ lo.btt(m, n) @ lo.Permute.random(n, seed=2)
    return name


def norm_of(name, m, n, is_complex=False):
    """Arguments of a norm."""
    rng = np.random.default_rng(1)

    def vectors(size):
        scales = np.linspace(1, 0.1, size)
        x = rng.standard_normal((4 * size, size)) * scales
        return x + 0.5j * rng.standard_normal((4 * size, size)) * scales if is_complex else x

    X, Y, Z = vectors(n), vectors(m), vectors(n)
    return {
        "plain": {},
        "column_weights": {"column_weights": rng.uniform(0.1, 2, n)},
        "weights": {"column_weights": rng.uniform(0.1, 2, n), "row_weights": rng.uniform(0.1, 2, m)},
        "second_moment": {"second_moment": X.T @ X.conj() / len(X), "row_weights": rng.uniform(0.1, 2, m)},
        "output_metric": {"output_metric": Y.T @ Y.conj() / len(Y), "column_weights": rng.uniform(0.1, 2, n)},
        "inputs": {"inputs": X},
        "cross": {"second_moment": X.T @ X.conj() / len(X), "cross": (X + 0.1 * Z).T @ X.conj() / len(X)},
    }[name]


def compare(A, W, target, norm):
    """Project an operator by panels, and its matrix as a whole."""
    options = {"return_info": True, "tol": 1e-6, "max_iterations": 500}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inputs, "DENSE_LIMIT", 100)
        patch.setattr(panels, "PANEL", 5 * 48)
        found, info = lo.project(A, target, **norm, **options)
    best, its = lo.project(W, target, **norm, **options)
    assert info.is_optimal == its.is_optimal or "Krylov" in info.method
    if "sweeps" in its.method or "alternating" in its.method:  # which stop each by itself
        assert info.activation_error == pytest.approx(its.activation_error, rel=1e-5)
        return info
    np.testing.assert_allclose(dense(found), dense(best), atol=1e-7 * np.abs(dense(best)).max())
    assert info.weight_error == pytest.approx(its.weight_error, rel=1e-8, abs=1e-10)
    if its.activation_error is None:
        assert info.activation_error is None
    else:
        assert info.activation_error == pytest.approx(its.activation_error, rel=1e-8, abs=1e-10)
    return info


@pytest.mark.parametrize(("target", "norm"), PAIRS)
def test_as_of_the_matrix(target, norm):
    A, W = planted(48, 48 if target in SQUARE else 32)
    compare(A, W, structure(target, *W.shape), norm_of(norm, *W.shape))


@pytest.mark.full
@pytest.mark.parametrize(("target", "norm"), CLOSED)
@pytest.mark.parametrize("shape", [(48, 48), (32, 48)])
def test_as_of_complex_matrices(target, norm, shape):
    m, n = (48, 48) if target in SQUARE else shape
    A, W = planted(m, n, is_complex=True)
    compare(A, W, structure(target, m, n), norm_of(norm, m, n, True))


@pytest.mark.parametrize("target", ["low_rank:rank=4", "btt:rank=2", "uneven", "toeplitz", "block_diag:blocks=5"])
@pytest.mark.parametrize("backend", ["torch", pytest.param("jax", marks=pytest.mark.full)])
@pytest.mark.parametrize("norm", ["weights", "second_moment", "output_metric"])
@pytest.mark.parametrize("is_complex", [pytest.param(False, marks=pytest.mark.full), True])
def test_on_other_backends(target, backend, norm, is_complex):
    A, W = planted(48, 32, backend, is_complex)
    norm = {name: made(np.asarray(one), backend) for name, one in norm_of(norm, 48, 32, is_complex).items()}
    compare(A, made(W, backend), structure(target, 48, 32), norm)


def trial(A, W, target, norm, rel=1e-3):
    """That iterations on panels come as near as those on the matrix, if not to the same member.

    Terms of a sum are found in turn by both: of a matrix, steps on all leaves at once may come nearer.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inputs, "DENSE_LIMIT", 100)
        patch.setattr(panels, "PANEL", 5 * 48)
        found, info = lo.project(A, target, **norm, return_info=True)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setattr(structures, "eliminated", lambda *_: None)
        warnings.simplefilter("ignore")
        _, its = lo.project(W, target, **norm, return_info=True)
    error = info.activation_error if norm else info.weight_error
    best = its.activation_error if norm else its.weight_error
    assert error <= (1 + rel) * best + 1e-10
    assert info.converged
    return found, info


@pytest.mark.parametrize("norm", NORMS[1:])
@pytest.mark.parametrize("target", ["kronecker", "tensor_train:rank=3", "btt:cores=3:rank=2", "blast:blocks=4:rank=3"])
def test_iterations_in_other_norms(target, norm):
    A, W = planted(48, 32)
    _, info = trial(A, W, target, norm_of(norm, 48, 32))
    assert info.method == "alternating least squares of panels"


@pytest.mark.parametrize(
    "target",
    [
        "kronecker",
        "tensor_train:rank=3",
        "btt:rank=2",
        "monarch:blocks=5",
        pytest.param("blast", marks=pytest.mark.full),
    ],
)
@pytest.mark.parametrize("norm", ["plain", "second_moment"])
def test_sizes_that_are_padded(target, norm):
    A, W = planted(53, 37)
    trial(A, W, target, norm_of(norm, 53, 37))


@pytest.mark.parametrize("is_complex", [False, pytest.param(True, marks=pytest.mark.full)])
def test_sums_and_multiples(is_complex):
    A, W = planted(48, 48, is_complex=is_complex)
    weights = {"row_weights": np.linspace(1, 2, 48)}
    spec = lo.spec
    given = lo.Toeplitz(np.linspace(1, 0, 48), np.linspace(1, 2, 48))
    for norm in ({}, weights):
        trial(A, W, lo.Diagonal(spec(48)) + lo.LowRank(spec(48, 3), spec(3, 48)), norm)
        trial(A, W, given + lo.btt(48, 48), norm)
        trial(A, W, Scaled(given, 1, spec()), norm)


def test_members_come_back_in_a_norm():
    norm = norm_of("second_moment", 48, 48)
    for target in ("btt:rank=2", "monarch:blocks=5", "toeplitz", "tensor_train:rank=2", "kronecker"):
        A = lo.families.text.parse(target)(48, 48).init(seed=0, backend="numpy", dtype="float64")
        _, info = trial(A @ lo.Identity(48), A.to_dense(), target, norm)
        assert info.weight_error < 1e-6, target


def test_sweeps_that_did_not_converge_say_so(monkeypatch):
    monkeypatch.setattr(inputs, "DENSE_LIMIT", 100)
    A, _ = planted(48, 32)
    norm = norm_of("inputs", 48, 32)
    for target in ("btt", "kronecker", "uneven"):
        with pytest.warns(UserWarning, match="had not converged after 1 iterations"):
            lo.project(A, structure(target, 48, 32), **norm, max_iterations=1, tol=1e-9)


@pytest.mark.full
@pytest.mark.parametrize(
    "target", ["low_rank:rank=8:allow_dearer=1", "btt:rank=1", "monarch:blocks=64", "circulant", "block_diag:blocks=64"]
)
def test_memory(target):
    """Of 16,384 × 4,096, 512 MiB as a matrix, in the norm of a second moment of 128 MiB."""
    rng = np.random.default_rng(0)
    m, n = 16384, 4096
    W = lo.LowRank(rng.standard_normal((m, 4)), rng.standard_normal((4, n))) @ lo.Diagonal(rng.uniform(1, 2, n))
    weights = {"column_weights": rng.uniform(1, 2, n), "row_weights": rng.uniform(1, 2, m)}
    lo.project(np.eye(8), "btt")
    tracemalloc.start()
    try:
        _, info = lo.project(W, target, **weights, return_info=True)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 320 * 2**20
    assert info.activation_error <= 1


@pytest.mark.parametrize("is_complex", [False, True])
def test_low_rank_in_two_full_metrics(is_complex):
    A, W = planted(48, 32, is_complex=is_complex)
    both = norm_of("inputs", 48, 32, is_complex)
    both["output_metric"] = norm_of("output_metric", 48, 32, is_complex)["output_metric"]
    compare(A, W, "low_rank:rank=4", both)
