"""Rewrites: `simplify` gives the same operator, never dearer, never of another kind; each rule does what it says; users add theirs."""

import numpy as np
import pytest
from helpers import as_numpy, assert_close, build, every_case
from hypothesis import given
from hypothesis import strategies as st
from test_tags import assert_sound
from test_trees import bound, common, every_field, settings, trees

import linops as lo
from linops.rules.guard import counts, length

random = np.random.default_rng(0)


def array(*shape):
    return random.standard_normal(shape)


def simplified(operator):
    """`simplify`, checked against all that it promises."""
    simple, steps = lo.simplify(operator, return_steps=True)
    assert (simple is operator) == (not steps)
    assert simple.shape == operator.shape
    assert (simple.backend, simple.dtype, simple.device) == (operator.backend, operator.dtype, operator.device)
    assert all(after <= before for after, before in zip(counts(simple), counts(operator)))
    if simple is not operator:
        assert counts(simple) != counts(operator) or length(simple) < length(operator)
    again, none = lo.simplify(simple, return_steps=True)
    assert again is simple
    assert not none
    assert operator.tags.yes in simple.tags.yes
    assert str(steps).count("\n") == len(steps) + 1
    return simple


# ---------------------------------------------------------------- any expression


@every_field
@settings(common, max_examples=150)
@given(data=st.data())
def test_simplified_trees_are_their_matrices(data, dtype):
    operator, matrix = data.draw(trees(dtype))
    simple = simplified(operator)
    for ours, theirs in ((simple, matrix), (simple.T, matrix.T), (simple.H, matrix.conj().T)):
        assert_close(ours.to_dense(), theirs, bound(matrix))
    assert_sound(simple, matrix)


@settings(common, max_examples=60)
@given(data=st.data())
def test_simplified_trees_on_torch(data):
    operator, matrix = data.draw(trees("complex128"))
    assert_close(as_numpy(simplified(operator.to(backend="torch")).to_dense()), matrix, bound(matrix))


@settings(common, max_examples=60)
@given(data=st.data())
def test_symbolic_trees_keep_their_leaves(data):
    operator, _ = data.draw(trees("float64"))
    symbolic = operator._map(lambda leaf: lo.Spec(leaf.shape, leaf.dtype))
    simple = simplified(symbolic)
    theirs = [leaf for _, leaf in symbolic.named_leaves()]
    assert all(any(leaf is other for other in theirs) for _, leaf in simple.named_leaves())


@every_case
@pytest.mark.parametrize("backend", ["numpy", "torch", "jax"])
def test_simplified_cases(case, backend):
    operator, matrix, _ = build(case, "complex128", backend)
    assert_close(as_numpy(simplified(operator).to_dense()), matrix, bound(matrix))
