"""`lo.project` of operators too large to be written out: by products alone, in bounded memory; options by keyword."""

import tracemalloc
import warnings
from functools import partial

import jax
import numpy as np
import pytest
import torch
from test_projection import dense, made

import linops as lo
from linops.linalg import inputs
from linops.projection import panels

#: closed forms by products, and whether they are the optimum
CLOSED = {
    "tensor_train:rank=3": False,
    "kronecker": False,
    "btt:rank=2": True,
    "monarch:blocks=4": True,
    "einsum:rank=2": True,
}


@pytest.fixture
def small(monkeypatch):
    """Whatever has more than 100 entries is too large, and panels hold a few columns."""
    monkeypatch.setattr(inputs, "DENSE_LIMIT", 100)
    monkeypatch.setattr(panels, "PANEL", 5 * 48)


def planted(m, n, backend="numpy", is_complex=False):
    """An operator and its matrix, of descending spectrum."""
    rng = np.random.default_rng(0)
    D, d = rng.standard_normal((m, n)) / np.arange(1, n + 1) ** 2, np.linspace(1, 2, n)
    if is_complex:
        D, d = D * (1 + 0.3j) + 0.1j * rng.standard_normal((m, n)), d * (1 - 0.5j)
    return lo.Dense(made(D, backend)) @ lo.Diagonal(made(d, backend)), D * d


@pytest.mark.parametrize("target", CLOSED)
@pytest.mark.parametrize("shape", [(48, 48), (48, 32), (32, 48)])
@pytest.mark.parametrize("is_complex", [False, True])
def test_as_near_as_of_the_matrix(small, target, shape, is_complex):
    A, W = planted(*shape, is_complex=is_complex)
    found, info = lo.project(A, target, return_info=True)
    best, its = lo.project(W, target, return_info=True)
    assert info.weight_error == pytest.approx(its.weight_error, rel=1e-6, abs=1e-9)
    np.testing.assert_allclose(dense(found), dense(best), atol=1e-5 * np.abs(W).max())
    assert info.is_optimal == CLOSED[target]
    assert info.method == ("SVDs of panels" if CLOSED[target] else "block Krylov space")


@pytest.mark.parametrize("target", ["tensor_train:rank=3:cores=3", "btt:cores=3", "butterfly", "blast:blocks=4:rank=2"])
def test_of_more_leaves_near_to_the_best(small, target):
    A, W = planted(64, 64)
    _, info = lo.project(A, target, return_info=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, best = lo.project(W, target, return_info=True, max_iterations=0)
    assert info.weight_error <= 1.15 * best.weight_error
    assert not info.is_optimal


@pytest.mark.parametrize("backend", ["torch", pytest.param("jax", marks=pytest.mark.full)])
@pytest.mark.parametrize("target", ["tensor_train:rank=3", "btt:rank=2"])
def test_on_other_backends(small, backend, target):
    A, W = planted(48, 32, backend)
    found = lo.project(A, target)
    assert found.backend == backend
    np.testing.assert_allclose(dense(found), dense(lo.project(W, target)), atol=1e-5)


def test_members_come_back(small):
    for target in ("tensor_train:rank=2:cores=3", "kronecker", "btt:rank=2", "monarch:blocks=4", "butterfly"):
        A = lo.families.text.parse(target)(64, 64).init(seed=0, backend="numpy", dtype="float64")
        assert lo.project(A @ lo.Identity(64), target, return_info=True)[1].weight_error < 1e-7, target


def test_ranks_beyond_half(small):
    """A space of so many directions has no room for a second block; all are taken."""
    A, W = planted(64, 64, is_complex=True)
    for target in ("tensor_train:rank=40:allow_dearer=1", "low_rank:rank=40:allow_dearer=1"):
        errors = [lo.project(one, target, return_info=True)[1].weight_error for one in (A, W)]
        assert errors[0] == pytest.approx(errors[1], rel=1e-6)


def test_what_is_not_found_by_products_says_so(small):
    A, _ = planted(48, 48)
    for target in ("symmetric", "orthogonal", "permutation"):
        with pytest.raises(ValueError, match="not written out unasked; low_rank takes a few products, and up to"):
            lo.project(A, target)


@pytest.mark.full
def test_memory():
    """A sum of Kronecker products, 512 MiB as a matrix."""
    rng, (a, b) = np.random.default_rng(0), (64, 128)
    W = lo.Kronecker(rng.standard_normal((a, a)), rng.standard_normal((b, b)))
    W = W + 0.1 * lo.Kronecker(rng.standard_normal((a, a)), rng.standard_normal((b, b)))
    lo.project(np.eye(8), "btt")
    tracemalloc.start()
    try:
        found = lo.project(W, lo.tensor_train(a * b, a * b, rank=2, out_dims=(a, b), in_dims=(a, b)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 256 * 2**20
    x = rng.standard_normal((a * b, 4))
    np.testing.assert_allclose(found @ x, W @ x, rtol=1e-8, atol=1e-8 * np.abs(W @ x).max())


# ---------------------------------------------------------------- options by keyword


def test_options_of_families_by_keyword():
    W = np.random.default_rng(0).standard_normal((16, 16))
    best = lo.project(W, "btt:rank=2")
    for target, options in (
        ("btt", {"rank": 2}),
        (lo.btt, {"rank": 2}),
        (partial(lo.btt, rank=2), {"cores": 2}),
        ("btt:cores=2", {"rank": 2}),
        (lambda m, n, rank: lo.btt(m, n, rank=rank), {"rank": 2}),
        (lambda m, n, **more: lo.btt(m, n, **more), {"rank": 2}),
    ):
        assert lo.allclose(lo.project(W, target, **options), best)
    A = lo.low_rank(16, 16, rank=2).init(seed=0)
    assert lo.convert(A, "btt", rank=2).ranks == (2,)
    assert [one.ranks for one in lo.project(np.stack([W, W]), "btt", rank=2)] == [(2,), (2,)]


@pytest.mark.parametrize(
    ("target", "options", "match"),
    [
        ("btt", {"rnak": 2}, "neither project nor btt takes 'rnak'; options of btt are rank, cores"),
        (lo.btt, {"second_momment": 2}, "neither project nor btt takes 'second_momment'"),
        ("btt:rank=2", {"rank": 2}, r"project\(…, 'btt:rank=2', rank=…\): the option is given twice"),
        ("symmetric", {"rank": 2}, "project takes no 'rank', and 'symmetric' is no family"),
        ("nothing", {"rank": 2}, "project takes no 'rank', and 'nothing' is no family"),
        (lo.btt(16, 16), {"rank": 2}, "project takes no 'rank', and the target is no family"),
        (lo.Dense, {"rank": 2}, "project takes no 'rank', and the target is no family"),
        (3, {"rank": 2}, "project takes no 'rank', and the target is no family"),
    ],
    ids=["misspelt", "of project", "twice", "special", "no name", "operator", "class", "number"],
)
def test_options_that_there_are_not(target, options, match):
    with pytest.raises(TypeError, match=match):
        lo.project(np.eye(16), target, **options)


@pytest.mark.full
def test_what_is_streamed_keeps_its_dtype(small):
    for dtype in (torch.float32, torch.bfloat16):
        A, _ = planted(48, 32, "torch")
        assert lo.project(A.to(dtype=dtype), "btt").dtype == dtype
    A, _ = planted(48, 32, "jax")
    assert isinstance(lo.project(A.to(dtype="float32"), "btt").cores[0], jax.Array)
