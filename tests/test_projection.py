"""`lo.project`: members come back, closed forms cannot be improved, norms are those that were asked for."""

import itertools
import re
import warnings
from functools import reduce
from operator import matmul
from pathlib import Path

import jax
import numpy as np
import pytest
import scipy.linalg
import torch
from helpers import each
from test_golden import ROWS, member

import linops as lo
from linops.families import FAMILIES

#: JAX, which compiles thousands of small programs, is under `-m full`, but for one test
BACKENDS = ("numpy", "torch")
#: structures with a closed form in Frobenius' norm
CLOSED = (
    "dense",
    "low_rank:rank=3",
    "block_diag:blocks=4",
    "monarch:blocks=4",
    "kronecker",
    "tensor_train:rank=2",
    "btt:rank=1",
    "btt:rank=2",
    "einsum",
    "circulant",
    "toeplitz",
)
#: those that are approximated
SEARCHED = ("btt:cores=3", "tensor_train:rank=2:cores=3", "kronecker:factors=3", "blast:rank=2", "butterfly")
#: sums, whose terms are found in turn: what is found need not be what a member was made of
SUMS = ("low_rank_block:rank=2", "low_rank_sparse:rank=2:density=0.1", "low_rank_semi_structured:rank=2:kept=1")
SHAPES = ((16, 16), (24, 16), (15, 20))
SPECIAL = ("diagonal", "tridiagonal", "lower_triangular", "upper_triangular", "symmetric", "hermitian", "orthogonal")


def made(array, backend, dtype=None):
    array = np.asarray(array, dtype)
    return {"numpy": lambda: array, "torch": lambda: torch.tensor(array), "jax": lambda: jax.numpy.asarray(array)}[
        backend
    ]()


def dense(A):
    return (
        np.asarray(A.to(backend="numpy").to_dense()) if A.backend not in (None, "numpy") else np.asarray(A.to_dense())
    )


def random(rng, *shape, is_complex=False):
    real = rng.standard_normal(shape)
    return real + 1j * rng.standard_normal(shape) if is_complex else real


def moment(rng, n, power=1.0, is_complex=False):
    Q = np.linalg.qr(random(rng, n, n, is_complex=is_complex))[0]
    return (Q * np.arange(1.0, n + 1) ** -power) @ Q.conj().T


def loss(E, A=None, C=None):
    A = np.eye(E.shape[0]) if A is None else np.diag(A) if A.ndim == 1 else A
    C = np.eye(E.shape[1]) if C is None else np.diag(C) if C.ndim == 1 else C
    return np.trace(A @ E @ C @ E.conj().T).real


