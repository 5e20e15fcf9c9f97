"""docs/linalg.md is fresh; and each rule that it lists runs on a case, and gives what dense NumPy gives."""

import re
from collections import defaultdict
from contextlib import contextmanager
from functools import cache

import jax
import numpy as np
import pytest
import scipy.linalg
import torch
from cases import CASES
from cases.limits import names
from helpers import build, on
from jax.test_util import check_grads
from linalg_page import PAGE, functions, page, rules
from test_linalg import SINGULAR, STRUCTURES, _definite, _random, plain

import linops as lo
from linops.linalg import inputs


def test_the_page_is_fresh():
    assert PAGE.read_text(encoding="utf-8") == page(), "stale: python tests/linalg_page.py --write"


def test_reference_and_guide_name_all_there_is():
    reference, guide = (PAGE.with_name(name).read_text(encoding="utf-8") for name in ("reference.md", "linalg.md"))
    members = reference.partition("::: linops.linalg\n")[2].partition("## ")[0]
    assert set(lo.linalg.__all__) == set(re.findall(r"\w+", members.partition("members:")[2]))
    assert sorted(name for name in lo.linalg.__all__ if not re.search(rf"\b{name}\b", guide)) == []


# ---------------------------------------------------------------- which cases there are for a rule


def _hermitian(A):
    return A.is_hermitian is True


def _square(A):
    return A.shape[0] == A.shape[1]


def _definite_one(A):
    return A.is_positive_definite is True


def _positive(A):
    return min(A.shape) > 0


#: which operators a function takes, by its name; square ones where it is not here
TAKES = {
    **dict.fromkeys(("diagonal", "svd", "pinv", "norm", "qr"), _positive),
    **dict.fromkeys(("eigh", "eigvalsh"), _hermitian),
    "cholesky": _definite_one,
}


def _gram(n, dtype):
    """Another positive definite matrix than `_definite`."""
    a = _random(n, n + 3, dtype=dtype)
    return lo.assume(lo.Dense(a @ a.conj().T), lo.Tag.POSITIVE_DEFINITE)


def _train(dtype, more=0):
    """A tensor train, 6×6, of ranks 2 or more."""
    r = 2 + more
    return lo.TensorTrain(
        [_random(1, 2, 3, r, dtype=dtype), _random(r, 3, 1, r, dtype=dtype), _random(r, 1, 2, 1, dtype=dtype)]
    )


