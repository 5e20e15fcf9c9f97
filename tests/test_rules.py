"""Rewrites: `simplify` gives the same operator, never dearer or of another kind; each rule works; users add some."""

import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from helpers import as_numpy, assert_close, build, every_case
from hypothesis import given
from hypothesis import strategies as st
from test_tags import assert_sound
from test_trees import bound, common, every_field, settings, trees

import linops as lo
from linops import backends
from linops.operator import flat
from linops.plan import Step
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


# ---------------------------------------------------------------- each rule


def kinds(operator):
    """The kinds of operators in an expression, as text."""
    below = [kinds(child) for _, child in operator._children() if isinstance(child, lo.LinearOperator)]
    name = type(operator).__name__
    return f"{name}({', '.join(below)})" if below else name


def dense(m, n):
    return lo.Dense(array(m, n))


def diagonal(n):
    return lo.Diagonal(array(n))


def unitary(n):
    return lo.assume(lo.Dense(np.linalg.qr(array(n, n))[0]), lo.Tag.ORTHOGONAL)


def tridiagonal(n):
    return lo.Tridiagonal(array(n - 1), array(n), array(n - 1))


def sparse(m, n):
    return lo.Sparse(array(5), random.integers(m, size=5), random.integers(n, size=5), (m, n))


AXES = lo.Permute.axes((2, 3), (1, 0))
INDICES = lo.Permute.random(6, seed=1)
LOW, OTHER = lo.LowRank(array(7, 1), array(1, 8)), lo.LowRank(array(7, 2), array(2, 8))
BIG, BLOCKS, UNITARY = dense(6, 6), lo.BlockDiag(array(3, 2, 4)), unitary(6)
KRON = lo.kron(array(2, 3), array(3, 2))
#: structures of size 16 that nothing makes cheaper
TRAIN, TENSORS = (
    lo.btt(16, 16).init(seed=0, dtype="float64"),
    lo.tensor_train(16, 16, rank=2).init(seed=0, dtype="float64"),
)
VIEW = lo.Permute.axes((4, 4), (1, 0))

CIRC, TOEP, TRI = lo.Circulant(array(8)), lo.Toeplitz(array(7), array(9)), lo.Triangular(array(6, 6))
REFLECTION, REFLECTIONS = lo.Householder(array(6)), lo.Householder(array(2, 6))
SPARSE = sparse(7, 9)

