"""What an operator of a user's own joins beside the rules: what `freeze` makes of it, and that it is zero."""

from typing import Any

import numpy as np
import pytest

import linops as lo
from linops.freezing import frozen
from linops.plan.step import Step, matmul_step

X = np.random.default_rng(0).standard_normal((8, 3))


@lo.declare
class Gram(lo.LinearOperator):
    """Xᵀ X, as two products."""

    X: Any = lo.tree(axes=2)

    @property
    def shape(self):
        return self.X.shape[1], self.X.shape[1]

    def _columns(self, x):
        return self.X.T @ (self.X @ x)

    def _transpose(self):
        return self

    def _lower(self, batch):
        m, n = self.X.shape
        return matmul_step(1, m, n, batch), matmul_step(1, n, m, batch)


@lo.declare
class Nothing(lo.LinearOperator):
    """Zero, on vectors of one size."""

    size: int
    _is_zero = True

    @property
    def shape(self):
        return self.size, self.size

    def _columns(self, x):
        return 0 * x

    def _transpose(self):
        return self

    def _lower(self, batch):
        return (Step("zeros", f"({self.size}, {batch})", outputs=self.size * batch),)


@frozen.dispatch
def freeze_gram(a: Gram, batch: int):
    return lo.Dense(a.X.T @ a.X) if batch > 2 else a


@pytest.mark.parametrize(
    "around",
    [
        lambda a: a,
        lambda a: lo.BlockDiag([a, lo.DFT(3)]),
        lambda a: lo.Toeplitz(X[:3, 0], X[:3, 1]) @ a,
        lambda a: lo.kron(a, a),
    ],
)
def test_freezing_asks_the_operators_of_users(around):
    A = around(Gram(X))
    assert any(isinstance(node, Gram) for _, node in lo.freeze(A, batch=1)._nodes())
    B = lo.freeze(A, batch=1000)
    assert not any(isinstance(node, Gram) for _, node in B._nodes())
    np.testing.assert_allclose(B.to_dense(), A.to_dense(), atol=1e-12)


def test_the_declared_zero_of_a_user():
    Z, A = Nothing(3), lo.Dense(X[:3])
    assert Z + A is A
    assert A + Z is A
    assert type(Z @ lo.Permute.random(3)) is lo.Zero
    assert type(Z[1:, [2, 0]]) is lo.Zero
    assert Z**5 is Z
    assert type(lo.simplify(lo.kron(lo.Identity(2), Z))) is lo.Zero
    assert type(lo.simplify(lo.BlockDiag([Z, lo.Zero(1, 2)]))) is lo.Zero
    assert lo.simplify(lo.Sum((Z, A, Z))) is A
    grid = lo.Block([[A, Z], [Z, A]])
    assert grid.flops() == 2 * A.flops()
    assert type(lo.simplify(grid)) is lo.BlockDiag
    np.testing.assert_array_equal(grid @ np.ones(6), np.concatenate([A @ np.ones(3)] * 2))


def test_freezing_keeps_what_is_known():
    A = lo.assume(Gram(X), lo.Tag.POSITIVE_DEFINITE)
    assert lo.freeze(A, batch=1000).is_positive_definite


@pytest.mark.parametrize("name", ["_columns", "_rows", "_vector", "_trace", "_transpose", "_conj", "shape"])
@pytest.mark.parametrize("base", [lo.Dense, lo.BlockDiag, lo.Toeplitz, lo.PermuteAxes, Gram])
def test_a_subclass_is_the_same_map(base, name):
    with pytest.raises(TypeError, match=rf"Other is a {base.__name__} with a {name} of its own.*Derive it from"):
        type("Other", (base,), {name: lambda self, x: x})


def test_a_subclass_with_other_words_multiplies_as_its_base():
    @lo.declare
    class Named(lo.BlockDiag):
        name: str = "gate"

        def _detail(self):
            return self.name

    blocks = np.random.default_rng(1).standard_normal((3, 4, 4))
    A = lo.Dense(X.reshape(2, 12)) @ Named(blocks) @ lo.Dense(np.eye(12))
    many = np.random.default_rng(2).standard_normal((12, 1000))
    np.testing.assert_allclose(A @ many, X.reshape(2, 12) @ lo.BlockDiag(blocks).to_dense() @ many, atol=1e-12)
    assert "gate" in repr(Named(blocks))