#: cases for rules that have none in the tables of other tests
EXTRA = {
    "blocks of several sizes": lambda t: lo.BlockDiag([_random(3, 3, dtype=t), _random(2, 2, dtype=t)]),
    "an inverse": lambda t: lo.linalg.inv(lo.Dense(_random(4, 4, dtype=t))),
    "an inverse transposed": lambda t: lo.linalg.inv(lo.Dense(_random(4, 4, dtype=t))).T,
    "positive definite": lambda t: _definite(4, t),
    "Hermitian Kronecker sum": lambda t: lo.KroneckerSum(_definite(3, t), _definite(2, t)),
    "definite Kronecker": lambda t: lo.Kronecker(_definite(3, t), _gram(2, t)),
    "two Kronecker products, definite": lambda t: (
        lo.Kronecker(_definite(3, t), _definite(2, t)) + lo.Kronecker(_gram(3, t), _gram(2, t))
    ),
    "tensor train of square cores": lambda t: lo.TensorTrain(
        [_random(1, 3, 3, 2, dtype=t), _random(2, 2, 2, 2, dtype=t), _random(2, 2, 2, 1, dtype=t)]
    ),
    "definite blocks": lambda t: lo.assume(
        lo.BlockDiag(np.stack([_definite(3, t).matrix, _gram(3, t).matrix])), lo.Tag.POSITIVE_DEFINITE
    ),
    "definite blocks of several sizes": lambda t: lo.BlockDiag([_definite(3, t), _gram(2, t)]),
    "multiple of definite": lambda t: 2.5 * _definite(3, t),
    "complex multiple of definite": lambda t: (0.5 + 1j) * _definite(3, t),
    "multiple of blocks": lambda t: 2.5 * lo.BlockDiag([_definite(3, t), lo.Dense(np.array([[2, 1], [0, 3]], t))]),
    "blocks with a root": lambda t: lo.BlockDiag([_definite(3, t), lo.Dense(np.array([[2, 1], [0, 3]], t))]),
    "blocks with a root, batched": lambda t: lo.BlockDiag(np.array([[[2, 1], [0, 3]], [[5, 1], [-1, 4]]], t)),
    "Hermitian circulant": lambda t: lo.assume(
        lo.Circulant(np.array([9, 1, 2, 2, 1], t) + (1j * np.array([0, 1, 2, -2, -1]) if "c" in t else 0)),
        lo.Tag.POSITIVE_DEFINITE,
    ),
    "positive diagonal": lambda t: lo.assume(lo.Diagonal(np.array([1, 2, 3], t)), lo.Tag.POSITIVE_DEFINITE),
    "product of diagonals": lambda t: lo.Product(
        (lo.Diagonal(_random(4, dtype=t)), lo.Pad(4, 4), lo.Diagonal(_random(4, dtype=t)))
    ),
    "tall and diagonal": lambda t: lo.Product((lo.Pad(5, 3), lo.Diagonal(_random(3, dtype=t)))),
    "wide toeplitz": lambda t: lo.Toeplitz(_random(3, dtype=t), _random(8, dtype=t)),
    "block of a circulant": lambda t: lo.Circulant(_random(19, dtype=t), 4, 9).T,
    "power of definite": lambda t: _definite(3, t) ** 2,
    "Hermitian low rank": lambda t: (lambda U: lo.LowRank(U, U.T if t == "float64" else U.conj().T))(
        _random(5, 2, dtype=t)
    ),
    "exponential": lambda t: lo.linalg.Exponential(lo.Dense(_random(4, 4, dtype=t))),
    "dense with a root": lambda t: lo.Dense(np.array([[5, 1, 0], [-1, 4, 2], [0, 1, 6]], t)),
    "slice of definite Kronecker": lambda t: lo.Kronecker(_definite(3, t), _gram(2, t))[2:6, 2:6],
    "slice of a triangle": lambda t: lo.Triangular(np.tril(_random(5, 5, dtype=t)) + 3 * np.eye(5, dtype=t))[::2, ::2],
    "sparse beside diagonals": lambda t: (
        lo.Sparse(_random(3, dtype=t), [0, 2, 3], [1, 0, 3], (4, 4))
        + 2 * lo.Diagonal(3 + _random(4, dtype=t))
        + lo.Tridiagonal(_random(3, dtype=t), _random(4, dtype=t), _random(3, dtype=t))
    ),
    "Gram of a circulant, shifted": lambda t: (lambda C: C.T @ C + 0.5 * lo.Identity(5))(
        lo.Circulant(_random(5, dtype=t))
    ),
    "difference of trains": lambda t: _train(t) - 2 * _train(t, 1),
    "product of trains": lambda t: _train(t) @ _train(t, 1).H,
    "definite tridiagonal": lambda t: lo.assume(
        lo.Tridiagonal(_random(4, dtype=t), 6 + 0 * _random(5, dtype=t), _random(4, dtype=t).conj()),
        lo.Tag.POSITIVE_DEFINITE,
    ),
    "diagonal times tridiagonal": lambda t: (
        lo.Diagonal(_random(3, dtype=t)) @ lo.Tridiagonal(_random(2, dtype=t), _random(3, dtype=t), _random(2, dtype=t))
    ),
    "large definite Toeplitz": lambda t: (lambda c: lo.assume(lo.Toeplitz(c, c.conj()), lo.Tag.POSITIVE_DEFINITE))(
        (0.5 + 0.3j if "c" in t else 0.5) ** np.arange(520).astype(t)
    ),
    "narrow chain": lambda t: lo.BlockTensorTrain(
        [_random(2, 2, 4, dtype=t), _random(2, 4, 2, dtype=t)], (2, 4), (2, 4)
    ),
    "narrow butterfly": lambda t: lo.Butterfly([_random(1, 2, 2, 1, dtype=t), _random(2, 1, 1, 2, dtype=t)]),
}


def _made(case):
    return lambda dtype: build(case, dtype)[0]


def _kept(A, dtype):
    return A if dtype == "float64" else A.to(dtype=dtype)


MAKERS = {
    **{f"case {name}": _made(name) for name in CASES if {"numpy", "float64"} <= names(CASES[name])},
    **{f"structure {name}": make for name, (make, _) in STRUCTURES.items()},
    **{f"singular {name}": lambda dtype, make=make: _kept(make(), dtype) for name, make in SINGULAR.items()},
    **EXTRA,
}
ALL = [(function, rule) for function in functions() for rule in rules(function)]