#: name: (operator, the kinds of what it becomes)
RULES = {
    # permutations
    "axes in axes": (AXES @ lo.Permute.axes((3, 2), (1, 0)), "Identity"),
    "indices in axes": (INDICES @ AXES, "Permute"),
    "axes in indices": (AXES @ INDICES @ AXES.T, "Permute"),
    "axes that stay": (lo.Permute.axes((2, 3), (0, 1)), "Identity"),
    "axes that join": (lo.Permute.axes((2, 1, 3, 2), (2, 3, 1, 0)), "PermuteAxes"),
    "diagonal between permutations": (INDICES @ diagonal(6) @ INDICES.T, "Diagonal"),
    "diagonal between other permutations": (
        INDICES @ diagonal(6) @ lo.Permute.random(6, seed=2),
        "Product(Diagonal, Permute)",
    ),
    "diagonals around a permutation": (diagonal(6) @ AXES @ diagonal(6), "Product(PermuteAxes, Diagonal)"),
    "diagonals around, and a permutation": (INDICES @ diagonal(6) @ AXES @ diagonal(6), "Product(Permute, Diagonal)"),
    "pads": (lo.Pad(3, 5) @ lo.Pad(5, 4), "Pad"),
    "pads that crop": (lo.Pad(5, 3) @ lo.Pad(3, 5), "Product(Pad, Pad)"),
    "pad of one size": (lo.Pad(3, 3), "Identity"),
    "crop of a matrix": (lo.Pad(3, 6) @ BIG, "Dense"),
    "padding of a matrix": (lo.Pad(9, 6) @ BIG, "Product(Pad, Dense)"),
    # diagonals
    "diagonals": (diagonal(6) @ diagonal(6) @ diagonal(6), "Diagonal"),
    "diagonal and matrix": (diagonal(6) @ BIG @ diagonal(6), "Dense"),
    "diagonal and blocks": (diagonal(6) @ BLOCKS @ diagonal(12), "BlockDiag"),
    "diagonal and list of blocks": (
        diagonal(6) @ lo.BlockDiag([dense(2, 3), lo.LowRank(array(4, 1), array(1, 3))]),
        "DirectSum(Dense, LowRank)",
    ),
    "diagonal and a block that cannot": (
        diagonal(8) @ lo.BlockDiag([dense(2, 3), KRON]),
        "Product(Diagonal, DirectSum(Dense, Kronecker(Dense, Dense)))",
    ),
    "diagonal and low rank": (diagonal(7) @ LOW @ diagonal(8), "LowRank"),
    "diagonal and block train": (diagonal(16) @ TRAIN @ diagonal(16), "BlockTensorTrain"),
    "diagonal and a matrix left": (dense(2, 6) @ diagonal(6), "Dense"),
    # blocks
    "blocks": (lo.BlockDiag(array(3, 2, 4)) @ lo.BlockDiag(array(3, 4, 2)), "BlockDiag"),
    "blocks that grow": (lo.BlockDiag(array(3, 4, 1)) @ lo.BlockDiag(array(3, 1, 4)), "Product(BlockDiag, BlockDiag)"),
    "blocks that do not fit": (
        lo.BlockDiag(array(20, 3, 2)) @ lo.BlockDiag(array(10, 4, 6)),
        "Product(BlockDiag, BlockDiag)",
    ),
    "lists of blocks": (
        lo.BlockDiag([dense(2, 3), diagonal(4)]) @ lo.BlockDiag([dense(3, 2), diagonal(4)]),
        "DirectSum(Dense, Diagonal)",
    ),
    "lists of blocks that stay": (
        lo.BlockDiag([AXES, TRAIN]) @ lo.BlockDiag([AXES.T, TENSORS]),
        "DirectSum(Identity, Product(BlockTensorTrain, TensorTrain))",
    ),
    "list of matrices": (lo.BlockDiag([dense(2, 3), dense(2, 3), lo.BlockDiag(array(2, 2, 3))]), "BlockDiag"),
    "list of diagonals": (lo.BlockDiag([diagonal(2), diagonal(3)]), "Diagonal"),
    "list in a list": (
        lo.BlockDiag([lo.BlockDiag([KRON, diagonal(2)]), AXES]),
        "DirectSum(Kronecker(Dense, Dense), Diagonal, PermuteAxes)",
    ),
    "list of identities": (lo.BlockDiag([lo.Identity(2), lo.Identity(3)]), "Identity"),
    "list of zeros": (lo.BlockDiag([lo.Zero(2, 1), lo.Zero(3, 3)]), "Zero"),
    "one block": (lo.BlockDiag(array(1, 3, 4)), "Dense"),
    "blocks of size 1": (lo.BlockDiag(array(4, 1, 1)), "Diagonal"),
    # matrices
    "matrices": (dense(4, 6) @ dense(6, 5) @ dense(5, 3), "Dense"),
    "outer product": (dense(9, 2) @ dense(2, 9), "Product(Dense, Dense)"),
    "matrix and anything": (dense(3, 16) @ TRAIN @ VIEW, "Dense"),
    "low rank and matrix": (LOW @ dense(8, 8), "LowRank"),
    "low ranks": (LOW @ OTHER.T, "LowRank"),
    "low rank that is none": (lo.LowRank(array(3, 3), array(3, 3)), "Dense"),
    "train of one core": (lo.TensorTrain([array(1, 3, 4, 1)]), "Dense"),
    "orthogonal": (diagonal(6) @ UNITARY @ UNITARY.H, "Diagonal"),
    "orthogonal product": (
        diagonal(6) @ lo.Product((TURN := lo.assume(diagonal(6) @ AXES, lo.Tag.ORTHOGONAL), TURN.H)),
        "Diagonal",
    ),
    "orthogonal alone": (lo.Product((UNITARY, UNITARY.H)), "Scaled(Identity)"),
    # Kronecker products
    "Kroneckers": (KRON @ KRON.T, "Kronecker(Dense, Dense)"),
    "Kroneckers in groups": (
        lo.kron(array(2, 2), array(2, 2), array(2, 2)) @ lo.kron(array(2, 2), lo.Diagonal(array(4))),
        "Kronecker(Dense, Product(Kronecker(Dense, Dense), Diagonal))",
    ),
    "Kroneckers that fit in part": (
        lo.kron(array(3, 3), AXES) @ lo.kron(array(3, 3), array(2, 2), array(3, 3)),
        "Kronecker(Dense, Product(PermuteAxes, Kronecker(Dense, Dense)))",
    ),
    "Kroneckers that do not fit": (
        lo.kron(array(7, 3), array(5, 4)) @ lo.kron(array(4, 5), array(3, 7)),
        "Product(Kronecker(Dense, Dense), Kronecker(Dense, Dense))",
    ),
    "Kroneckers that would be dearer": (
        lo.kron(array(9, 1), array(9, 1)) @ lo.kron(array(1, 9), array(1, 9)),
        "Product(Kronecker(Dense, Dense), Kronecker(Dense, Dense))",
    ),
    "Kronecker in Kronecker": (lo.Kronecker(KRON, lo.Kronecker([dense(2, 2)])), "Kronecker(Dense, Dense, Dense)"),
    "Kronecker of identities": (lo.kron(lo.Identity(2), lo.Identity(3), dense(2, 2)), "Kronecker(Identity, Dense)"),
    "Kronecker of identities and axes": (lo.kron(lo.Identity(2), AXES, lo.Identity(2), AXES), "PermuteAxes"),
    "Kronecker of indices": (lo.kron(lo.Identity(2), INDICES, AXES), "Permute"),
    "Kronecker with zero": (lo.kron(lo.Zero(2, 2), lo.Identity(2)), "Zero"),
    "Kronecker with zero and a matrix": (lo.kron(lo.Zero(2, 2), dense(2, 2)), "Kronecker(Zero, Dense)"),
    "Kronecker of numbers": (lo.kron(dense(1, 1), dense(2, 3)), "Dense"),
    "Kronecker of small diagonals": (lo.kron(diagonal(2), diagonal(2)), "Diagonal"),
    "Kronecker of diagonals": (lo.kron(diagonal(3), diagonal(3)), "Kronecker(Diagonal, Diagonal)"),
    # scalars
    "number and matrix": (2 * BIG, "Dense"),
    "number and product": (2 * (dense(9, 2) @ dense(2, 9)), "Product(Dense, Dense)"),
    "number and train": (2 * TRAIN, "BlockTensorTrain"),
    "number and tensor train": (2 * lo.TensorTrain([array(1, 4, 4, 1), array(1, 4, 4, 1)]), "TensorTrain"),
    "number and Kronecker": (2 * lo.kron(AXES, array(2, 2)), "Kronecker(PermuteAxes, Dense)"),
    "number and low rank": (2 * LOW, "LowRank"),
    "number and sum": (2 * (TRAIN + TENSORS), "Sum(BlockTensorTrain, TensorTrain)"),
    "number and sum with a permutation": (2 * (TRAIN + VIEW), "Scaled(Sum(BlockTensorTrain, PermuteAxes))"),
    "number and list of blocks": (
        2 * lo.BlockDiag([KRON, diagonal(2)]),
        "DirectSum(Kronecker(Dense, Dense), Diagonal)",
    ),
    "number and permutation": (2 * AXES, "Scaled(PermuteAxes)"),
    "gain": (np.array(2.0) * (3 * BIG), "Dense"),
    "gains": (np.array(2.0) * (np.array(3.0) * AXES), "Scaled(PermuteAxes)"),
    "complex number and real matrix": (1j * BIG, "Scaled(Dense)"),
    "numbers in Kronecker": (lo.kron(2 * AXES, 3 * AXES), "Scaled(PermuteAxes)"),
    # sums
    "matrices in a sum": (BIG + BIG - dense(6, 6), "Dense"),
    "anything and a matrix": (KRON + BIG + lo.Identity(6) - INDICES, "Dense"),
    "diagonals in a sum": (diagonal(6) + 2 * lo.Identity(6) - diagonal(6) + lo.Identity(6), "Diagonal"),
    "blocks in a sum": (
        lo.BlockDiag(array(3, 2, 2)) + lo.Identity(6) - diagonal(6) + lo.BlockDiag(array(3, 2, 2)),
        "BlockDiag",
    ),
    "identity and blocks": (3 * lo.Identity(6) + lo.BlockDiag(array(3, 2, 2)), "BlockDiag"),
    "lists of blocks in a sum": (
        lo.BlockDiag([dense(2, 3), diagonal(2)]) + lo.BlockDiag([dense(2, 3), lo.Identity(2)]),
        "DirectSum(Dense, Diagonal)",
    ),
    "low rank in a sum": (LOW + OTHER, "LowRank"),
    "low rank and diagonal": (lo.LowRank(array(6, 1), array(1, 6)) + diagonal(6), "Sum(LowRank, Diagonal)"),
    "equal terms": (TRAIN + TRAIN + np.array(1.0) * lo.Identity(16), "Sum(BlockTensorTrain, Scaled(Identity))"),
    "multiples of equal terms": (2 * TRAIN - 3 * TRAIN + TENSORS, "Sum(BlockTensorTrain, TensorTrain)"),
    "equal permutations": (AXES - 3 * AXES, "Scaled(PermuteAxes)"),
    "opposite terms": (AXES - AXES, "Scaled(PermuteAxes)"),
    "common factor on the left": (
        VIEW @ TRAIN + VIEW @ TENSORS,
        "Product(PermuteAxes, Sum(BlockTensorTrain, TensorTrain))",
    ),
    "common factor on the right": (
        TENSORS @ TRAIN + VIEW @ TRAIN,
        "Product(Sum(TensorTrain, PermuteAxes), BlockTensorTrain)",
    ),
    "Kroneckers in a sum": (lo.kron(BIG, AXES) + lo.kron(BIG, INDICES), "Kronecker(Dense, Sum(PermuteAxes, Permute))"),
    "multiples of one number": (2 * AXES + 2 * INDICES, "Scaled(Sum(PermuteAxes, Permute))"),
    "zeros in a sum": (lo.Sum((lo.Zero(6, 6), AXES, lo.Zero(6, 6))), "PermuteAxes"),
    "zeros alone in a sum": (lo.Sum((lo.Zero(6, 6), lo.Zero(6, 6))), "Zero"),
    "sum in a sum": (
        lo.Sum((lo.Sum((AXES, diagonal(6))), KRON)),
        "Sum(PermuteAxes, Diagonal, Kronecker(Dense, Dense))",
    ),
    # powers
    "power of a matrix": (BIG**5, "Dense"),
    "power of a diagonal": (diagonal(6) ** 4, "Diagonal"),
    "power of a permutation": (INDICES**3, "Permute"),
    "power of axes": (AXES**3, "Power(PermuteAxes)"),
    "power of its own inverse": (lo.Permute.axes((3, 3), (1, 0)) ** 4, "Identity"),
    "power of a multiple": ((2 * AXES) ** 3, "Scaled(Power(PermuteAxes))"),
    "power of a power": (lo.Power(lo.Power(AXES, 3), 2), "Power(PermuteAxes)"),
    "power of blocks": (lo.BlockDiag(array(3, 2, 2)) ** 3, "BlockDiag"),
    # products
    "identity": (lo.Product((lo.Identity(6), AXES, lo.Identity(6))), "PermuteAxes"),
    "identities": (lo.Product((lo.Identity(6), lo.Identity(6))), "Identity"),
    "zero": (lo.Product((AXES, lo.Zero(6, 6))), "Zero"),
    "zero and a matrix": (lo.Zero(9, 2) @ dense(2, 9), "Product(Zero, Dense)"),
    "product in a product": (
        lo.Product((lo.Product((VIEW, TRAIN)), TENSORS)),
        "Product(PermuteAxes, BlockTensorTrain, TensorTrain)",
    ),
    "assumed product in a product": (
        lo.assume(TRAIN @ TENSORS, lo.Tag.INVERTIBLE) @ VIEW,
        "Product(BlockTensorTrain, TensorTrain, PermuteAxes)",
    ),
    "small structure": (lo.monarch(6, 6, blocks=2).init(seed=0, dtype="float64"), "Dense"),
    # fast transforms
    "circulants": (CIRC @ lo.Circulant(array(8)) @ CIRC.T, "Circulant"),
    "transposed circulants": (CIRC.T @ lo.Circulant(array(8)).T, "Circulant"),
    "circulants of a slow length": (lo.Circulant(array(17)) @ lo.Circulant(array(17)).T, "Circulant"),
    "blocks of circulants": (lo.Circulant(array(8), 6, 8) @ CIRC, "Product(Circulant, Circulant)"),
    "power of a circulant": (CIRC**3, "Circulant"),
    "circulants in a sum": (CIRC + 2 * lo.Identity(8) - 3 * lo.Circulant(array(8)).T + lo.Identity(8), "Circulant"),
    "blocks of circulants in a sum": (lo.Circulant(array(8), 4, 7) + lo.Circulant(array(8), 4, 7), "Circulant"),
    "other blocks of circulants in a sum": (
        lo.Circulant(array(8), 4, 7) + lo.Circulant(array(8), 7, 4).T,
        "Sum(Circulant, Circulant)",
    ),
    "part of a circulant": (CIRC[2:5, 2:7], "Circulant"),
    "part of a transposed circulant": (CIRC.T[2:5, 2:7], "Circulant"),
    "other part of a circulant": (CIRC[2:7, 1:6], "Sliced(Circulant)"),
    "Toeplitz in a sum": (TOEP - 2 * lo.Toeplitz(array(7), array(9)), "Toeplitz"),
    "Toeplitz and a transpose in a sum": (TOEP + lo.Toeplitz(array(9), array(7)).T, "Toeplitz"),
    "transposed Toeplitz in a sum": (TOEP.T + lo.Toeplitz(array(9), array(7)), "Toeplitz"),
    "Toeplitz and identity": (3 * lo.Identity(9) + lo.Toeplitz(array(9), array(9)) - lo.Identity(9), "Toeplitz"),
    "Hadamard twice": (lo.Hadamard(8) @ lo.Hadamard(8), "Scaled(Identity)"),
    "Hadamard twice, and a matrix": (lo.Hadamard(8) @ lo.Hadamard(8) @ dense(8, 2), "Dense"),
    "Fourier transform and its adjoint": (lo.DFT(6).H @ lo.DFT(6), "Scaled(Identity)"),
    "Fourier transform of two norms": (lo.DFT(6, "ortho") @ lo.DFT(6).conj(), "Scaled(Identity)"),
    "unitary Fourier transform and its adjoint": (lo.DFT(6, "ortho") @ lo.DFT(6, "ortho").H, "Scaled(Identity)"),
    "Fourier transforms beside complex numbers": (lo.DFT(6).H @ lo.DFT(6) @ lo.Diagonal(1j * array(6)), "Diagonal"),
    "Fourier transforms beside real numbers": (
        lo.DFT(6, "ortho").H @ lo.DFT(6, "ortho") @ diagonal(6),
        "Scaled(Diagonal)",
    ),
    "Fourier transform twice": (lo.DFT(6) @ lo.DFT(6), "Product(DFT, DFT)"),
    # triangles and reflections
    "triangles": (TRI @ (2 * TRI) + TRI, "Dense"),
    "triangles of two sides": (TRI @ TRI.T, "Dense"),
    "diagonal and triangle": (diagonal(6) @ TRI @ diagonal(6), "Dense"),
    "diagonal and tridiagonal": (diagonal(6) @ tridiagonal(6) @ diagonal(6), "Tridiagonal"),
    "tridiagonals in a sum": (tridiagonal(6) - 2 * tridiagonal(6) + diagonal(6) - 3 * lo.Identity(6), "Tridiagonal"),
    "identity and tridiagonal": (diagonal(6) + (2 * lo.Identity(6) + tridiagonal(6)), "Tridiagonal"),
    "tridiagonals": (tridiagonal(6) @ tridiagonal(6), "Product(Tridiagonal, Tridiagonal)"),
    "reflection twice": (REFLECTION @ REFLECTION @ diagonal(6), "Diagonal"),
    "reflection twice alone": (REFLECTION @ REFLECTION, "Scaled(Identity)"),
    "reflections and their adjoint": (diagonal(6) @ REFLECTIONS.H @ REFLECTIONS, "Diagonal"),
    "complex reflection twice": ((UNREAL := lo.Householder(array(6) + 1j * array(6))) @ UNREAL, "Scaled(Identity)"),
    "complex reflections and their adjoint": (
        (UNREALS := lo.Householder(array(2, 6) + 1j * array(2, 6))) @ UNREALS.H @ lo.Diagonal(1j * array(6)),
        "Diagonal",
    ),
    "one reflection in a row": (lo.Householder(array(1, 6)), "Householder"),
    "reflections and others": (REFLECTIONS @ REFLECTIONS, "Product(Householder, Householder)"),
    "power of a reflection": (REFLECTION**2, "Scaled(Identity)"),
    # grids, Kronecker sums, slices, few entries
    "grid of one block": (lo.Block([[TRAIN]]), "BlockTensorTrain"),
    "grid of zeros": (lo.Block([[lo.Zero(2, 3), lo.Zero(2, 1)]]), "Zero"),
    "grid with blocks on its diagonal": (
        lo.Block([[KRON, None], [None, diagonal(2)]]),
        "DirectSum(Kronecker(Dense, Dense), Diagonal)",
    ),
    "number and grid": (
        2 * lo.Block([[KRON, diagonal(6)], [None, CIRC[:6, :6]]]),
        "Block(Kronecker(Dense, Dense), Diagonal, Zero, Circulant)",
    ),
    "grids in a sum": (
        lo.vstack(VIEW, TRAIN) + lo.vstack(VIEW, TENSORS),
        "Block(Scaled(PermuteAxes), Sum(BlockTensorTrain, TensorTrain))",
    ),
    "grids that differ": (
        lo.hstack(VIEW, TRAIN) + lo.hstack(lo.Zero(16, 20), VIEW[:, :12]),
        "Sum(Block(PermuteAxes, BlockTensorTrain), Block(Zero, Sliced(PermuteAxes)))",
    ),
    "Kronecker sum of one": (lo.KroneckerSum(TRAIN), "BlockTensorTrain"),
    "Kronecker sum of identities": (lo.KroneckerSum(lo.Identity(2), lo.Identity(3)), "Scaled(Identity)"),
    "Kronecker sums in a sum": (
        lo.KroneckerSum(BIG, VIEW) + lo.KroneckerSum(dense(6, 6), VIEW),
        "KroneckerSum(Dense, Scaled(PermuteAxes))",
    ),
    "part of a matrix": (BIG[1:5:2, [3, 1]], "Dense"),
    "more than a matrix": (BIG[[0, 0, 1, 2, 3, 4, 5]], "Selected(Dense)"),
    "part of a diagonal": (diagonal(6)[1::2, 1::2], "Diagonal"),
    "part of a multiple": ((2 * VIEW)[2:5], "Scaled(Sliced(PermuteAxes))"),
    "diagonal and few entries": (2 * diagonal(7) @ sparse(7, 9) @ diagonal(9), "Sparse"),
    "few entries in a sum": (sparse(7, 9) - 2 * sparse(7, 9), "Sparse"),
    "few entries at the same positions": (SPARSE @ diagonal(9) + SPARSE, "Sparse"),
    # nothing
    "families": (
        lo.monarch(64, 64).init(seed=0, dtype="float64"),
        "Product(PermuteAxes, BlockDiag, PermuteAxes, BlockDiag)",
    ),
    "matrix": (BIG, "Dense"),
    "integers": (lo.Dense(np.ones((2, 2), np.int8)) @ lo.Dense(np.ones((2, 2), np.int8)), "Product(Dense, Dense)"),
}


