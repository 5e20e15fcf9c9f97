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


@pytest.mark.parametrize("which", ALL, ids=name_of)
def test_each_rule_is_right(which):
    function, rule = which
    candidates = found()[function.name, rule]
    assert candidates, "no case of the tests takes this rule"
    right = set()
    for name in candidates[:12]:
        for backend, dtype in (("numpy", "float64"), ("numpy", "complex128"), ("torch", "complex128")):
            A = MAKERS[name](dtype).to(backend=backend)
            if backend not in right or dtype not in right:
                if function.find(A) is rule and is_right(function, rule, A, on(backend, _side(A, dtype))):
                    right |= {backend, dtype}
    assert "float64" in right