def quietly(*args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return lo.project(*args, **options)


# ---------------------------------------------------------------- members come back


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("family", CLOSED + SEARCHED)
def test_random_members_come_back(family, shape, is_complex, backend):
    comes_back(family, shape, is_complex, backend)


@pytest.mark.full
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("family", CLOSED + SEARCHED)
def test_random_members_come_back_in_jax(family, shape):
    for is_complex in (False, True):
        comes_back(family, shape, is_complex, "jax")


def comes_back(family, shape, is_complex, backend):
    target = lo.families.text.parse(family)(*shape)
    planted = target.init(seed=1, backend="numpy", dtype="complex128" if is_complex else "float64").to_dense()
    A, info = lo.project(made(planted, backend), target, return_info=True)
    assert A.backend == backend
    assert A.shape == shape
    assert A.num_params == target.num_params
    assert lo.same_structure(A, target.init(seed=0, backend=backend, dtype=planted.dtype))
    found = np.linalg.norm(dense(A) - planted) / np.linalg.norm(planted)
    assert found <= (1e-10 if family in CLOSED else 1e-6)
    assert info.converged
    assert abs(info.weight_error - found) < 1e-12


def test_jax_recovers_and_differentiates():
    target = lo.btt(16, 16)
    planted = jax.numpy.asarray(target.init(seed=1, backend="numpy", dtype="float64").to_dense())
    assert np.allclose(dense(lo.project(planted, target)), planted)

    @jax.jit
    def value(W):
        return (lo.project(W, "low_rank:rank=2").to_dense() ** 2).sum()

    W = np.random.default_rng(0).standard_normal((8, 8))
    U, s, Vh = np.linalg.svd(W)  # Σ s², of the two largest: 2 s u vᵀ
    assert np.allclose(jax.grad(value)(jax.numpy.asarray(W)), 2 * (U[:, :2] * s[:2]) @ Vh[:2])


def test_matrices_of_the_papers_own_code_come_back():
    matrices = np.load(Path(__file__).parent / "golden" / "paper.npz")
    found = {}
    for row in ROWS:
        if "dense" in row:
            W = matrices[row["dense"]]
            found[row["dense"]] = lo.project(W, member(row), return_info=True)[1].weight_error
    assert set(found) == set(matrices)
    assert max(found.values()) < 1e-6, found


@pytest.mark.parametrize("family", CLOSED + SEARCHED)
def test_single_precision_recovers_too(family):
    target = lo.families.text.parse(family)(24, 16)
    planted = target.init(seed=1, backend="torch").to_dense()
    A = quietly(planted, target)
    assert A.dtype == torch.float32
    assert float(torch.linalg.norm(A.to_dense() - planted) / torch.linalg.norm(planted)) < 1e-5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_halves_are_computed_in_single_and_come_back(dtype):
    W = torch.randn(16, 16, generator=torch.Generator().manual_seed(0)).to(dtype)
    A = lo.project(W, "btt")
    assert A.dtype == dtype
    wide = lo.project(W.float(), "btt")
    for one, other in zip(dict(A.named_leaves()).values(), dict(wide.named_leaves()).values()):
        assert torch.equal(one, other.to(dtype))


@pytest.mark.parametrize("name", SPECIAL)
@pytest.mark.parametrize("is_complex", [False, True])
def test_special_sets_hold_what_they_are_near_to(name, is_complex):
    rng = np.random.default_rng(0)
    W = random(rng, 9, 9, is_complex=is_complex)
    A, info = lo.project(W, name, return_info=True)
    D = dense(A)
    expected = {
        "diagonal": lambda: np.diag(np.diag(W)),
        "tridiagonal": lambda: np.triu(np.tril(W, 1), -1),
        "lower_triangular": lambda: np.tril(W),
        "upper_triangular": lambda: np.triu(W),
        "symmetric": lambda: (W + W.T) / 2,
        "hermitian": lambda: (W + W.conj().T) / 2,
        "orthogonal": lambda: scipy.linalg.polar(W)[0],
    }[name]()
    assert np.allclose(D, expected)
    assert info.is_optimal
    assert np.isclose(info.bound, info.weight_error)


def test_permutation_is_the_best_assignment():
    rng = np.random.default_rng(0)
    P = lo.Permute(rng.permutation(7))
    assert np.array_equal(dense(lo.project(dense(P) + 0.3 * rng.standard_normal((7, 7)), "permutation")), dense(P))
    W, C = rng.standard_normal((4, 4)), moment(rng, 4)
    found = loss(W - dense(lo.project(W, "permutation", second_moment=C)), C=C)
    from itertools import permutations

    assert np.isclose(found, min(loss(W - np.eye(4)[list(order)], C=C) for order in permutations(range(4))))


def test_products_of_reflections_are_recovered():
    rng = np.random.default_rng(5)
    for count, n in ((3, 12), (6, 12)):
        vectors, target = rng.standard_normal((count, n)), reduce(matmul, [lo.Householder(lo.spec(n))] * count)
        W = dense(reduce(matmul, map(lo.Householder, vectors)))
        A, info = lo.project(W, target, return_info=True)
        assert (info.method, info.converged) == ("L-BFGS", True)
        assert np.linalg.norm(dense(A) - W) < 1e-8 * np.linalg.norm(W)


@pytest.mark.full
def test_what_is_recovered_down_to_rounding_in_float32_has_converged():
    target = lo.Householder(lo.spec(6)) @ lo.Householder(lo.spec(6))
    for seed in (2, 3, 4, 5):  # of some the last line search finds nothing lower
        first, last = np.random.default_rng(seed).standard_normal((2, 6))
        W = dense(lo.Householder(first)) @ dense(lo.Householder(last))
        A, info = lo.project(jax.numpy.asarray(W, "float32"), target, return_info=True)
        assert info.converged
        assert np.linalg.norm(dense(A) - W) < 1e-6 * np.linalg.norm(W)


def test_householder_takes_any_orthogonal_matrix():
    rng = np.random.default_rng(1)
    Q = np.linalg.qr(rng.standard_normal((8, 8)))[0]
    A = lo.project(Q, lo.Householder(lo.spec(8, 8)))
    assert np.allclose(dense(A), Q)
    assert np.allclose(dense(lo.project(np.eye(5), lo.Householder(lo.spec(5, 5)))), np.eye(5))
    _few, info = lo.project(
        dense(lo.Householder(rng.standard_normal((2, 8)))),
        lo.Householder(lo.spec(2, 8)),
        max_iterations=20,
        return_info=True,
    )
    assert info.method == "L-BFGS"
    assert info.weight_error < 1e-5


# ---------------------------------------------------------------- optima


@pytest.mark.parametrize("norm", ["plain", "moment", "metric", "both", "weights"])
@pytest.mark.parametrize("family", [*CLOSED, *SEARCHED, *SPECIAL[:4], "symmetric", "orthogonal"])
def test_no_step_along_the_structure_improves(family, norm):
    rng = np.random.default_rng(2)
    m, n = (16, 16) if family in SPECIAL else (12, 16)
    if norm == "both" and family in ("symmetric", "orthogonal"):
        with pytest.raises(NotImplementedError, match="not in both"):
            lo.project(np.eye(m), family, second_moment=np.eye(n), output_metric=np.eye(m))
        return
    if norm == "weights" and family in ("symmetric", "orthogonal"):
        return
    W, C, A = rng.standard_normal((m, n)), moment(rng, n), moment(rng, m)
    given = {
        "plain": {},
        "moment": {"second_moment": C},
        "metric": {"output_metric": A},
        "both": {"second_moment": C, "output_metric": A},
        "weights": {"row_weights": np.arange(m) + 1.0, "column_weights": np.arange(n) + 1.0},
    }[norm]
    a = given.get("output_metric", given.get("row_weights"))
    c = given.get("second_moment", given.get("column_weights"))
    found, info = quietly(W, family, tol=1e-12, max_iterations=2000, return_info=True, **given)
    plain = quietly(W, family)
    at = loss(W - dense(found), a, c)
    assert at <= loss(W - dense(plain), a, c) * (1 + 1e-9)
    if given:
        assert np.isclose(info.activation_error, np.sqrt(at / loss(W, a, c)))
    if info.bound is not None:
        assert info.bound <= (info.activation_error or info.weight_error) + 1e-9
    if family in ("symmetric", "orthogonal"):
        for _ in range(10):
            X = 1e-3 * rng.standard_normal((n, n))
            D = dense(found)
            other = D + X + X.T if family == "symmetric" else D @ scipy.linalg.expm(X - X.T)
            assert loss(W - other, a, c) >= at * (1 - 1e-12)
        return
    leaves = [leaf for _, leaf in found.named_leaves()]
    slack = 1e-12 if info.is_optimal else 1e-6
    for _ in range(10):
        for size in (1e-2, 1e-4):
            moved = [leaf + size * np.abs(leaf).mean() * rng.standard_normal(leaf.shape) for leaf in leaves]
            assert loss(W - dense(found.with_leaves(moved)), a, c) >= at * (1 - slack)


@pytest.mark.parametrize(
    "family", ["low_rank:rank=3", "btt:rank=1", "monarch:blocks=4", "kronecker", "tensor_train:rank=2"]
)
def test_descent_from_other_starts_finds_nothing_nearer(family):
    rng = np.random.default_rng(3)
    W = rng.standard_normal((12, 12))
    from linops.projection.descent import descended
    from linops.projection.effort import Effort
    from linops.projection.goal import Goal

    target = lo.families.text.parse(family)(12, 12)
    found = lo.project(W, target, return_info=True)[1]
    other = descended(target, Goal(lo.Dense(W)), Effort(1e-9, 200)).operator
    assert found.weight_error <= np.linalg.norm(W - dense(other)) / np.linalg.norm(W) * (1 + 1e-9)


def test_low_rank_is_optimal_for_singular_moments():
    rng = np.random.default_rng(4)
    W, X = rng.standard_normal((20, 30)), rng.standard_normal((12, 30))
    X[:, 5] = 0  # a dead unit
    with pytest.warns(UserWarning, match="rank 12 at most"):
        A = lo.project(W, "low_rank:rank=4", inputs=X)
    s = np.linalg.svd(W @ X.T, compute_uv=False)
    assert np.isclose(np.linalg.norm((W - dense(A)) @ X.T), np.sqrt((s[4:] ** 2).sum()), rtol=1e-6)


@pytest.mark.parametrize("shape", [(40, 30), (30, 45), (520, 530)], ids=str)  # the last in a Krylov space
@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
def test_low_rank_by_moments_needs_no_root_of_them(backend, is_complex, shape):
    rng, (m, n), rank = np.random.default_rng(31), shape, 6
    W, X = random(rng, m, n, is_complex=is_complex), random(rng, n // 2, n, is_complex=is_complex)
    X = X * np.arange(1, n + 1) ** -1.0
    C = X.conj().T @ X  # singular: half of its eigenvalues are zero
    A = np.linspace(1, 2, m)
    for weights in (None, A):
        found = lo.project(
            made(W, backend), f"low_rank:rank={rank}", second_moment=made(C, backend), row_weights=weights
        )
        root = 1 if weights is None else np.sqrt(weights)[:, None]
        squares = np.linalg.svd(root * W @ X.conj().T, compute_uv=False) ** 2
        assert loss(W - dense(found), weights, C) <= (1 + 2e-6) * squares[rank:].sum()


@pytest.mark.parametrize(("alpha", "plain", "ends"), each(2, [(1, 0.892, 0.66), (2, 0.892, 0.17), (0.5, 0.889, 0.846)]))
def test_block_tensor_trains_by_activations(alpha, plain, ends):
    rng = np.random.default_rng(0)
    W, C = rng.standard_normal((256, 256)) / 16, moment(rng, 256, alpha)
    target = lo.btt(256, 256)
    _A, info = quietly(W, target, second_moment=C, return_info=True)
    before = np.sqrt(loss(W - dense(lo.project(W, target)), C=C) / loss(W, C=C))
    assert before == pytest.approx(plain, abs=0.02)
    assert info.activation_error <= ends + 0.006


def test_moments_of_block_diagonals_and_masks_match_their_formulas():
    rng = np.random.default_rng(5)
    W, C = rng.standard_normal((12, 12)), moment(rng, 12)
    blocks = np.asarray(lo.project(W, "block_diag:blocks=3", second_moment=C).blocks)
    for b in range(3):
        part = slice(4 * b, 4 * b + 4)
        assert np.allclose(blocks[b], (W @ C)[part, part] @ np.linalg.inv(C[part, part]))
    diagonal = lo.project(W, "diagonal", second_moment=C).diagonal
    assert np.allclose(diagonal, np.diag(W @ C) / np.diag(C))
    lower = dense(lo.project(W, "lower_triangular", second_moment=C))
    for i in range(12):
        assert np.allclose(lower[i, : i + 1], (W @ C)[i, : i + 1] @ np.linalg.inv(C[: i + 1, : i + 1]))


def test_circulant_by_activations_matches_its_formula():
    rng = np.random.default_rng(6)
    n = 9
    W, C = rng.standard_normal((n, n)), moment(rng, n)
    g = np.array([sum(C[i, (i + d) % n] for i in range(n)) for d in range(n)])
    h = np.array([sum((W @ C)[(j + k) % n, j] for j in range(n)) for k in range(n)])
    c = np.fft.ifft(np.fft.fft(h) / np.fft.fft(g)).real
    assert np.allclose(lo.project(W, "circulant", second_moment=C).c, c)


def test_tensor_train_is_within_its_bound():
    rng = np.random.default_rng(7)
    W = rng.standard_normal((24, 24))
    target = lo.tensor_train(24, 24, rank=3, cores=3, allow_dearer=True)
    out, into = ([core.shape[k] for core in target.cores] for k in (1, 2))
    T = W.reshape(*out, *into).transpose(0, 3, 1, 4, 2, 5)
    tails = []
    for cut in (1, 2):
        rows = np.prod(out[:cut]) * np.prod(into[:cut])
        s = np.linalg.svd(T.reshape(rows, -1), compute_uv=False)
        tails.append(np.sqrt((s[3:] ** 2).sum()))
    start = quietly(W, target, max_iterations=0)
    end, info = lo.project(W, target, return_info=True)
    least, most = max(tails), np.sqrt(sum(tail**2 for tail in tails))
    assert least <= np.linalg.norm(W - dense(end)) <= np.linalg.norm(W - dense(start)) <= most * (1 + 1e-12)
    assert info.bound * np.linalg.norm(W) <= least * (1 + 1e-9)
    assert info.bound > 0


def test_complex_tensor_train_loses_error_as_the_rank_grows():
    rng = np.random.default_rng(8)
    W = random(rng, 12, 12, is_complex=True)
    errors = [
        lo.project(
            W, lo.tensor_train(12, 12, rank=r, in_dims=(3, 4), out_dims=(3, 4), allow_dearer=True), return_info=True
        )[1].weight_error
        for r in (1, 2, 4, 8, 9, 12)
    ]
    assert all(b <= a + 1e-12 for a, b in itertools.pairwise(errors))
    assert errors[-1] < 1e-12


def test_iterations_never_raise_the_error():
    rng = np.random.default_rng(9)
    W, C = rng.standard_normal((16, 16)), moment(rng, 16)
    for family in SEARCHED:
        errors = [
            quietly(W, family, second_moment=C, max_iterations=k, tol=0.0, return_info=True)[1].activation_error
            for k in range(1, 6)
        ]
        assert all(b <= a * (1 + 1e-12) for a, b in itertools.pairwise(errors)), family


# ---------------------------------------------------------------- expressions


def test_sums_and_products_and_what_is_given():
    rng = np.random.default_rng(10)
    B = rng.standard_normal((10, 10))
    W = rng.standard_normal((10, 10))
    gain = lo.project(W, lo.Scaled(lo.Dense(B), gain=lo.spec())).gain
    assert np.isclose(gain, (B * W).sum() / (B * B).sum())
    assert np.allclose(dense(lo.project(W, 2 * lo.Dense(lo.spec(10, 10)))), W)
    shifted = lo.project(W, lo.Dense(B) + lo.Diagonal(lo.spec(10)))
    assert np.allclose(dense(shifted), B + np.diag(np.diag(W - B)))
    L, R = rng.standard_normal((10, 4)), rng.standard_normal((3, 10))
    middle = lo.project(W, lo.Dense(L) @ lo.Dense(lo.spec(4, 3)) @ lo.Dense(R))
    assert np.allclose(dense(middle), L @ np.linalg.pinv(L) @ W @ np.linalg.pinv(R) @ R)
    target = lo.low_rank(10, 10, rank=1, allow_dearer=True) + lo.Diagonal(lo.spec(10))
    planted = target.init(seed=2, backend="numpy", dtype="float64")
    found, info = quietly(dense(planted), target, tol=1e-12, max_iterations=5000, return_info=True)
    assert info.weight_error < 1e-4
    assert lo.same_structure(found, planted)


def test_sums_of_kronecker_products_are_van_loan_and_pitsianis():
    rng = np.random.default_rng(11)
    W = rng.standard_normal((6, 8))
    one = lo.Kronecker(lo.Dense(lo.spec(2, 4)), lo.Dense(lo.spec(3, 2)))
    A, info = lo.project(W, one + one, return_info=True)
    s = np.linalg.svd(W.reshape(2, 3, 4, 2).transpose(0, 2, 1, 3).reshape(8, 6), compute_uv=False)
    assert info.is_optimal
    assert np.isclose(np.linalg.norm(W - dense(A)), np.sqrt((s[2:] ** 2).sum()))
    both = lo.project(W, one + one, second_moment=moment(rng, 8), return_info=True)[1]
    assert not both.is_optimal
    assert both.activation_error < 1


def test_uneven_monarch_takes_the_best_of_each_block():
    rng = np.random.default_rng(12)
    W = rng.standard_normal((12, 12))
    target = lo.Permute.axes((3, 4), (1, 0)) @ lo.BlockDiag(lo.spec(3, 4, 4)) @ lo.Permute(rng.permutation(12))
    target = target @ lo.BlockDiag(lo.spec(4, 3, 3))
    A, info = lo.project(W, target, return_info=True)
    planted = target.init(seed=0, backend="numpy", dtype="float64")
    assert info.is_optimal
    assert lo.same_structure(A, planted)
    assert lo.project(dense(planted), target, return_info=True)[1].weight_error < 1e-12
    C = moment(rng, 12)
    assert loss(W - dense(lo.project(W, target, second_moment=C)), C=C) < loss(W - dense(A), C=C)


def test_circulant_in_a_product_is_found():
    target = lo.Circulant(lo.spec(8)) @ lo.Diagonal(lo.spec(8))
    planted = target.init(seed=3, backend="numpy", dtype="float64")
    A, info = lo.project(dense(planted), target, return_info=True)
    assert info.method == "factor by factor"
    assert info.weight_error < 1e-5
    assert lo.same_structure(A, planted)


@pytest.mark.full
def test_triangular_factors_are_found_together():
    W = np.random.default_rng(13).standard_normal((6, 6)) + 4 * np.eye(6)  # which has an LU decomposition
    target = lo.Triangular(lo.spec(6, 6)) @ lo.Triangular(lo.spec(6, 6), lower=False)
    A, info = quietly(W, target, max_iterations=30, return_info=True)
    assert info.weight_error < 0.1
    assert np.isclose(np.linalg.norm(W - dense(A)) / np.linalg.norm(W), info.weight_error)


def test_masks_in_an_output_metric_are_solved_by_columns():
    rng = np.random.default_rng(21)
    W, A = rng.standard_normal((7, 7)), moment(rng, 7)
    found, info = lo.project(W, "lower_triangular", output_metric=A, return_info=True)
    assert info.method == "least squares of columns"
    for j in range(7):
        assert np.allclose(dense(found)[j:, j], np.linalg.solve(A[j:, j:], (A @ W)[j:, j]))


# ---------------------------------------------------------------- norms


def test_inputs_in_batches_are_their_second_moment():
    rng = np.random.default_rng(14)
    W, X = rng.standard_normal((8, 12)), rng.standard_normal((50, 12))
    one = lo.project(W, "low_rank:rank=2", inputs=X)
    for other in (
        lo.project(W, "low_rank:rank=2", inputs=iter([X[:20], X[20:].reshape(5, 6, 12)])),
        lo.project(W, "low_rank:rank=2", second_moment=X.T @ X / 50),
        lo.project(W, "low_rank:rank=2", second_moment=lo.Dense(X.T @ X / 50)),
    ):
        assert np.allclose(dense(one), dense(other))
    moments = lo.Moments(12)
    moments.add(torch.tensor(X))
    assert np.allclose(dense(lo.project(torch.tensor(W), "low_rank:rank=2", inputs=moments)), dense(one))
    assert np.allclose(moments.covariance, np.cov(X.T, bias=True))
    assert moments.count == 50


def test_complex_inputs():
    rng = np.random.default_rng(15)
    W, X = random(rng, 6, 8, is_complex=True), random(rng, 40, 8, is_complex=True)
    A = dense(lo.project(W, "low_rank:rank=2", inputs=X))
    s = np.linalg.svd(W @ X.T, compute_uv=False)
    assert np.isclose(np.linalg.norm((W - A) @ X.T), np.sqrt((s[2:] ** 2).sum()))


def test_cross_moments_take_changed_inputs_into_account():
    rng = np.random.default_rng(16)
    W, X = rng.standard_normal((6, 8)), rng.standard_normal((100, 8))
    changed = X @ (np.eye(8) + 0.3 * rng.standard_normal((8, 8)))
    P = X.T @ changed / 100
    A = dense(lo.project(W, "dense", inputs=changed, cross=P))
    assert np.allclose(changed @ A.T, changed @ np.linalg.lstsq(changed, X @ W.T, rcond=None)[0])
    aware = dense(lo.project(W, "low_rank:rank=2", inputs=changed, cross=P))
    blind = dense(lo.project(W, "low_rank:rank=2", inputs=changed))
    assert np.linalg.norm(X @ W.T - changed @ aware.T) < np.linalg.norm(X @ W.T - changed @ blind.T)


# ---------------------------------------------------------------- balance, operators, stacks


@pytest.mark.parametrize(
    "family", ["low_rank:rank=3", "btt:rank=2", "monarch:blocks=3", "blast:rank=2", "butterfly", "kronecker"]
)
def test_leaves_are_in_balance(family):
    target = lo.families.text.parse(family)(16, 16)
    A = quietly(np.random.default_rng(17).standard_normal((16, 16)), target)
    stds = lo.initial_stds(target)
    ratios = [np.sqrt((leaf**2).mean()) / stds[name] for name, leaf in A.named_leaves()]
    assert np.allclose(ratios, ratios[0])


def test_operators_and_stacks():
    rng = np.random.default_rng(18)
    planted = lo.low_rank(600, 500, rank=3).init(seed=0, backend="numpy", dtype="float64")
    assert lo.allclose(lo.project(planted, "low_rank:rank=3"), planted)
    huge = lo.Kronecker(rng.standard_normal((1000, 1000)), np.ones((100, 1)) @ np.ones((1, 100)))
    with pytest.raises(ValueError, match="is not written out unasked"):
        lo.project(huge, "btt")
    stack = rng.standard_normal((2, 3, 8, 8))
    found = lo.project(stack, "low_rank:rank=2")
    assert len(found) == 6
    X = rng.standard_normal((40, 8))
    for one, W in zip(lo.project(stack, "low_rank:rank=2", inputs=iter([X])), stack.reshape(6, 8, 8)):
        assert np.allclose(dense(one), dense(lo.project(W, "low_rank:rank=2", inputs=X)))
    assert np.allclose(dense(found[4]), dense(lo.project(stack[1, 1], "low_rank:rank=2")))
    assert np.allclose(dense(lo.project(lo.Identity(6), "diagonal")), np.eye(6))


@pytest.mark.full
def test_large_operators_go_to_low_rank_by_products_alone():
    huge = lo.low_rank(6_000, 7_000, rank=5).init(seed=0, backend="numpy", dtype="float64")
    A, info = lo.project(huge, "low_rank:rank=5", return_info=True)
    assert info.weight_error < 1e-7
    x = np.random.default_rng(0).standard_normal((7_000, 2))
    assert np.allclose(A @ x, huge @ x)


@pytest.mark.parametrize("backend", BACKENDS)
def test_inputs_of_little_energy_count_in_single_precision(backend):
    rng, n = np.random.default_rng(21), 300
    left, right = (np.linalg.qr(rng.standard_normal((n, n)))[0] for _ in range(2))
    X = (left * np.arange(1, n + 1) ** -1.0) @ right  # the last inputs have less energy than n times rounding
    W, C = rng.standard_normal((n, n)), X.T @ X
    squares = np.linalg.eigvalsh(W @ C @ W.T)
    single = [made(array.astype("float32"), backend) for array in (W, C)]
    A = lo.project(single[0], "low_rank:rank=60", second_moment=single[1])
    E = W - dense(A)
    assert np.sqrt(np.vdot(E, E @ C)) < 1.0001 * np.sqrt(squares[:-60].sum())


@pytest.mark.parametrize("rank", [0, 5])
@pytest.mark.parametrize("backend", BACKENDS)
def test_an_exhausted_krylov_space(backend, rank):
    rng = np.random.default_rng(22)
    W = rng.standard_normal((900, rank)) @ rng.standard_normal((rank, 700))
    A = lo.project(made(W.astype("float32"), backend), "low_rank:rank=6")
    assert np.linalg.norm(dense(A) - W) <= 1e-5 * np.linalg.norm(W)


@pytest.mark.parametrize("rank", [1, 6, 24])
@pytest.mark.parametrize(
    "spectrum", ["one", "two", "close", "descending", "gaussian", "few", "threes", "nines", "twenties"]
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_krylov_space_of_any_spectrum(backend, spectrum, rank):
    rng, k = np.random.default_rng(23), np.arange(1, 601)
    left, right = (np.linalg.qr(rng.standard_normal((n, 600)))[0] for n in (700, 600))
    values = {
        "one": np.ones(600),
        "two": np.where(k < 40, 2.0, 1.0),  # more equal ones than a block has vectors
        "close": 1 + 1e-3 * rng.random(600),
        "descending": k**-1.0,
        "gaussian": np.linalg.svd(rng.standard_normal((700, 600)))[1],
        "few": np.where(k < 12, 1.0, 0.0),
        "threes": ((k + 2) // 3) ** -1.0,
        "nines": ((k + 8) // 9) ** -0.5,
        "twenties": ((k + 19) // 20) ** -1.0,
    }[spectrum]
    W, values = (left * values) @ right.T, np.sort(values)[::-1]
    A = lo.project(made(W, backend), f"low_rank:rank={rank}")
    best = np.sqrt(np.sum(values[rank:] ** 2))
    assert np.linalg.norm(W - dense(A)) <= (1 + 1e-6) * best + 1e-7 * np.linalg.norm(W)


@pytest.mark.parametrize(
    "family", ["low_rank:rank=2", "btt", "monarch:blocks=2", "kronecker", "toeplitz", "diagonal", "blast:rank=1"]
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_zeros_stay_zeros(family, backend):
    A = lo.project(made(np.zeros((8, 8)), backend), family)
    assert np.array_equal(dense(A), np.zeros((8, 8)))


# ---------------------------------------------------------------- derivatives


@pytest.mark.parametrize(
    "family",
    ["low_rank:rank=2", "btt", "monarch:blocks=2", "kronecker", "toeplitz", "block_diag", "orthogonal", "symmetric"],
)
@pytest.mark.parametrize("moment_", [False, True])
def test_derivatives_of_closed_forms(family, moment_):
    if moment_ and family in ("btt", "monarch:blocks=2", "kronecker", "toeplitz", "block_diag"):
        pytest.skip("iterations have none")
    rng = np.random.default_rng(19)
    W = torch.tensor(rng.standard_normal((8, 8)), requires_grad=True)
    G, C = rng.standard_normal((8, 8)), moment(rng, 8)
    options = {"second_moment": torch.tensor(C)} if moment_ else {}

    def found(W):
        return lo.project(W, family, **options).to_dense()

    assert torch.autograd.gradcheck(lambda W: (found(W) * torch.tensor(G)).sum(), W, rtol=1e-4, atol=1e-6)


@pytest.mark.full
@pytest.mark.parametrize(
    "family", ["low_rank:rank=2", "btt", "monarch:blocks=2", "kronecker", "toeplitz", "orthogonal"]
)
def test_derivatives_in_jax_are_those_in_torch(family):
    moment_ = family == "low_rank:rank=2"
    rng = np.random.default_rng(19)
    W = torch.tensor(rng.standard_normal((8, 8)), requires_grad=True)
    G, C = rng.standard_normal((8, 8)), moment(rng, 8)
    options = {"second_moment": torch.tensor(C)} if moment_ else {}

    def found(W):
        return lo.project(W, family, **options).to_dense()

    there = {"second_moment": jax.numpy.asarray(C)} if moment_ else {}

    @jax.jit
    def value(W):
        return (lo.project(W, family, **there).to_dense() * G).sum()

    gradient = torch.autograd.grad((found(W) * torch.tensor(G)).sum(), W)[0]
    assert np.allclose(jax.grad(value)(jax.numpy.asarray(W.detach().numpy())), gradient, atol=1e-8)


# ---------------------------------------------------------------- bad input


def test_errors_say_what_to_do():
    W = np.ones((6, 8))
    bad = W.copy()
    bad[2, 3] = np.nan
    for args, options, kind, words in (
        ((W, "bttt"), {}, ValueError, "no structure 'bttt'"),
        ((W, "symmetric"), {}, ValueError, "square"),
        ((W, lo.dense(8, 6)), {}, ValueError, "another shape"),
        ((W, 3), {}, TypeError, "no family"),
        ((lo.dense(6, 8), "btt"), {}, TypeError, "symbolic"),
        ((bad, "btt"), {}, ValueError, "NaN or infinity"),
        ((W, "btt"), {"second_moment": np.eye(6)}, ValueError, r"second_moment of shape \(6, 6\), expected \(8, 8\)"),
        ((W, "btt"), {"second_moment": np.full((8, 8), np.inf)}, ValueError, "second_moment holds NaN"),
        ((W, "btt"), {"inputs": np.ones((3, 6))}, ValueError, r"inputs of shape \(3, 6\)"),
        ((W, "btt"), {"inputs": np.full((30, 8), np.nan)}, ValueError, "activations hold NaN"),
        ((W, "btt"), {"inputs": []}, ValueError, "calibration set"),
        ((W, "btt"), {"inputs": np.ones((9, 8)), "second_moment": np.eye(8)}, ValueError, "give one of them"),
        ((W, "btt"), {"row_weights": -np.ones(6)}, ValueError, "negative"),
        ((W, "btt"), {"cross": np.eye(8)}, ValueError, "member's inputs"),
        ((W, "btt"), {"second_moment": -np.eye(8)}, ValueError, "positive semidefinite"),
        ((W, "btt"), {"second_moment": np.ones((8, 8)) - np.eye(8) / 2}, ValueError, "has negative eigenvalues"),
        ((W, "btt"), {"second_moment": np.triu(np.ones((8, 8)))}, ValueError, "must be Hermitian"),
        ((W, lo.Dense(lo.spec(6, 8)) @ lo.DFT(8)), {}, TypeError, "the target is complex; make W complex"),
        ((W, "btt"), {"tol": 2}, ValueError, "tol"),
        ((W, "btt"), {"max_iterations": -1}, ValueError, "max_iterations"),
        ((W, "low_rank:rank=7"), {}, ValueError, "rank"),
    ):
        with pytest.raises(kind, match=words):
            lo.project(*args, **options)


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("butterfly", "'butterfly' of 16×16"),
        (lo.blast, "'blast' of 16×16"),
        (lo.families.text.parse("blast:blocks=2:rank=3"), "'blast:blocks=2:rank=3' of 16×16"),
        (lo.blast(16, 16, blocks=4, rank=3), "BLAST(16×16, 4×4 blocks, rank 3)"),
        (lo.tensor_train(16, 16, rank=1, cores=3), "TensorTrain(16×16"),
    ],
    ids=["name", "family", "text", "BLAST", "operator"],
)
def test_what_has_not_converged_is_a_warning(target, name):
    W = np.random.default_rng(20).standard_normal((16, 16))
    with pytest.warns(UserWarning, match=f"for {re.escape(name)}.* had not converged after 2 iterations"):
        lo.project(W, target, max_iterations=2, tol=0.0)


def test_a_start_that_rounding_alone_is_left_of_stays():
    W = scipy.linalg.hadamard(64) / 8.0
    for backend in ("numpy", "torch"):
        start, found = (
            lo.project(made(W, backend, "float32"), "butterfly", max_iterations=k, return_info=True) for k in (0, 100)
        )
        assert found[1].converged
        assert found[1].iterations == 0
        assert np.array_equal(dense(start[0]), dense(found[0]))


def test_every_family_takes_part():
    assert {*FAMILIES} == {name.partition(":")[0] for name in CLOSED + SEARCHED + SUMS}


def test_blast_of_ranks_beyond_the_sides_of_blocks():
    """Up to the side of a block planted members come back; beyond it few sweeps come near."""
    errors = {}
    for rank in (4, 5):
        target = lo.blast(16, 16, blocks=4, rank=rank, allow_dearer=True)
        W = target.init(seed=0, backend="numpy", dtype="float64").to_dense()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            errors[rank] = lo.project(W, target, return_info=True, max_iterations=20)[1].weight_error
    assert errors[4] < 1e-10
    smaller = lo.project(W, "low_rank:rank=5:allow_dearer=1", return_info=True)[1].weight_error
    assert errors[5] < 0.5 * smaller


@pytest.mark.full
@pytest.mark.parametrize("target", SUMS)
def test_each_term_of_a_sum_is_nearest_to_what_the_other_leaves(target):
    W = np.random.default_rng(21).standard_normal((24, 16))
    A, info = lo.project(W, target, tol=1e-12, max_iterations=2000, return_info=True)
    low, other = A.terms
    left, rest = W - other.to_dense(), W - low.to_dense()
    U, s, Vh = np.linalg.svd(left)
    assert np.allclose(low.to_dense(), U[:, :2] * s[:2] @ Vh[:2], atol=1e-4)
    mask = np.abs(other.to_dense()) > 0
    assert np.allclose(other.to_dense(), np.where(mask, rest, 0), atol=1e-4)
    alone = lo.project(W, "low_rank:rank=2", return_info=True)[1].weight_error
    assert info.weight_error < alone