@pytest.mark.parametrize("name", RULES)
def test_rule(name):
    operator, expected = RULES[name]
    simple = simplified(operator)
    assert kinds(simple) == expected
    matrix = np.asarray(operator)
    assert_close(np.asarray(simple), matrix, bound(matrix))


@pytest.mark.parametrize("backend", ["numpy", "torch", "jax"])
@pytest.mark.parametrize("name", list(RULES)[list(RULES).index("circulants") : list(RULES).index("families")])
def test_rule_on_complex_numbers(name, backend):
    operator, expected = RULES[name]
    leaves: dict[int, Any] = {}  # what is shared stays so
    operator = operator._map(
        lambda leaf: leaves.setdefault(id(leaf), backends.asarray(leaf + 1j * array(*leaf.shape), backend))
    )
    operator = operator.to(backend=backend)
    simple = simplified(operator)
    if "adjoint" not in name and "real" not in name:  # they are no adjoints any more, or not beside real numbers
        assert kinds(simple) == expected
    matrix = as_numpy(operator.to_dense())
    assert_close(as_numpy(simple.to_dense()), matrix, bound(matrix))


# ---------------------------------------------------------------- composing merges no arrays


def test_composing_keeps_the_leaves():
    operator = (
        lo.kron(dense(3, 2) @ diagonal(2), 2 * dense(2, 2)) + (diagonal(6) @ diagonal(6)) @ dense(6, 4) - dense(6, 4)
    )
    assert operator.num_params == 6 + 2 + 4 + 6 + 6 + 24 + 24
    symbolic = lo.Diagonal(lo.spec(4)) @ lo.Diagonal(lo.spec(4)) + lo.dense(4, 4)
    assert lo.simplify(symbolic) is symbolic


