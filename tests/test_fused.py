"""Fused patterns: what one primitive computes is found however it is written, and users add patterns of their own."""

import numpy as np
import pytest
from helpers import as_numpy, assert_close, on

import linops as lo
from linops import backends
from linops.declaration import declare, remembered, tree
from linops.operators.fused import fuse
from linops.operators.product import Product


@declare
class Blocks(lo.BlockDiag):
    """A subclass that multiplies as its base does."""


def numbers(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape)


def chain(backend, kind, between, after=None):
    """Two block products (4, 32, 8) and (8, 4, 16), a permutation between, and one after."""
    first, second = (kind(on(backend, numbers(*shape))) for shape in ((4, 32, 8), (8, 4, 16)))
    return Product(tuple(factor for factor in (after, second, between, first) if factor is not None))


BETWEEN = {
    "two axes": ((16, 8), (1, 0)),
    "an axis of one": ((16, 1, 8), (2, 1, 0)),
    "an axis in parts": ((4, 4, 8), (2, 0, 1)),
    "both in parts": ((2, 8, 2, 4), (2, 3, 0, 1)),
}
AFTER = {
    "none": (None, 1),
    "two axes": (((8, 4), (1, 0)), 1),
    "with ones": (((1, 8, 1, 4), (3, 0, 2, 1)), 1),
    "of other sizes": (((4, 8), (1, 0)), 2),
}


@pytest.mark.parametrize("backend", ["numpy", "torch", "jax"])
@pytest.mark.parametrize("kind", [lo.BlockDiag, Blocks])
@pytest.mark.parametrize("after", AFTER)
@pytest.mark.parametrize("between", BETWEEN)
def test_two_block_products_are_one_call(monkeypatch, backend, kind, between, after):
    dims, calls = AFTER[after]
    A = chain(backend, kind, lo.Permute.axes(*BETWEEN[between]), None if dims is None else lo.Permute.axes(*dims))
    assert len(A._acts) == calls
    x = numbers(32, 3)
    expected = x
    for factor in A.factors[::-1]:
        expected = as_numpy(factor.to_dense()) @ expected
    found, run = [], backends.crossed_matmul
    monkeypatch.setattr(backends, "crossed_matmul", lambda *arguments: found.append(1) or run(*arguments))
    assert_close(A @ on(backend, x), expected)
    assert found == [1]


@pytest.mark.parametrize(
    "between",
    [
        lo.Permute.axes((8, 16), (1, 0)),
        lo.Permute.axes((16, 2, 4), (1, 0, 2)),
        lo.Permute.random(128, seed=0),
        lo.Identity(128),
    ],
)
def test_what_is_no_pattern_runs_by_itself(between):
    A = chain("numpy", lo.BlockDiag, between)
    assert len(A._acts) == sum(len(part._acts) if isinstance(part, Product) else 1 for part in A._parts) > 1
    x = numbers(32, 3)
    expected = x
    for factor in A.factors[::-1]:
        expected = factor @ expected
    assert_close(A @ x, expected)


def test_a_pattern_of_a_users_own():
    calls = []

    @declare
    class Gate(lo.LinearOperator):
        """Multiplies by a number for each entry, and is fused with a `Gate` after it."""

        numbers: object = tree()

        @remembered
        def shape(self):
            return self.numbers.shape[0], self.numbers.shape[0]

        def _columns(self, x):
            return self.numbers[:, None] * x

    @fuse.dispatch
    def _gates(first: Gate, rest: tuple):
        if not rest or not isinstance(rest[0], Gate):
            return None

        def both(x):
            calls.append(1)
            return (first.numbers * rest[0].numbers)[:, None] * x

        return 2, both

    a, b, c = (numbers(5) + k for k in range(3))
    x = numbers(5, 2)
    A = Product((Gate(a), Gate(b), Gate(c)))
    assert len(A._acts) == 2
    assert_close(A @ x, (a * b * c)[:, None] * x)
    assert calls == [1]