@cache
def found():
    """{(the function's name, the rule's place): the names of operators for which the function takes the rule}."""
    by_rule = defaultdict(list)
    for limit in (inputs.DENSE_LIMIT, 0):  # as if nothing fitted: what runs for large operators
        first = dict(by_rule)
        with limited(limit):
            for name, make in MAKERS.items():
                A = make("float64")
                for function in functions():
                    if (
                        TAKES.get(function.name, _square)(A)
                        and (rule := (function.name, function.find(A))) not in first
                    ):
                        by_rule[rule].append((name, limit))
    return by_rule


@contextmanager
def limited(limit):
    """Another `DENSE_LIMIT`."""
    before, inputs.DENSE_LIMIT = inputs.DENSE_LIMIT, limit
    try:
        yield
    finally:
        inputs.DENSE_LIMIT = before


# ---------------------------------------------------------------- what dense NumPy gives


def inverse(A, M, b):
    if np.linalg.cond(M) > 1e8:
        return None
    return lo.linalg.solve(A, b), np.linalg.solve(M, plain(b))


def slogdet(A, M, b):
    sign, logarithm = lo.linalg.slogdet(A)
    expected, size = np.linalg.slogdet(M)
    if size < -25:
        return (logarithm < -20) * 1.0, np.ones(())
    return plain(sign) * np.exp(plain(logarithm) - size), expected


def eigh(A, M, b):
    values, V = map(dense, lo.linalg.eigh(A))
    np.testing.assert_allclose(values, np.linalg.eigvalsh(M), atol=1e-9)
    np.testing.assert_allclose(V.conj().T @ V, np.eye(len(M)), atol=1e-9)
    return V * values @ V.conj().T, M


def eigenvalues(A, M, b):
    found, expected = plain(lo.linalg.eigvals(A)), np.linalg.eigvals(M)
    worst = np.abs(found[:, None] - expected).min(1, initial=np.inf)
    assert found.shape == expected.shape
    return np.append(worst, found.sum() - expected.sum()), np.zeros(len(M) + 1)  # each is one, and all are there


def eig(A, M, b):
    values, vectors = map(dense, lo.linalg.eig(A))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=0), 1)
    return M @ vectors, vectors * values


def svd(A, M, b):
    U, values, Vh = map(dense, lo.linalg.svd(A))
    np.testing.assert_allclose(U.conj().T @ U, np.eye(len(values)), atol=1e-9)
    np.testing.assert_allclose(Vh @ Vh.conj().T, np.eye(len(values)), atol=1e-9)
    np.testing.assert_allclose(values, np.linalg.svdvals(M)[: len(values)], atol=1e-9)
    np.testing.assert_allclose(plain(lo.linalg.svdvals(A)), np.linalg.svdvals(M), atol=1e-7)
    return U * values @ Vh, M


def norm(A, M, b):
    orders = ("fro", "nuc", 2, -2, 1, -1, np.inf, -np.inf)
    return np.array([plain(lo.linalg.norm(A, ord)) for ord in orders]), np.array([np.linalg.norm(M, o) for o in orders])


def logm(A, M, b):
    try:
        return scipy.linalg.expm(dense(lo.linalg.logm(A))), M
    except (ValueError, lo.linalg.SingularError):  # it is not real, or there is none
        return None


def sqrtm(A, M, b):
    try:
        root = dense(lo.linalg.sqrtm(A))
    except (ValueError, lo.linalg.SingularError):
        return None
    return root @ root, M


def power(A, M, b):
    try:
        root = dense(lo.linalg.matrix_power(A, 1 / 3))
    except (ValueError, lo.linalg.SingularError):
        return None
    return root @ root @ root, M


def cholesky(A, M, b):
    L = dense(lo.linalg.cholesky(A))
    assert not np.triu(L, 1).any()
    return L @ L.conj().T, M


def lu(A, M, b):
    P, L, U = map(dense, lo.linalg.lu(A))
    assert not np.triu(L, 1).any()
    assert not np.tril(U, -1).any()
    np.testing.assert_allclose(P @ P.T, np.eye(len(M)))
    return P @ L @ U, M


def qr(A, M, b):
    Q, R = map(dense, lo.linalg.qr(A))
    np.testing.assert_allclose(Q.conj().T @ Q, np.eye(Q.shape[1]), atol=1e-9)
    np.testing.assert_allclose(np.tril(R, -1), 0, atol=1e-9)
    return Q @ R, M


def dense(found):
    """The array of an operator or array."""
    return plain(found.to_dense() if isinstance(found, lo.LinearOperator) else found)