def test_symbolic_circulants_and_transforms_keep_their_leaf():
    circulant = lo.Circulant(lo.spec(8))
    simple = simplified(lo.Hadamard(4) @ lo.Hadamard(4) @ lo.Block([[circulant[2:6, 2:8]]]))
    assert kinds(simple) == "Scaled(Circulant)"
    assert simple.base.c is circulant.c
    assert kinds(simplified(circulant @ circulant)) == "Product(Circulant, Circulant)"


def test_triangles_stay_known():
    assert simplified(diagonal(6) @ TRI @ TRI + TRI).is_lower_triangular
    assert kinds(simplified(TRI)) == "Dense"


def test_composing_applies_the_free_rules():
    assert kinds(lo.Pad(3, 5) @ lo.Pad(5, 3)) == "Identity"
    assert kinds((2 * AXES) @ lo.Identity(6) @ (3 * AXES.T)) == "Scaled(Identity)"
    assert (
        kinds(KRON @ lo.Permute.random(6, seed=3) @ lo.Permute.random(6, seed=3).T @ BIG)
        == "Product(Kronecker(Dense, Dense), Dense)"
    )
    assert kinds((AXES @ BIG) @ (BIG @ AXES)) == "Product(PermuteAxes, Dense, Dense, PermuteAxes)"


