"""docs/linalg.md is fresh; and each rule that it lists runs on a case, and gives what dense NumPy gives."""

from collections import defaultdict
from functools import cache

import jax
import numpy as np
import pytest
import torch
from cases import CASES
from cases.limits import names
from helpers import build, on
from jax.test_util import check_grads
from linalg_page import PAGE, functions, page, rules
from test_linalg import SINGULAR, STRUCTURES, _definite, _random, plain

import linops as lo


def test_the_page_is_fresh():
    assert PAGE.read_text(encoding="utf-8") == page(), "stale: python tests/linalg_page.py --write"


# ---------------------------------------------------------------- which cases there are for a rule


def _hermitian(A):
    return A.is_hermitian is True


def _square(A):
    return A.shape[0] == A.shape[1]


def _positive(A):
    return min(A.shape) > 0


#: which operators a function takes, by its name; square ones where it is not here
TAKES = {"diagonal": _positive, "eigh": _hermitian}


def _gram(n, dtype):
    """Another positive definite matrix than `_definite`."""
    a = _random(n, n + 3, dtype=dtype)
    return lo.assume(lo.Dense(a @ a.conj().T), lo.Tag.POSITIVE_DEFINITE)


#: cases for rules that have none in the tables of other tests
EXTRA = {
    "blocks of several sizes": lambda t: lo.BlockDiag([_random(3, 3, dtype=t), _random(2, 2, dtype=t)]),
    "an inverse": lambda t: lo.linalg.inv(lo.Dense(_random(4, 4, dtype=t))),
    "an inverse transposed": lambda t: lo.linalg.inv(lo.Dense(_random(4, 4, dtype=t))).T,
    "positive definite": lambda t: _definite(4, t),
    "Hermitian Kronecker sum": lambda t: lo.KroneckerSum(_definite(3, t), _definite(2, t)),
    "two Kronecker products, definite": lambda t: (
        lo.Kronecker(_definite(3, t), _definite(2, t)) + lo.Kronecker(_gram(3, t), _gram(2, t))
    ),
    "tensor train of square cores": lambda t: lo.TensorTrain(
        [_random(1, 3, 3, 2, dtype=t), _random(2, 2, 2, 2, dtype=t), _random(2, 2, 2, 1, dtype=t)]
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
    for name, make in MAKERS.items():
        A = make("float64")
        for function in functions():
            if TAKES.get(function.name, _square)(A):
                by_rule[function.name, function.find(A)].append(name)
    return by_rule


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
    values, vectors = lo.linalg.spectra.eigh_(A)
    np.testing.assert_allclose(np.sort(plain(values)), np.linalg.eigvalsh(M), atol=1e-9)
    V = plain(vectors.to_dense())
    np.testing.assert_allclose(V.conj().T @ V, np.eye(len(M)), atol=1e-9)
    return V * plain(values) @ V.conj().T, M


#: of a function by its name: what it gives, and what it should; None where the numbers tell nothing
DENSE = {
    "inverse": inverse,
    "slogdet": slogdet,
    "trace": lambda A, M, b: (lo.linalg.trace(A), np.trace(M)),
    "diagonal": lambda A, M, b: (lo.linalg.diagonal(A), np.diagonal(M)),
    "eigh": eigh,
}


def is_right(function, rule, A, b):
    """Whether there is something to compare; an assertion that it is right."""
    M = np.asarray(A.to(backend="numpy").to_dense())
    if function.name == "inverse" and rule.says.startswith("none"):
        with pytest.raises(lo.linalg.SingularError):
            lo.linalg.solve(A, b)
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
    for name in found()[function.name, rule][:12]:
        for backend, dtype in places:
            if {backend, dtype} <= right:
                continue
            A = MAKERS[name](dtype).to(backend=backend)
            if function.find(A) == rule and is_right(function, rule, A, on(backend, _side(A, dtype))):
                right |= {backend, dtype}
    return right


# ---------------------------------------------------------------- derivatives

#: of a function by its name: what is differentiated
SMOOTH = {
    "inverse": lo.linalg.solve,
    "slogdet": lambda A, b: lo.linalg.slogdet(A)[1],
    "trace": lambda A, b: lo.linalg.trace(A),
    "diagonal": lambda A, b: lo.linalg.diagonal(A),
    "eigh": lambda A, b: (lo.linalg.spectra.eigh_(A)[0] ** 2).sum(),
}
DIFFERENTIATED = [(function, rule) for function, rule in ALL if not rule.says.startswith(("none", "0"))]


def _to_differentiate(function, rule, backend):
    """(function of a right-hand side and leaves, they) of the first case of a rule that has arrays and an inverse."""
    for name in found()[function.name, rule][:12]:
        A = MAKERS[name]("float64")
        leaves = [leaf for _, leaf in A.named_leaves()]
        M = np.asarray(A.to_dense())
        regular = function.name not in ("inverse", "slogdet") or np.linalg.cond(M) < 1e3
        B = A.to(backend=backend)
        if leaves and regular and function.find(B) == rule and all(map(np.size, leaves)):
            even = A.is_hermitian is True

            def value(b, *leaves, B=B, even=even):
                leaves = [
                    (leaf + leaf.mT) / 2 if even and leaf.ndim >= 2 and leaf.shape[-1] == leaf.shape[-2] else leaf
                    for leaf in leaves
                ]
                return SMOOTH[function.name](B.with_leaves(leaves), b)

            return value, [_side(A, "float64"), *leaves]
    return None


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


def test_rules_without_a_gradient_test_have_no_arrays_or_are_of_numpy():
    without = {rule.kind for function, rule in DIFFERENTIATED if not _to_differentiate(function, rule, "torch")}
    of_numpy = {"Sparse", "Tridiagonal"}
    assert {kind.__name__ for kind in without} - of_numpy <= {
        *("Identity", "Zero", "Permutation", "Permute", "PermuteAxes", "DFT", "Hadamard")
    }