#: of a function by its name: what it gives, and what it should; None where the numbers tell nothing
DENSE = {
    "inverse": inverse,
    "pinv": lambda A, M, b: (dense(lo.linalg.pinv(A)), np.linalg.pinv(M, rcond=1e-12)),
    "slogdet": slogdet,
    "trace": lambda A, M, b: (lo.linalg.trace(A), np.trace(M)),
    "diagonal": lambda A, M, b: (lo.linalg.diagonal(A), np.diagonal(M)),
    "eigh": eigh,
    "eigvalsh": lambda A, M, b: (lo.linalg.eigvalsh(A), np.linalg.eigvalsh(M)),
    "eig": eig,
    "eigvals": eigenvalues,
    "svd": svd,
    "norm": norm,
    "expm": lambda A, M, b: (dense(lo.linalg.expm(A)), scipy.linalg.expm(M)),
    "logm": logm,
    "sqrtm": sqrtm,
    "matrix_power": power,
    "funm": lambda A, M, b: (dense(lo.linalg.funm(A, lambda z: z * z + 3)), M @ M + 3 * np.eye(len(M))),
    "cholesky": cholesky,
    "lu": lu,
    "qr": qr,
}


def is_right(function, rule, A, b):
    """Whether there is something to compare; an assertion that it is right."""
    M = np.asarray(A.to(backend="numpy").to_dense())
    if (function.name, rule.kind) == ("logm", lo.Zero) or (function.name == "inverse" and rule.says[:4] == "none"):
        with pytest.raises(lo.linalg.SingularError):
            lo.linalg.solve(A, b) if function.name == "inverse" else lo.linalg.logm(A)
        return True
    pair = DENSE[function.name](A, M, b)
    if pair is None:
        return False
    condition = np.linalg.cond(M) if function.name in ("inverse", "slogdet") and len(M) else 1.0
    scale = max(1.0, np.abs(pair[1]).max(initial=0)) * min(condition, 1e8)
    np.testing.assert_allclose(plain(pair[0]), pair[1], rtol=0, atol=1e-10 * scale)
    return True


def _side(A, dtype):
    random = np.random.default_rng(0)
    b = random.standard_normal((A.shape[0], 2))
    return b + 1j * random.standard_normal(b.shape) if dtype == "complex128" or A._is_complex else b


def name_of(value):
    return f"{value[0].name}: {value[1].kind.__name__}: {value[1].says}"


#: (backend, dtype) in which each rule is held against dense NumPy; with -m full in JAX too, which compiles each
PLACES = (("numpy", "float64"), ("numpy", "complex128"), ("torch", "complex128"))


@pytest.mark.parametrize("which", ALL, ids=name_of)
def test_each_rule_is_right(which):
    function, rule = which
    assert found()[function.name, rule], "no case of the tests takes this rule"
    assert "float64" in _right(function, rule, PLACES)


@pytest.mark.full
@pytest.mark.parametrize("which", ALL, ids=name_of)
def test_each_rule_is_right_in_jax(which):
    _right(*which, [("jax", "float64"), ("jax", "complex128")])


def _right(function, rule, places):
    """The backends and dtypes for which some case shows that a rule is right; an assertion that no case is wrong."""
    right = set()
    for name, limit in found()[function.name, rule][:12]:
        for backend, dtype in places:
            if {backend, dtype} <= right:
                continue
            A = MAKERS[name](dtype).to(backend=backend)
            takes = TAKES.get(function.name, _square)(A)
            with limited(limit):
                if takes and function.find(A) == rule and is_right(function, rule, A, on(backend, _side(A, dtype))):
                    right |= {backend, dtype}
    return right


# ---------------------------------------------------------------- derivatives