def test_a_number_goes_where_few_numbers_pass():
    operator = 3 * (lo.dense(100, 2) @ lo.dense(2, 50))  # symbolic, so that it cannot be folded into a matrix
    assert kinds(simplified(operator)) == "Product(Dense, Scaled(Dense))"
    assert lo.simplify(operator).flops(batch=10) == 10 * (2 * 300 + 2)
    gain = lo.Scaled(operator.base, 1, lo.spec())
    assert [leaf.shape for _, leaf in lo.simplify(gain).named_leaves()] == [(100, 2), (2, 50), ()]


# ---------------------------------------------------------------- what is promised


def test_steps_print_as_a_table():
    simple, steps = lo.simplify(2 * (lo.Diagonal(np.ones(3)) @ lo.Dense(np.ones((3, 2)))), return_steps=True)
    assert isinstance(steps, tuple)
    assert [step.rule for step in steps] == ["multiply out", "reduce(Scaled)"]
    assert steps[0].before == "Diagonal(3×3) · Dense(3×2)"
    assert steps[0].after == "Dense(3×2)"
    assert (steps[0].cost_before.num_params, steps[0].cost_after.num_params) == (9, 6)
    lines = str(steps).split("\n")
    assert len(lines) == 4
    assert "6 → 6" in lines[2]
    assert "9 → 6" in lines[2]
    with pytest.raises(AttributeError):
        steps[0].rule = "other"
    assert pickle.loads(pickle.dumps(steps)) == steps
    assert str(lo.simplify(simple, return_steps=True)[1]).split("\n")[0].startswith("rule")


