"""Constructors that make an operator of another class: under copies, pytrees, compilers and types."""

import copy
import pickle
from dataclasses import replace

import jax
import numpy as np
import pytest
import torch

import linops as lo
from linops.encoding import from_json

BLOCKS = np.arange(12.0).reshape(2, 2, 3)
PARTS = {
    "BlockDiag": lambda: lo.BlockDiag(BLOCKS),
    "Permute": lambda: lo.Permute([2, 0, 1]),
    "PermuteAxes": lambda: lo.Permute.axes([2, 3], [1, 0]),
    "Sliced": lambda: lo.BlockDiag(BLOCKS)[1:, ::2],
    "Selected": lambda: lo.BlockDiag(BLOCKS)[1:, [4, 0, 0]],
    "DirectSum": lambda: lo.BlockDiag([BLOCKS[0], lo.Identity(2)]),
}


@pytest.mark.parametrize("kind", PARTS)
def test_copies_keep_the_class(kind):
    A = PARTS[kind]().to("jax", "float32")
    leaves, tree = jax.tree.flatten(A)
    copies = [
        copy.copy(A),
        copy.deepcopy(A),
        pickle.loads(pickle.dumps(A)),
        replace(A, assumed=lo.Tag.NONE),
        A.with_leaves([leaf for _, leaf in A.named_leaves()]),
        jax.tree.unflatten(tree, leaves),
        A.T.T,
    ]
    for one in [A, *copies]:
        assert type(one).__name__ == kind
        np.testing.assert_array_equal(one.to_dense(), A.to_dense())


def test_constructors_inside_compiled_functions():
    @torch.compile(fullgraph=True, backend="eager")
    def products(blocks, matrix, x):
        A, B = lo.BlockDiag(blocks), lo.BlockDiag([matrix, lo.Dense(matrix)])
        return A @ x, A.T @ (A @ x), B @ x, type(B) is lo.DirectSum

    blocks, x = PARTS["BlockDiag"]().to("torch").blocks, torch.ones(6, 2, dtype=torch.float64)
    one, two, three, summed = products(blocks, blocks[0], x)
    expected = torch.block_diag(*blocks)
    torch.testing.assert_close((one, two), (expected @ x, expected.T @ expected @ x))
    torch.testing.assert_close(three, torch.block_diag(blocks[0], blocks[0]) @ x)
    assert summed


def test_a_direct_sum_is_a_list():
    with pytest.raises(TypeError, match=r"DirectSum: expected a list.*lo\.BlockDiag takes equal blocks"):
        lo.DirectSum(BLOCKS)


def test_structures_that_name_the_constructor():
    dense = '{"class": "Dense", "matrix": {"shape": [2, 3], "dtype": "float32"}}'
    blocks = '{"class": "BlockDiag", "blocks": [{"operator": 0}, {"operator": 1}]}'
    text = f'{{"format": "linops.structure", "version": 1, "operators": [{dense}, {dense}, {blocks}]}}'
    assert type(from_json(text).operator) is lo.DirectSum


def test_parts_of_parts():
    matrix = np.arange(48.0).reshape(6, 8)
    A = lo.Dense(matrix)
    keys = [np.s_[1:5, ::2], np.s_[::3, [5, 0, 0]], np.s_[[4, 0, 0], 1:], np.s_[[3, 1], [7, 2]], np.s_[:, [1, 0]]]
    kinds = ["Sliced(Dense)", "Selected(Sliced)", "Selected(Sliced)", "Selected(Dense)", "Selected(Dense)"]
    for key, kind in zip(keys, kinds):
        part, expected = A[key], matrix[np.ix_(np.arange(6)[key[0]], np.arange(8)[key[1]])]
        assert f"{type(part).__name__}({type(part.base).__name__})" == kind
        for inner in (np.s_[1:, :], np.s_[:, ::-1], np.s_[[1, 0, 0], 1:]):
            again = expected[inner]
            found = part[inner]
            np.testing.assert_array_equal(found.to_dense(), again)
            assert sum(type(node) in (lo.Sliced, lo.Selected) for _, node in found._nodes()) <= 2
            known = lo.assume(part, lo.Tag.LOWER_TRIANGULAR)[inner]
            np.testing.assert_array_equal(known.to_dense(), again)