#: of a function by its name: what is differentiated
SMOOTH = {
    "inverse": lo.linalg.solve,
    "slogdet": lambda A, b: lo.linalg.slogdet(A)[1],
    "trace": lambda A, b: lo.linalg.trace(A),
    "diagonal": lambda A, b: lo.linalg.diagonal(A),
    "pinv": lo.linalg.lstsq,
    "eigh": lambda A, b: lo.linalg.eigh(A)[0],
    "eigvalsh": lambda A, b: lo.linalg.eigvalsh(A),
    "eig": lambda A, b: (lo.linalg.eig(A)[0] ** 3).sum(),
    "eigvals": lambda A, b: (lo.linalg.eigvals(A) ** 3).sum(),
    "svd": lambda A, b: lo.linalg.svdvals(A),
    "norm": lambda A, b: lo.linalg.norm(A, 2) + lo.linalg.norm(A, "fro"),
    "expm": lambda A, b: lo.linalg.expm(A) @ b,
    "logm": lambda A, b: lo.linalg.logm(A) @ b,
    "sqrtm": lambda A, b: lo.linalg.sqrtm(A) @ b,
    "matrix_power": lambda A, b: lo.linalg.matrix_power(A, 1 / 3) @ b,
    "funm": lambda A, b: lo.linalg.funm(A, lambda z: z * z + 3) @ b,
    "cholesky": lambda A, b: lo.linalg.cholesky(A) @ b,
    "lu": lambda A, b: lo.linalg.lu(A)[1] @ (lo.linalg.lu(A)[2] @ b),
    "qr": lambda A, b: lo.linalg.qr(A)[0] @ (lo.linalg.qr(A)[1] @ b[: A.shape[1]]),
}
DIFFERENTIATED = [(function, rule) for function, rule in ALL if not rule.says.startswith(("none", "0"))]


#: what `assume` may say of a case whose leaves are changed: others make no sense then
_DECLARED = lo.Tag.SYMMETRIC | lo.Tag.HERMITIAN | lo.Tag.POSITIVE_SEMIDEFINITE | lo.Tag.POSITIVE_DEFINITE


def _to_differentiate(function, rule, backend):
    """(function of a right-hand side and leaves, they) of the first case of a rule that has arrays and a derivative."""
    random = np.random.default_rng(0)
    for name, limit in found()[function.name, rule]:
        if backend == "jax" and name == "case dft_diagonalizes":  # XLA compiles no eigh of a transform's result on CPUs
            continue
        A = MAKERS[name]("float64")
        arrays = [_side(A, "float64"), *(leaf for _, leaf in A.named_leaves())]
        B, M = A.to(backend=backend), np.asarray(A.to_dense())
        regular = function.name not in ("inverse", "slogdet", "qr") or np.linalg.cond(M) < 1e3
        if len(arrays) > 1 and regular and M.shape[0] >= M.shape[1] and not A.assumed & ~_DECLARED:

            def value(b, *leaves, B=B, limit=limit):
                if B.is_hermitian:
                    leaves = map(_even, leaves)
                with limited(limit):
                    return SMOOTH[function.name](B.with_leaves(list(leaves)), b)

            try:
                with limited(limit):
                    assert function.find(B.with_leaves([leaf + 0 for _, leaf in B.named_leaves()])) == rule
                value(
                    *[on(backend, np.asarray(array + 1e-6 * random.standard_normal(array.shape))) for array in arrays]
                )
            except (AssertionError, ValueError, lo.linalg.SingularError):
                continue  # one array is there twice, there is no real root, or on this backend another rule runs
            return value, arrays
    return None


def _even(leaf):
    """The symmetric part of a square matrix."""
    return (leaf + leaf.mT) / 2 if leaf.ndim >= 2 and leaf.shape[-1] == leaf.shape[-2] else leaf


@pytest.mark.parametrize("which", DIFFERENTIATED, ids=name_of)
def test_each_rule_has_gradients(which):
    made = _to_differentiate(*which, "torch")
    if made is not None:
        value, arrays = made
        tensors = [torch.tensor(array).requires_grad_() for array in arrays]
        assert torch.autograd.gradcheck(value, tensors, fast_mode=True)


@pytest.mark.full
@pytest.mark.parametrize("which", DIFFERENTIATED, ids=name_of)
def test_each_rule_has_gradients_in_jax(which):
    made = _to_differentiate(*which, "jax")
    if made is not None:
        value, arrays = made
        check_grads(jax.jit(value), [on("jax", array) for array in arrays], 1, modes=["rev"])


#: no arrays, or an array twice, or NumPy alone
WITHOUT_GRADIENT = {
    *("eigvalsh: LowRank: those of V U, and zeros", "eigvalsh: LinearOperator: those that eigh finds with vectors"),
    "slogdet: Toeplitz: logarithms of prediction errors, by Levinson's recursion",
    "eigh: Tridiagonal: LAPACK's for tridiagonal matrices",
}


def test_rules_without_a_gradient_test_are_known():
    without = {name_of(which) for which in DIFFERENTIATED if _to_differentiate(*which, "torch") is None}
    constant = ("Identity", "Zero", "Permutation", "Permute", "PermuteAxes", "DFT", "Hadamard", "Scaled: f(c) I")
    assert {name for name in without if not name.split(": ", 1)[1].startswith(constant)} <= WITHOUT_GRADIENT