def test_what_is_known_stays_known():
    tall = dense(9, 2)
    gram = simplified(tall.H @ tall)
    assert kinds(gram) == "Dense"
    assert gram.is_positive_semidefinite
    lower = lo.assume(BIG, lo.Tag.LOWER_TRIANGULAR)
    assert simplified(lower @ (2 * lower)).is_lower_triangular


def test_backends_dtypes_and_devices_stay():
    for dtype in ("float32", "float64", "complex64", "bfloat16"):
        operator = (2 * lo.Dense(lo.spec(3, 3)) @ lo.Diagonal(lo.spec(3)) + 0.5 * lo.Identity(3)).init(
            0, "torch", dtype=dtype
        )
        simple = simplified(operator)
        assert kinds(simple) == "Dense"
        assert simple.dtype == getattr(torch, dtype)
    mixed = lo.Diagonal(np.ones(3)) @ lo.Dense(np.ones((3, 3), np.float32))
    assert simplified(mixed) is mixed  # as one float64 matrix it would be twice the bytes
    narrow = lo.Dense(np.full((2, 2), 100, np.int8))
    assert np.array_equal(simplified(narrow @ narrow) @ np.ones(2), np.full(2, 40_000.0))


def test_torch_indices():
    permute, diagonal = lo.Permute(torch.tensor([2, 0, 1])), lo.Diagonal(torch.arange(3.0))
    simple = simplified(permute @ diagonal @ permute.T)
    assert simple.diagonal.tolist() == [2, 0, 1]
    assert kinds(simplified(permute @ lo.Permute.axes((3, 1), (1, 0)) @ lo.Dense(torch.eye(3)))) == "Dense"
    assert kinds(simplified(permute @ lo.Permute([1, 2, 0]))) == "Identity"
    # indices of two backends stay two
    assert kinds(simplified(permute @ lo.Permute([1, 0, 2]))) == "Product(Permute, Permute)"


def test_zero_sizes():
    for operator in (
        dense(0, 3) @ dense(3, 0),
        lo.BlockDiag(array(0, 2, 2)) @ lo.BlockDiag(array(0, 2, 2)),
        lo.kron(array(0, 2), array(2, 3)) @ lo.kron(array(2, 0), array(3, 1)),
        diagonal(0) ** 2,
        lo.LowRank(array(3, 0), array(0, 4)) + lo.LowRank(array(3, 0), array(0, 4)),
        lo.Permute.axes((0, 2), (1, 0)) @ lo.Permute.axes((2, 0), (1, 0)),
        lo.Pad(0, 3) @ lo.Pad(3, 0),
        2 * lo.BlockDiag(array(2, 0, 3)),
    ):
        assert np.array_equal(np.asarray(simplified(operator)), np.asarray(operator))


def test_gradients_flow_through():
    weight = torch.ones(3, 3, dtype=torch.float64, requires_grad=True)
    (
        lo.simplify(2 * lo.Dense(weight) @ lo.Diagonal(torch.arange(3.0, dtype=torch.float64)))
        @ torch.ones(3, dtype=torch.float64)
    ).sum().backward()
    assert torch.equal(weight.grad, 2 * torch.arange(3.0, dtype=torch.float64).expand(3, 3))


def test_inside_jit():
    operator = (2 * (diagonal(3) @ lo.kron(array(1, 1), array(3, 3)) + lo.Identity(3))).to(backend="jax")
    x = jnp.ones(3)

    @jax.jit
    def run(A, x):
        simple = lo.simplify(A)
        assert kinds(simple) == "Dense"
        return simple @ x

    assert_close(as_numpy(run(operator, x)), np.asarray(operator.to(backend="numpy")) @ np.ones(3))


def test_shared_parts_stay_shared():
    part = dense(9, 2) @ (2 * dense(2, 9))
    simple = simplified(lo.kron(part, part))
    assert simple.factors[0] is simple.factors[1]


def test_only_operators():
    with pytest.raises(TypeError, match=r"simplify: expected an operator, got ndarray"):
        lo.simplify(np.eye(3))


# ---------------------------------------------------------------- rules of users


def flip_class():
    """A class of operators of its own, so that rules registered for it meet no other test."""

    @lo.declare
    class Flip(lo.LinearOperator):
        """Reverses a vector, at a price."""

        size: int
        price: int = 1
        side: str = "left"

        @property
        def shape(self):
            return self.size, self.size

        def _columns(self, x):
            return backends.gather(flat(x), np.arange(self.size)[::-1].copy())

        def _transpose(self):
            return self

        def _lower(self, batch):
            return (Step("flip", "", other_flops=self.price * self.size * batch),)

    return Flip


def test_a_rule_that_composing_applies():
    Flip = flip_class()

    @lo.rules.meet.dispatch
    def _flips(a: Flip, b: Flip):
        return lo.Identity(a.size)

    assert kinds(Flip(3) @ Flip(3)) == "Identity"
    assert kinds(lo.dense(2, 3) @ Flip(3) @ (Flip(3) @ lo.dense(3, 4))) == "Product(Dense, Dense)"
    assert kinds(simplified(Flip(3) @ lo.Permute([1, 2, 0]) @ Flip(3))) == "Product(Flip, Permute, Flip)"


def test_rules_that_simplify_applies():
    Flip = flip_class()

    @lo.rules.merge.dispatch
    def _flips(a: Flip, b: Flip):
        return lo.Identity(a.size)

    @lo.rules.commute.dispatch
    def _flip_diagonal(a: Flip, b: lo.Diagonal):
        return lo.Diagonal(a @ b.diagonal), a

    @lo.rules.join.dispatch
    def _flip_and_identity(a: Flip, b: lo.Identity):
        return 2 * b if a.size == 1 else None

    assert kinds(Flip(3) @ Flip(3)) == "Product(Flip, Flip)"
    assert kinds(simplified(Flip(3) @ Flip(3))) == "Identity"
    operator = Flip(3) @ lo.Diagonal(np.arange(3.0)) @ Flip(3)
    simple, steps = lo.simplify(operator, return_steps=True)
    assert np.array_equal(simple.diagonal, [2, 1, 0])
    assert [step.rule for step in steps] == ["commute(Flip, Diagonal)"]
    assert kinds(simplified(Flip(3) + Flip(3))) == "Scaled(Flip)"
    assert kinds(simplified(Flip(3) + lo.Identity(3))) == "Sum(Flip, Identity)"
    assert kinds(simplified(Flip(1) + lo.Identity(1))) == "Scaled(Identity)"


@pytest.mark.parametrize("name", ["cheaper", "dearer", "as dear", "another shape", "another dtype", "something else"])
def test_the_guard_holds_for_rules_of_users(name):
    Flip = flip_class()

    @lo.rules.reduce.dispatch
    def _priced(a: Flip):
        if name == "something else":
            return None
        return {
            "cheaper": Flip(a.size, a.price - 1) if a.price else a,
            "dearer": Flip(a.size, a.price + 1),
            "as dear": Flip(a.size, a.price, "right" if a.side == "left" else "left"),  # back and forth
            "another shape": lo.Identity(a.size - 1),
            "another dtype": lo.Scaled(lo.Identity(a.size), 1j),
        }[name]

    simple = simplified(lo.kron(Flip(2, 5), Flip(3, 5)) @ lo.Diagonal(array(6)))
    assert all(flip.price == (0 if name == "cheaper" else 5) for _, flip in simple._nodes() if isinstance(flip, Flip))


def test_computing_rules_are_not_asked_about_symbolic_operators():
    Flip = flip_class()

    @lo.rules.merge.dispatch
    def _flip_dense(a: Flip, b: lo.Dense):
        raise AssertionError("asked")

    @lo.rules.reduce.dispatch
    def _new_leaves(a: Flip):
        return lo.Dense(lo.spec(*a.shape))

    symbolic = Flip(3) @ lo.dense(3, 3)
    assert lo.simplify(symbolic) is symbolic
    with pytest.raises(AssertionError, match="asked"):
        lo.simplify(symbolic.init(seed=0))
